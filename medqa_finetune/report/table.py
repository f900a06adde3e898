"""The table of all runs: one row per training and evaluation, blank where nothing was measured."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medqa_finetune.config.identity import SEPARATOR
from medqa_finetune.errors import MedQAError
from medqa_finetune.evaluation.metric_registry import shipped_scores
from medqa_finetune.evaluation.metrics.base import Prominence
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluation_parts, evaluations_of, row_name
from medqa_finetune.record.files import write_bytes
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, Record
from medqa_finetune.report.cell_names import NamedRun, cell_names, train_size_of
from medqa_finetune.report.scores import (
    SIGNATURE_SEPARATOR,
    benchmark_column,
    is_benchmark,
    score_columns,
    scores_of,
)

OF_TEXT = tuple(score.name for score in shipped_scores() if score.running_text)
DETAILS = tuple(score.name for score in shipped_scores() if score.prominence is Prominence.DETAIL)
SCORES = tuple(score_columns([]))
RATES = ("empty_rate", "truncated_rate", "timed_out_rate", "repetition_rate")
COLUMNS = (
    "name", "status", "method", "data", "train_size", "model", "seed",
    *(score for score in SCORES if score not in (*DETAILS, *OF_TEXT)), "peak_vram_gib", "peak_rss_gib",
    "train_seconds", "train_samples_per_second", "train_tokens_per_second", "eval_samples_per_second",
    "trainable_parameters", "n_test", "signature", "model_flops_utilization", "reason", "study", "corpus", "device",
    "test_sha256", "identity", *OF_TEXT, "eval_tokens_per_second", *DETAILS, *RATES,
    "task", "cell", "evaluation", "evaluation_identity",
)  # fmt: skip
WHOLE_NUMBERS = ("train_size", "seed", "trainable_parameters", "n_test")
NUMBERS = (
    *SCORES, "peak_vram_gib", "peak_rss_gib", "train_seconds", "train_samples_per_second", "train_tokens_per_second",
    "eval_samples_per_second", "model_flops_utilization", "eval_tokens_per_second", *RATES,
)  # fmt: skip
UNREADABLE = "unreadable"
# Of a row that is being made: no column.
RECORD = "record"

# What a spreadsheet takes for the start of a formula (OWASP "CSV injection", CWE-1236); East Asian versions of Excel
# take the full-width forms as well.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")
BYTES_PER_GIB = 2**30


def results_table(runs: Iterable[RunDir], root: Path | None = None) -> pd.DataFrame:
    """Return one row per evaluation of every run; NaN or None where nothing was measured, never 0.

    The row of a run's default evaluation has the run's name; others have `__evaluate.key=value` behind it, for what
    differs from the default (`record.evaluations.row_name`). A run that no evaluation has begun for has one row.

    The columns are `COLUMNS`, one for every other score that a run has, and one for every score of a benchmark,
    `<name>/<metric>`.

    `train_size` counts pairs (or blocks of running text), and is 0 for the untuned base; scores are as their metrics
    describe them, the perplexity of running text in a column of its own; memory is in GiB (2**30 bytes); `signature`
    holds `score=signature` of every score, as `scores.signatures` reads it back; `task` is `qa` or `text`; `cell` names
    the cell of a done run (`cell_names`).
    A record that cannot be read gives a row with the status `unreadable` and the reason.

    Args:
        runs: The runs, in any order. The table has the untuned base first, then one method after the other, each by
            training size, seed, study and name.
        root: Folder that `study`, the path to a run's parent, is relative to; the deepest one that holds all runs if
            None.
    """
    found = list(runs)
    base = root.absolute() if root is not None else _common_parent(found)
    rows = [{key: unicode_name(value) for key, value in row.items()} for run in found for row in _rows(run, base)]
    rows.sort(key=_order)
    done = [row for row in rows if row["status"] == "done"]
    names = cell_names([NamedRun(row["study"], row["name"], row[RECORD]) for row in done])
    for row, name in zip(done, names, strict=True):
        row["cell"] = name
    others = [score for score in score_columns(row.get("signature") for row in rows) if score not in SCORES]
    benchmarks = sorted({key for row in rows for key in row if is_benchmark(key)})
    columns = (*COLUMNS, *others, *benchmarks)
    frame = pd.DataFrame({column: pd.Series([row.get(column) for row in rows], dtype=object) for column in columns})
    for column in (*NUMBERS, *others, *benchmarks):
        frame[column] = frame[column].astype("Float64").astype(float)
    for column in WHOLE_NUMBERS:
        frame[column] = frame[column].astype("Int64")
    return frame.where(frame.notna(), None)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV in UTF-8 with a byte-order mark (for Excel), atomically.

    A text or heading that a spreadsheet would run as a formula gets a leading `'`; numbers stay numbers.
    """
    cells = {name: [_defused(cell) for cell in frame[name]] for name in frame}
    safe = pd.DataFrame({_defused(name): pd.Series(column, dtype=object) for name, column in cells.items()})
    write_bytes(path, safe.to_csv(index=False, lineterminator="\n").encode("utf-8-sig"))


def _defused(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    # csv quotes a cell for a line feed, but not for a carriage return, which would end the row in some readers.
    whole = cell.replace("\r\n", "\n").replace("\r", "\n")
    return "'" + whole if cell.startswith(FORMULA_STARTS) else whole


@dataclass(frozen=True)
class Seen:
    """One row's run: its record as an evaluation of it sees it.

    Attributes:
        name: As the table calls it.
        record: The run's record as the evaluation sees it.
        folder: Of the evaluation; None where none has begun.
        evaluation: What its own record holds.
        fault: Why that cannot be read; None where it can.
    """

    name: str
    record: Record
    folder: EvaluationDir | None = None
    evaluation: Evaluation | None = None
    fault: MedQAError | None = None


def seen_runs(run: RunDir) -> Iterator[Seen]:
    """Yield a run once per evaluation of it, the default one first; once where none has begun.

    Raises:
        MedQAError: a record cannot be read.
    """
    record = run.read()
    if record is None:
        return
    begun = False
    for folder, evaluation, error in evaluations_of(run, record):
        begun = begun or evaluation is not None or error is not None
        if error is not None:
            yield Seen(SEPARATOR.join([record.name, *evaluation_parts(folder.path.name)]), record, folder, fault=error)
        elif evaluation is not None:
            yield Seen(row_name(record.name, evaluation), record.seen_by(evaluation), folder, evaluation)
    if not begun:
        yield Seen(record.name, record)


def _rows(run: RunDir, root: Path) -> Iterator[dict[str, Any]]:
    place = {"name": run.path.name, "study": study_of(run.path, root)}
    try:
        seen = list(seen_runs(run))
    except MedQAError as error:
        yield place | {"status": UNREADABLE, "reason": str(error)}
        return
    if not seen:
        yield place | {"status": UNREADABLE, "reason": "the record went away while the table was made"}
    for each in seen:
        if each.fault is not None:
            yield place | {"name": each.name, "status": UNREADABLE, "reason": str(each.fault)}
            continue
        record, evaluation = each.record, each.evaluation
        what = _what(record) | {"name": each.name}
        if evaluation is not None:
            what |= {"evaluation": evaluation.name, "evaluation_identity": evaluation.identity}
        yield place | {RECORD: record} | what | _costs(record) | _outcome(record)


def trains(row: Mapping[Any, Any]) -> bool:
    """Say whether the run of a row trains something, as far as the row says.

    Not so for the untuned base, nor for a done run without training, whose answers were looked up.
    """
    looked_up = row["status"] == "done" and pd.isna(row["train_seconds"])
    return row["train_size"] != 0 and not looked_up


def unicode_name(value: Any) -> Any:
    """Return a text as the table shows it; other values as they are."""
    # A file name may hold bytes that are no text, and JSON half a character; neither can be written as UTF-8.
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def study_of(folder: Path, root: Path) -> str:
    """Return the path from the root to a run's parent, empty where that is the root."""
    parent = folder.absolute().parent
    path = parent.relative_to(root) if parent.is_relative_to(root) else Path()
    return "" if path == Path() else path.as_posix()


def _common_parent(runs: list[RunDir]) -> Path:
    return Path(os.path.commonpath([run.path.absolute().parent for run in runs])) if runs else Path()


def _what(record: Record) -> dict[str, Any]:
    manifest, environment = record.data_manifest, record.environment
    return {
        "name": record.name,
        "status": record.status,
        "method": record.method,
        "data": record.data,
        "train_size": train_size_of(record),
        "model": record.model,
        "seed": record.seed,
        "corpus": record.setting("corpus", "name"),
        "task": record.setting("corpus", "task"),
        "device": environment.device if environment is not None else None,
        "test_sha256": manifest.test.sha256 if manifest is not None else None,
        "identity": record.identity,
    }


def _costs(record: Record) -> dict[str, Any]:
    train, parameters = record.train, record.parameters
    costs: dict[str, Any] = {"trainable_parameters": parameters.trainable if parameters is not None else None}
    if train is not None:
        costs |= {
            "peak_vram_gib": _gib(train.peak_vram_bytes),
            "peak_rss_gib": _gib(train.peak_rss_bytes),
            "train_seconds": train.seconds,
            "train_samples_per_second": train.samples_per_second,
            "train_tokens_per_second": train.tokens_per_second,
            "model_flops_utilization": train.model_flops_utilization,
        }
    return costs


def _outcome(record: Record) -> dict[str, Any]:
    outcome: dict[str, Any] = {"reason": _reason(record)}
    evaluation = record.evaluation
    if evaluation is not None:
        scores = scores_of(evaluation)
        benchmarks = {benchmark_column(name): score for name, score in record.zero_shot.items()}
        outcome |= {name: score.value for name, score in (scores | benchmarks).items()}
        outcome["eval_samples_per_second"] = evaluation.samples_per_second
        outcome["eval_tokens_per_second"] = evaluation.tokens_per_second
        outcome |= {name: getattr(evaluation, name) for name in RATES}
        outcome["n_test"] = evaluation.n
        every = sorted((scores | benchmarks).items())
        parts = [f"{name}={score.signature}" for name, score in every]
        outcome["signature"] = SIGNATURE_SEPARATOR.join(parts) or None
    return outcome


def _reason(record: Record) -> str | None:
    if record.failure is not None:
        return f"{record.failure.kind}: {record.failure.message}"
    if record.status != "done":
        return f"{record.status}, not done"
    return "done, but without scores" if record.evaluation is None else None


def _gib(count: int | None) -> float | None:
    return None if count is None else count / BYTES_PER_GIB


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    method, size, seed = row.get("method"), row.get("train_size"), row.get("seed")
    unknown = method is None
    return (
        unknown,
        not (unknown or size == 0 or method == "none"),
        method or "",
        size is None,
        size or 0,
        seed or 0,
        row["study"],
        row["name"],
    )
