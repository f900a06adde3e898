"""Records of version 1, which have one evaluation, with its files in the run's own folder.

Such a run is read like any other with one evaluation, whose files do not move when the record is upgraded.
"""

from collections.abc import Mapping
from typing import Any

from medqa_finetune.config.folder_names import SEPARATOR
from medqa_finetune.config.groups import values_of_profile
from medqa_finetune.config.identity import EVALUATE, default_settings, evaluation_identity, evaluation_name, file_label
from medqa_finetune.record.evaluation_dir import RESULTS, EvaluationDir
from medqa_finetune.record.run_dir import OF_AN_EVALUATION, RunDir
from medqa_finetune.record.schema import SCHEMA_VERSION, Evaluation, Record


def first_evaluation(run: RunDir, record: Record) -> Evaluation | None:
    """Return the evaluation in a record of version 1; None where none had started."""
    settings = record.config.get(EVALUATE)
    own = EvaluationDir(run.path, in_run=True)
    begun = record.evaluation is not None or bool(record.zero_shot) or own.predictions_path.is_file()
    if not begun or not isinstance(settings, dict):
        return None
    text, path, sha256 = (settings.get(key) for key in ("text", "text_path", "text_sha256"))
    label = None if text is None else file_label(str(text), str(path) if path and sha256 else None, str(sha256))
    return Evaluation(
        name=evaluation_name(record.config, first_defaults(record), label),
        identity=evaluation_identity(record.config),
        status=record.status,
        settings=settings,
        failure=record.failure,
        result=record.evaluation,
        exams=record.zero_shot,
        environment=record.environment,
        process=record.process,
        files={name: record.files[name] for name in record.files if name in OF_AN_EVALUATION and name != RESULTS},
        started=record.started,
        finished=record.finished,
    )


def first_defaults(record: Record) -> dict[str, Any]:
    """Return the default settings of a run's evaluations, also for a record of version 1, which does not have them.

    For version 1, the settings in the run's name differ from the defaults; their defaults come from the profile in the
    command, or the schema.
    """
    if record.evaluation_defaults is not None:
        return record.evaluation_defaults
    settings: Mapping[str, object] = record.config.get(EVALUATE) or {}
    command = record.environment.command if record.environment is not None else []
    profiles = [word.removeprefix("profile=") for word in command if word.startswith("profile=")]
    usual = default_settings(EVALUATE) | values_of_profile(profiles[-1] if profiles else None).get(EVALUATE, {})
    named = {part.partition("=")[0].removeprefix(f"{EVALUATE}.") for part in record.name.split(SEPARATOR)[1:]}
    return {key: usual.get(key) if key in named else value for key, value in settings.items() if key != "text_sha256"}


def upgrade(run: RunDir, record: Record, defaults: Mapping[str, object] | None = None) -> Record:
    """Write a record of version 1 in the current version, with a separate record of its evaluation, and return it.

    The caller holds the run's lock.

    Args:
        run: The run.
        record: Its record.
        defaults: Default settings of the section `evaluate`; None to derive them from the record.
    """
    if record.schema_version == SCHEMA_VERSION:
        return record
    evaluation = first_evaluation(run, record)
    if evaluation is not None:
        # Written first: after a kill before the next write, the record still has version 1, and this runs again.
        EvaluationDir(run.path, in_run=True).write(evaluation)
    return run.write(
        record.updated(
            schema_version=SCHEMA_VERSION,
            evaluation_name=evaluation.name if evaluation is not None and evaluation.result is not None else None,
            evaluation_defaults=first_defaults(record) if defaults is None else dict(defaults),
            files={name: stamp for name, stamp in record.files.items() if name not in OF_AN_EVALUATION},
        )
    )
