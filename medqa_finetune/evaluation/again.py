"""A run's answers, or its blocks of text, scored once more."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medqa_finetune.errors import DataError
from medqa_finetune.evaluation.answers import Answer, collect
from medqa_finetune.evaluation.rows import score_rows
from medqa_finetune.evaluation.score import item_scores, own_scores
from medqa_finetune.record.files import sha256_of
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import EvaluationRecord, Record
from medqa_finetune.record.stamps import damages


def score_run(run: RunDir, metrics: Sequence[str]) -> tuple[EvaluationRecord, list[dict[str, Any]]]:
    """Score the predictions of a run again, put the scores into its record, and return them with those of each answer.

    Args:
        run: The run.
        metrics: Names of metrics; the run's own are always among them.

    Raises:
        DataError: there is no run, or its predictions are missing, too few or changed.
        RunError: another process is working on the run.
    """
    record = run.read()
    if record is None:
        raise DataError(f"run={run.path}: no {run.record_path.name} in there; the folder of a run is wanted.")
    with run.lock():
        fresh, rows = score_rows(rows_of(run, record), run, record, metrics)
        before = record.evaluation
        if before is not None:
            fresh = dataclasses.replace(
                before,
                scores=fresh.scores,
                empty_rate=fresh.empty_rate,
                truncated_rate=fresh.truncated_rate,
                timed_out_rate=fresh.timed_out_rate,
                repetition_rate=fresh.repetition_rate,
            )
        if not _holds(run.results_path, fresh):
            run.write_results(fresh)
        written = run.write_item_scores(item_scores(rows, sha256_of(run.predictions_path)))
        if before != fresh or written:
            run.update(evaluation=fresh, files=run.stamps() if record.status == "done" else record.files)
    return fresh, [own_scores(row) for row in rows]


def answers_of(run: RunDir, record: Record) -> list[Answer]:
    """Return the answers of a run, all of them.

    Raises:
        DataError: they are missing, too few, or changed since the run was done.
    """
    return collect(enumerate(rows_of(run, record), start=1), run.predictions_path)


def rows_of(run: RunDir, record: Record) -> list[dict[str, Any]]:
    """Return the lines of a run's predictions, all of them.

    Raises:
        DataError: they are missing, too few, or changed since the run was done.
    """
    name = run.predictions_path.name
    changed = damages(run.path, {name: record.files[name]} if name in record.files else {})
    if changed and not run.predictions_path.is_file():
        raise DataError(
            f"{run.predictions_path}: the answers are gone. Put the file back, or give the command that trained the "
            "run overwrite=true, which starts it anew and keeps the old one aside."
        )
    if changed:
        raise DataError(f"{run.path}: {changed[0]} since the run was done; score such a file with predictions=FILE.")
    rows = run.read_predictions()
    wanted = _wanted(record)
    if not rows or (wanted is not None and len(rows) != wanted):
        raise DataError(
            f"{run.predictions_path}: {len(rows)} predictions, and the run has {wanted or 'one or more'} test "
            "questions; the same command that trained it goes on with the missing ones."
        )
    return rows


def _wanted(record: Record) -> int | None:
    """Return how many questions the run is examined on; None when the record does not say."""
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
