"""The evaluations of a run, wherever they lie; and a cell's folder: a run seen by one of them.

Version 1 of the record held one evaluation, whose files lie in the run's own folder. It is read as an evaluation like
any other, and stays where it is when the record is written anew (`upgrade`).
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medqa_finetune.config.identity import (
    DEFAULT_EVALUATION,
    EVALUATE,
    default_settings,
    evaluation_identity,
    evaluation_name,
    file_label,
)
from medqa_finetune.config.options import values_of_profile
from medqa_finetune.errors import DataError, MedQAError
from medqa_finetune.record.evaluation_dir import RESULTS, EvaluationDir, evaluations_below
from medqa_finetune.record.locks import LOCK_SECONDS
from medqa_finetune.record.run_dir import OF_AN_EVALUATION, RunDir
from medqa_finetune.record.schema import SCHEMA_VERSION, Evaluation, Record

SEPARATOR = "__"


class Held(NamedTuple):
    """An evaluation that a run holds.

    Attributes:
        evaluation: What its record says; None where that cannot be read, or went away just now.
        error: Why it cannot be read; None where it can.
    """

    folder: EvaluationDir
    evaluation: Evaluation | None
    error: DataError | None = None


def evaluations_of(run: RunDir, record: Record) -> list[Held]:
    """Return the evaluations of a run, each read once: the one whose scores the record holds first, then by name."""
    own = EvaluationDir(run.path, in_run=True)
    has_own = _first_evaluation(run, record) is not None if record.schema_version == 1 else own.record_path.is_file()
    folders = [*([own] if has_own else []), *evaluations_below(run.evaluations_path)]
    found = [_held(run, record, folder) for folder in folders]
    return sorted(found, key=lambda held: (held.evaluation and held.evaluation.name) != record.evaluation_name)


def _held(run: RunDir, record: Record, folder: EvaluationDir) -> Held:
    try:
        return Held(folder, read_evaluation(run, record, folder))
    except DataError as error:
        return Held(folder, None, error)


def evaluation_dirs(run: RunDir, record: Record) -> list[EvaluationDir]:
    """Return the folders of a run's evaluations, in the order of `evaluations_of`."""
    return [held.folder for held in evaluations_of(run, record)]


def read_evaluation(run: RunDir, record: Record, folder: EvaluationDir) -> Evaluation | None:
    """Return what is known of one evaluation; None where it has not begun.

    Raises:
        DataError: its record is torn, of another schema, or holds a value of the wrong type; says where.
    """
    if folder.in_run and record.schema_version == 1:
        return _first_evaluation(run, record)
    return folder.read()


def find_evaluation(run: RunDir, record: Record | None, identity: str, name: str) -> EvaluationDir:
    """Return where an evaluation of a run lies or will lie; one of another identity never shares its folder.

    Args:
        run: The run.
        record: Its record; None where it has none yet.
        identity: Of the evaluation.
        name: What its folder is called where it has none yet.
    """
    taken = False
    for folder, evaluation, error in [] if record is None else evaluations_of(run, record):
        # Whoever starts the evaluation of that name is told what is wrong with its record.
        if error is not None and folder.path.name == name:
            return folder
        if evaluation is not None and evaluation.identity == identity:
            return folder
        taken = taken or (folder.path.name == name and not folder.in_run)
    return EvaluationDir(run.evaluations_path / (f"{name}{SEPARATOR}{identity[:6]}" if taken else name))


def find_evaluation_named(run: RunDir, name: str) -> EvaluationDir:
    """Return where the evaluation lies, or will lie, that a cell was given the name of."""
    with contextlib.suppress(MedQAError):
        record = run.read()
        for held in [] if record is None else evaluations_of(run, record):
            if held.evaluation is not None and held.evaluation.name == name:
                return held.folder
    return EvaluationDir(run.evaluations_path / name)


def _first_evaluation(run: RunDir, record: Record) -> Evaluation | None:
    """Return the evaluation that a record of version 1 holds; None where none had begun."""
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
    """Return the default settings of an evaluation for a record that does not hold them.

    In version 1, the run's name says which settings of its evaluation are no defaults; of these, the profile that was
    typed gives the default, or the schema.
    """
    if record.evaluation_defaults is not None:
        return record.evaluation_defaults
    settings: Mapping[str, Any] = record.config.get(EVALUATE) or {}
    command = record.environment.command if record.environment is not None else []
    profiles = [word.removeprefix("profile=") for word in command if word.startswith("profile=")]
    usual = default_settings(EVALUATE) | values_of_profile(profiles[-1] if profiles else None).get(EVALUATE, {})
    named = {part.partition("=")[0].removeprefix(f"{EVALUATE}.") for part in record.name.split(SEPARATOR)[1:]}
    return {key: usual.get(key) if key in named else value for key, value in settings.items() if key != "text_sha256"}


def upgrade(run: RunDir, record: Record, defaults: Mapping[str, Any] | None = None) -> Record:
    """Write a record of version 1 as one of this version, and return it; its evaluation gets a record of its own.

    Whoever calls holds the run's lock.

    Args:
        run: The run.
        record: Its record.
        defaults: The section `evaluate` where nobody changes a setting; None for what the record says of it.
    """
    if record.schema_version == SCHEMA_VERSION:
        return record
    evaluation = _first_evaluation(run, record)
    if evaluation is not None:
        # First, so that a kill between the two leaves a record of version 1, from which it is made again.
        EvaluationDir(run.path, in_run=True).write(evaluation)
    return run.write(
        record.updated(
            schema_version=SCHEMA_VERSION,
            evaluation_name=evaluation.name if evaluation is not None and evaluation.result is not None else None,
            evaluation_defaults=first_defaults(record) if defaults is None else dict(defaults),
            files={name: stamp for name, stamp in record.files.items() if name not in OF_AN_EVALUATION},
        )
    )


def row_name(run_name: str, evaluation: Evaluation | None) -> str:
    """Return what a table calls one evaluation of a run: the run's name, and what differs from the default settings.

    In version 1 the run's name said that itself.
    """
    first, *parts = run_name.split(SEPARATOR)
    kept = [part for part in parts if not part.startswith((f"{EVALUATE}.", "text="))]
    if evaluation is None:
        return run_name
    return SEPARATOR.join([first, *kept, *evaluation_parts(evaluation.name)])


def evaluation_parts(name: str) -> list[str]:
    """Return what an evaluation's name says of it, as settings are typed; nothing of the default one."""
    return [] if name in ("", DEFAULT_EVALUATION) else [f"{EVALUATE}.{part}" for part in name.split(SEPARATOR)]


@dataclasses.dataclass(frozen=True)
class CellDir:
    """What one cell of a matrix leaves behind: a run, and one of its evaluations.

    Attributes:
        evaluation: None for a program that knows no evaluations.
    """

    run: RunDir
    evaluation: EvaluationDir | None = None

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.run.path

    @property
    def record_path(self) -> Path:
        """Record of the run."""
        return self.run.record_path

    @property
    def log_path(self) -> Path:
        """What the run printed."""
        return self.run.log_path

    def read(self) -> Record | None:
        """Return the run's record as the evaluation sees it; None where there is none.

        Raises:
            DataError: a record is torn, of another schema, or holds a value of the wrong type; says where.
        """
        record = self.run.read()
        if record is None or self.evaluation is None:
            return record
        return record.seen_by(read_evaluation(self.run, record, self.evaluation))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold run and evaluation for this process while the block runs.

        Raises:
            RunError: another process holds one of them.
        """
        with contextlib.ExitStack() as held:
            held.enter_context(self.run.lock(LOCK_SECONDS))
            if self.evaluation is not None:
                held.enter_context(self.evaluation.lock(LOCK_SECONDS))
            yield

    def is_locked(self) -> bool:
        """Return whether a process trains the run, or works on this evaluation of it, now."""
        return self.run.is_locked() or (self.evaluation is not None and self.evaluation.is_locked())

    def write_ending(self, ended: Record) -> None:
        """Write how a process ended that could not say it itself: `status`, `failure` and `finished` of a record.

        Once the weights are there, it is the evaluation that has ended; the run's record says the same until one of its
        evaluations is done.
        """
        ending = {"status": ended.status, "failure": ended.failure, "finished": ended.finished}
        record = self.run.read()
        if record is None:
            self.run.write(ended)
            return
        record = upgrade(self.run, record)
        if record.is_trained and self.evaluation is not None and self.evaluation.read() is not None:
            self.evaluation.update(**ending)
        if record.status != "done":
            self.run.write(record.updated(**ending))
