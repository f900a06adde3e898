"""The row of a run in a tracker, made from the run's records."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from medqa_finetune.config.folder_names import SEPARATOR, is_shortened
from medqa_finetune.config.identity import (
    DEFAULT_EVALUATION,
    EVALUATE,
    default_settings,
    evaluation_identity,
    flatten,
    training_identity,
)
from medqa_finetune.config.labels import as_typed, setting_label
from medqa_finetune.config.size_names import size_name
from medqa_finetune.evaluation.metric_registry import all_scores
from medqa_finetune.evaluation.metrics.base import Prominence
from medqa_finetune.memory import GIB
from medqa_finetune.methods.registry import described
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluations_of, read_evaluation, row_name
from medqa_finetune.record.files import sha256_of_text
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, Record
from medqa_finetune.run_state.resume import own_record
from medqa_finetune.tracking.base import SEED, Row, Value
from medqa_finetune.tracking.trackers import Trackers

SECTIONS = ("method", "data", "corpus", "model", "train", EVALUATE)
# Settings that a run has only in some cases; every row has them.
OCCASIONAL = ("corpus.effective_parts", "evaluate.text_sha256")
# What `cell.*` or a measured size says instead, and where files of this machine are written.
LEFT_OUT = ("method.name", "data.name", "data.scale", "data.train_size", "data.effective_train_size",
            "data.effective_validation_size", "data.effective_test_size", "corpus.name", "model.name", "outputs",
            "study", "run_name", "evaluation_name", "overwrite", "tracker.name", "tracker.report_to")  # fmt: skip
# In place of a value that is null, and of one that the run's method does not read.
UNSET, UNUSED = "unset", "unused"
# Settings that are swept, mostly; others have columns that are shown where they differ.
OF_TRAINING_KEYS = ("method.", "train.", "precision")
SEED_IN_NAME = re.compile(rf"{SEPARATOR}seed=\d+")
# Tags of results, which TensorBoard sorts, and shows the first five of: the scores of verdicts, of tables, and others.
SCORES = {Prominence.HEADLINE: "scores", Prominence.MAIN: "scores_main", Prominence.DETAIL: "scores_other"}
TESTING, TRAINING = "testing", "training"
RATES = ("empty_rate", "truncated_rate", "timed_out_rate", "repetition_rate", "unclosed_rate", "prompt_cut_rate",
         "reference_cut_rate")  # fmt: skip
OF_TRAINING = ("seconds", "samples_per_second", "tokens_per_second", "steps", "epochs", "tokens", "truncated_rate",
               "model_flops_utilization", "final_train_loss", "best_validation_loss", "best_step")  # fmt: skip
OF_TESTING = ("seconds", "samples_per_second", "tokens_per_second", *RATES)
PEAKS = ("peak_vram_bytes", "peak_rss_bytes")


def row_of(run: RunDir, folder: EvaluationDir, outputs: Path) -> Row:
    """Return the row of a run with one of its evaluations, as their records are now.

    Args:
        run: The run.
        folder: Folder of the evaluation, which may not have begun.
        outputs: Root of all run folders.
    """
    record = own_record(run)
    evaluation = read_evaluation(run, record, folder)
    seen = record.seen_by(evaluation)
    name = DEFAULT_EVALUATION if evaluation is None else evaluation.name
    is_own = _first(run, record) in (None, name)
    begun = f"{run.path.resolve()} {record.identity} {record.started}"
    return Row(
        id=sha256_of_text(begun if is_own else f"{begun} {name}")[:16],
        name=run.path.name if is_own else f"{run.path.name} [{name}]",
        cell=_cell(run, seen, evaluation),
        evaluation=name,
        folder=run.path,
        outputs=outputs,
        settings={**settings_of_row(seen, name), "cell.settings": _own_settings(run.path.name, record)},
        results=dict(_results(seen)),
        step=0 if seen.train is None else seen.train.steps,
    )


def _first(run: RunDir, record: Record) -> str | None:
    """Return the name of the evaluation that was begun first, which the training's row has; None before that."""
    found = [held.evaluation for held in evaluations_of(run, record) if held.evaluation is not None]
    begun = [(evaluation.started, evaluation.name) for evaluation in found if evaluation.started is not None]
    return min(begun)[1] if begun else None


def _cell(run: RunDir, record: Record, evaluation: Evaluation | None) -> str:
    """Return a name that is equal for runs of a study that differ in the seed alone, and for no others."""
    settings = {**record.config, SEED: 0}
    digest = sha256_of_text(training_identity(settings) + evaluation_identity(settings))[:6]
    study = str(record.config.get("study") or "")
    name = SEED_IN_NAME.sub("", row_name(run.path.name, evaluation))
    return f"{study}{'/' if study else ''}{name} #{digest}"


def _own_settings(run_name: str, record: Record) -> str:
    """Return what a run sets for its method and training, by short names: `lr 1e-4 rank 8`.

    Its name has them; of a name that was too long, the run's command. A column of its own, since TensorBoard shows the
    first few that differ, by the alphabet, and the beginning of each.
    """
    named = run_name.split(SEPARATOR)[1:]
    if is_shortened(run_name) and record.environment is not None:
        named = [part.lstrip("+") for part in record.environment.command]
    parts = (part.partition("=") for part in named)
    shown = [f"{setting_label(key)} {as_typed(value)}" for key, _, value in parts if key.startswith(OF_TRAINING_KEYS)]
    return " ".join(shown) or UNSET


def settings_of_row(record: Record, evaluation: str) -> dict[str, Value]:
    """Return settings, corpus, sizes and device of a run: the same keys for every run, no value None.

    Args:
        record: Record of the run, with the settings of one of its evaluations.
        evaluation: Name of the evaluation.
    """
    method, config = described(record.setting("method", "trains")), record.config
    known: dict[str, Any] = {
        f"{part}.{key}": value for part in SECTIONS for key, value in default_settings(part).items()
    }
    known |= dict.fromkeys(OCCASIONAL) | flatten(config) | _settled(record)
    if not method.trains_weights:
        of_training = (key for key in known if key.startswith(("method.", "train.")) and key != "method.trains")
        known |= {key: UNUSED for key in of_training if not method.uses(key)}
    manifest, parameters, environment = record.data_manifest, record.parameters, record.environment
    known |= {
        "cell.method": record.method,
        "cell.data": record.data if manifest is None else size_name(record.data, manifest.train.n),
        "cell.train_size": 0 if manifest is None or not method.uses_training_data else manifest.train.n,
        "cell.model": record.model,
        "cell.corpus": record.setting("corpus", "name"),
        "cell.study": config.get("study") or None,
        "cell.evaluation": evaluation,
        "data.validation_size": None if manifest is None else manifest.validation.n,
        "data.test_size": None if manifest is None else manifest.test.n,
        "data.test_sha256": None if manifest is None else manifest.test.sha256,
        "model.parameters": None if parameters is None else parameters.total,
        "model.trainable_parameters": None if parameters is None else parameters.trainable,
        "device": None if environment is None else environment.device,
        "precision": None if environment is None else environment.precision,
    }
    return {key: _plain(value) for key, value in sorted(known.items()) if key not in LEFT_OUT}


def _settled(record: Record) -> dict[str, Any]:
    """Return what settings that are `auto` came to."""
    fitted = record.fitted
    if fitted is None:
        return {}
    return {"train.micro_batch": fitted.micro_batch, "train.gradient_checkpointing": fitted.gradient_checkpointing}


def _plain(value: object) -> Value:
    if value is None or value == []:
        return UNSET
    if isinstance(value, bool | int | float | str):
        return value
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _results(record: Record) -> Iterator[tuple[str, float]]:
    """Yield scores and costs by tag; what was not measured is left out."""
    found = record.evaluation
    if found is None:
        return
    for name, score in found.scores.items():
        info = all_scores().get(name)
        yield f"{SCORES[Prominence.DETAIL if info is None else info.prominence]}/{name}", score.value
    yield from ((f"{SCORES[Prominence.MAIN]}/{name}", score.value) for name, score in record.zero_shot.items())
    for tag, part, names in ((TESTING, found, OF_TESTING), (TRAINING, record.train, OF_TRAINING)):
        if part is None:
            continue
        yield from ((f"{tag}/{name}", getattr(part, name)) for name in names if getattr(part, name) is not None)
        peaks: Mapping[str, int | None] = {name: getattr(part, name, None) for name in PEAKS}
        for name, count in peaks.items():
            if count is not None:
                yield f"{tag}/{name.removesuffix('_bytes')}_gib", count / GIB


def report_again(run: RunDir, name: str | None) -> None:
    """Tell the trackers of a run the scores of its evaluations, which were computed again.

    Args:
        run: The run.
        name: Name of an evaluation; None for all.
    """
    record = own_record(run)
    names = record.setting("tracker", "report_to") or []
    study = Path(str(record.config.get("study") or ""))
    outputs = run.path.absolute().parents[len(study.parts)]
    for held in evaluations_of(run, record) if names else ():
        evaluation = held.evaluation
        if evaluation is not None and evaluation.status == "done" and name in (None, evaluation.name):
            with Trackers(names, partial(row_of, run, held.folder, outputs)) as trackers:
                trackers.report()
