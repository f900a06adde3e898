"""Scores a run's existing predictions, or blocks of text, again."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from medqa_finetune.errors import DataError, Fault
from medqa_finetune.evaluation.predictions import Prediction, collect
from medqa_finetune.evaluation.score import Rows, item_scores, own_scores, score_rows
from medqa_finetune.record.checksums import damages
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluations_of, read_evaluation
from medqa_finetune.record.files import sha256_of
from medqa_finetune.record.record_dir import LOCK_SECONDS
from medqa_finetune.record.run_dir import RECORD_NAME, RunDir
from medqa_finetune.record.schema import Evaluation, EvaluationRecord, Record
from medqa_finetune.record.version_1 import upgrade

log = logging.getLogger(__name__)

# Seconds to wait for the lock of a run that is not training; its other evaluations hold it only while writing.
WRITE_SECONDS = 60.0


def score_run(run: RunDir, metrics: Sequence[str], name: str | None = None) -> tuple[EvaluationRecord, Rows]:
    """Score the predictions of a run again, write the scores to its records, and return them with those of each row.

    Args:
        run: The run.
        metrics: Names of metrics, in addition to those of the evaluation.
        name: Name of the evaluation; None scores all, and returns the one whose scores the run's record holds.

    Raises:
        DataError: there is no run or evaluation, or its predictions are missing, incomplete or changed.
        RunError: another process is using the run.
    """
    record = _record_of(run)
    chosen = find_by_name(run, name)
    scored = _score(run, record, chosen, metrics)
    for folder, evaluation, error in evaluations_of(run, record) if name is None else ():
        if folder == chosen:
            continue
        if folder.is_locked():
            log.warning("%s: another process works on it; it is not scored again", folder.path)
            continue
        if error is not None:
            log.warning("%s It is not scored again.", error)
            continue
        try:
            if evaluation is not None and evaluation.status == "done":
                _score(run, _record_of(run), folder, metrics)
            elif evaluation is not None:
                log.warning("evaluation %s is %s; it is not scored again", evaluation.name, evaluation.status)
        except DataError as unusable:
            log.warning("%s It is not scored again.", unusable)
    return scored


def find_by_name(run: RunDir, name: str | None = None) -> EvaluationDir:
    """Return the folder of a run's evaluation; without a name, the one whose scores the run's record holds.

    Raises:
        DataError: there is none of that name; lists those that exist.
    """
    record = _record_of(run)
    named: dict[str, EvaluationDir] = {}
    for folder, evaluation, error in evaluations_of(run, record):
        if error is not None and name in (None, folder.path.name) and not named:
            raise error
        if evaluation is not None:
            named[evaluation.name] = folder
    wanted = next(iter(named), None) if name is None else name
    if wanted in named:
        return named[wanted]
    if name is None:
        raise DataError(
            Fault("no-evaluation", f"its status is {record.status}, and it has no evaluation yet", key="run",
                  got=str(run.path), hint="The command that started it resumes it.")
        )  # fmt: skip
    raise DataError(
        Fault("not-allowed", f"{run.path} has no evaluation of this name", key="evaluation", got=name,
              allowed=tuple(named))
    )  # fmt: skip


def read_by_name(run: RunDir, name: str | None = None) -> Evaluation:
    """Read the record of a run's evaluation; without a name, of the one whose scores the run's record holds.

    Raises:
        DataError: as `find_by_name`.
    """
    record = _record_of(run)
    folder = find_by_name(run, name)
    evaluation = read_evaluation(run, record, folder)
    if evaluation is None:
        raise DataError(Fault("record-gone", "is gone: the folder was changed just now", file=str(folder.record_path)))
    return evaluation


def _record_of(run: RunDir) -> Record:
    record = run.read()
    if record is None:
        raise DataError(
            Fault("not-a-run", f"has no {RECORD_NAME}", key="run", got=str(run.path),
                  hint="Give the folder of a run.")
        )  # fmt: skip
    return record


def _score(run: RunDir, record: Record, folder: EvaluationDir, metrics: Sequence[str]) -> tuple[EvaluationRecord, Rows]:
    # A training run is refused before any file is written; other processes hold the lock only briefly.
    with run.lock(LOCK_SECONDS if record.status == "running" else WRITE_SECONDS, watches=True):
        pass
    with folder.lock(watches=True):
        evaluation = read_evaluation(run, record, folder)
        seen = record.seen_by(evaluation)
        fresh, rows = score_rows(rows_of(folder, seen, evaluation), folder, seen, metrics)
        before = seen.evaluation
        if before is not None:
            fresh = dataclasses.replace(
                before,
                scores=fresh.scores,
                empty_rate=fresh.empty_rate,
                truncated_rate=fresh.truncated_rate,
                timed_out_rate=fresh.timed_out_rate,
                repetition_rate=fresh.repetition_rate,
                unclosed_rate=fresh.unclosed_rate,
                prompt_cut_rate=fresh.prompt_cut_rate,
                reference_cut_rate=fresh.reference_cut_rate,
            )
        items = item_scores(rows, sha256_of(folder.predictions_path))
        _write(run, folder, fresh, folder.write_item_scores(items) or before != fresh)
    return fresh, [own_scores(row) for row in rows]


def _write(run: RunDir, folder: EvaluationDir, fresh: EvaluationRecord, changed: bool) -> None:
    """Write scores to the records that hold them; unchanged records stay untouched."""
    record = _record_of(run)
    evaluation = read_evaluation(run, record, folder)
    is_default = evaluation is not None and evaluation.name == (record.evaluation_name or evaluation.name)
    if not folder.in_run and not _holds(folder.results_path, fresh):
        folder.write_results(fresh)
        changed = True
    is_stale = is_default and not _holds(run.results_path, fresh)
    if not changed and not is_stale:
        return
    with run.lock(WRITE_SECONDS, watches=True):
        if is_stale:
            run.write_results(fresh)
        if not changed:
            return
        record = upgrade(run, _record_of(run))
        evaluation = folder.read()
        if evaluation is None:
            return
        files = folder.stamps() if evaluation.status == "done" else evaluation.files
        folder.update(result=fresh, files=files)
        if record.evaluation is not None and is_default:
            run.update(evaluation=fresh)


def predictions_of(run: RunDir, name: str | None = None) -> list[Prediction]:
    """Return all predictions of a run's evaluation.

    Raises:
        DataError: they are missing, incomplete, or changed since the evaluation.
    """
    record = _record_of(run)
    folder = find_by_name(run, name)
    evaluation = read_evaluation(run, record, folder)
    rows = rows_of(folder, record.seen_by(evaluation), evaluation)
    return collect(enumerate(rows, start=1), folder.predictions_path)


def rows_of(folder: EvaluationDir, record: Record, evaluation: Evaluation | None) -> Rows:
    """Return all rows of an evaluation's predictions.

    Args:
        folder: Folder of the evaluation.
        record: The run's record with this evaluation's settings.
        evaluation: The evaluation's own record.

    Raises:
        DataError: they are missing, incomplete, or changed since the evaluation.
    """
    path = folder.predictions_path
    files = {} if evaluation is None else evaluation.files
    changed = damages(folder.path, {path.name: files[path.name]} if path.name in files else {})
    if changed and not path.is_file():
        raise DataError(
            Fault(
                "answers-missing", "the answers no longer exist", file=str(path),
                hint="Put the file back, or remove the evaluation's folder and give the command again: the "
                "questions are answered again, and nothing is trained.",
            )
        )  # fmt: skip
    if changed:
        raise DataError(
            Fault("answers-changed", f"{changed[0]} since the evaluation was done", file=str(folder.path),
                  hint="Score such a file with predictions=FILE.")
        )  # fmt: skip
    rows = folder.read_predictions()
    questions = _questions_of(record)
    if not rows or (questions is not None and len(rows) != questions):
        raise DataError(
            Fault(
                "answers-missing", f"{len(rows)} predictions, and the evaluation has {questions or 'one or more'} test "
                "questions", file=str(path), hint="The command that started it answers the missing ones.",
            )
        )  # fmt: skip
    return rows


def _questions_of(record: Record) -> int | None:
    """Return the number of questions of an evaluation; None if the record has none."""
    if record.evaluation is not None:
        return record.evaluation.n
    most = record.setting("evaluate", "max_samples")
    n = record.data_manifest.test.n if record.data_manifest is not None else None
    return min(n, most) if n is not None and most is not None else n or most


def _holds(path: Path, results: EvaluationRecord) -> bool:
    try:
        return bool(json.loads(path.read_bytes()) == dataclasses.asdict(results))
    except (OSError, ValueError, RecursionError):
        return False
