"""Scores of predictions, or of measured blocks of running text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medqa_finetune.config.evaluation_checks import metric_names
from medqa_finetune.errors import ConfigError, DataError, Fault
from medqa_finetune.evaluation.metric_registry import find_metric
from medqa_finetune.evaluation.metrics.base import Metric, characters
from medqa_finetune.evaluation.predictions import Prediction, collect
from medqa_finetune.evaluation.text_perplexity import METRIC, score_blocks, text_signature
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.record.schema import EvaluationRecord, Record, Score

Rows = list[dict[str, Any]]
REPEATED_ORDER = 4


def score_predictions(
    predictions: Sequence[Prediction], metrics: Sequence[str]
) -> tuple[EvaluationRecord, list[dict[str, Any]]]:
    """Score predictions; every one of them counts in every score.

    Args:
        predictions: The n predictions to score.
        metrics: Names of metrics; duplicates count once.

    Returns:
        The record, its timings left None for the caller to fill in, and one row per prediction, in order: `id`, the
        prediction's own scores, e.g. `rouge1`, `rouge2`, `rougeL`, `bleu`, and counts such as `bleu.sys_len`.

    Raises:
        DataError: there are no predictions, or they lack a field that a metric needs.
        ConfigError: `metrics` is empty or names an unknown metric.
    """
    if not predictions:
        raise DataError(Fault("no-answers", "there are no answers to score"))
    if not metrics:
        allowed = tuple(metric_names())
        raise ConfigError(Fault("missing-key", "must name at least one metric", key="metrics", got=[], allowed=allowed))
    chosen = [find_metric(name) for name in dict.fromkeys(metrics)]
    rows: list[dict[str, Any]] = [{"id": prediction.id} for prediction in predictions]
    scores: dict[str, Score] = {}
    for metric in chosen:
        if not _has_what_it_needs(metric, predictions):
            continue
        items = metric.items(predictions)
        found = metric.corpus(predictions, items)
        if twice := sorted(scores.keys() & found.keys()):
            problem = "two metrics have a score of this name"
            raise ConfigError(Fault("repeated", problem, key="metrics", got=twice[0]))
        scores |= found
        for row, item in zip(rows, items, strict=True):
            row.update(item)
    record = EvaluationRecord(
        n=len(predictions),
        scores=scores,
        empty_rate=sum(map(is_empty, (prediction.prediction for prediction in predictions))) / len(predictions),
        truncated_rate=_share([prediction.hit_limit for prediction in predictions]),
        timed_out_rate=_share([prediction.timed_out for prediction in predictions]),
        repetition_rate=_repetition_rate(predictions),
        unclosed_rate=_unclosed_rate(predictions),
        prompt_cut_rate=_share([prediction.prompt_cut for prediction in predictions]),
        reference_cut_rate=_share([prediction.reference_cut for prediction in predictions]),
    )
    return record, rows


def _has_what_it_needs(metric: Metric, predictions: Sequence[Prediction]) -> bool:
    """Return whether the predictions have the fields that a metric needs.

    Raises:
        DataError: only some have them.
    """
    lacking = [any(getattr(prediction, field) is None for field in metric.needs) for prediction in predictions]
    if any(lacking) and not all(lacking):
        first, key = predictions[lacking.index(True)].id, metric.needs[0]
        problem = (
            f"{lacking.count(False)} of {len(predictions)} predictions have it (not {first[:60]!r}), and a score over "
            "a part is of another test set"
        )
        raise DataError(Fault("missing-key", problem, key=key, hint="Give it for all predictions, or for none."))
    return not any(lacking)


def own_scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `score_predictions` without its counts."""
    return {name: value for name, value in row.items() if "." not in name}


def item_scores(rows: Sequence[Mapping[str, Any]], predictions_sha256: str) -> ItemScores:
    """Convert the rows of `score_predictions` to columns.

    Args:
        rows: At least one row, in the order of the predictions file.
        predictions_sha256: Digest of that file.
    """
    counts: dict[str, dict[str, npt.NDArray[Any]]] = {}
    # Predictions with several references lack some columns; such a column is left out altogether.
    names = [name for name in rows[0] if all(name in row for row in rows)]
    for name in names:
        score, _, counted = name.partition(".")
        if counted:
            counts.setdefault(score, {})[counted] = np.array([row[name] for row in rows])
    means = [name for name in names if "." not in name and name != "id" and name not in counts]
    return ItemScores(
        predictions_sha256,
        np.array([row["id"] for row in rows], dtype=np.str_),
        {name: np.array([row[name] for row in rows], dtype=np.float64) for name in means},
        counts,
    )


def is_empty(text: str) -> bool:
    """Return whether a text has no visible character: it is empty, white space, or zero-width characters."""
    return not any(character.isprintable() and not character.isspace() for character in text)


def _share(marks: Sequence[bool | None]) -> float | None:
    known = [mark for mark in marks if mark is not None]
    return sum(known) / len(marks) if len(known) == len(marks) else None


def _unclosed_rate(predictions: Sequence[Prediction]) -> float | None:
    """Return the share of thoughts that do not close, of all predictions; None if none has a thought."""
    if all(prediction.thought_unclosed is None for prediction in predictions):
        return None
    return sum(bool(prediction.thought_unclosed) for prediction in predictions) / len(predictions)


def _repetition_rate(predictions: Sequence[Prediction]) -> float | None:
    every = distinct = 0
    for prediction in predictions:
        text = characters(prediction.prediction)
        grams = [text[start : start + REPEATED_ORDER] for start in range(len(text) - REPEATED_ORDER + 1)]
        every += len(grams)
        distinct += len(set(grams))
    return 1 - distinct / every if every else None


def score_rows(
    rows: Rows, folder: EvaluationDir, record: Record, metrics: Sequence[str]
) -> tuple[EvaluationRecord, Rows]:
    """Return the scores of an evaluation's rows, without costs, and those of each row.

    Args:
        rows: Rows of `predictions.jsonl`.
        folder: Folder of the evaluation.
        record: The run's record with this evaluation's settings; its metrics are always computed.
        metrics: Names of additional metrics.

    Raises:
        DataError: a row lacks a field.
        ConfigError: a metric is unknown or does not apply to such rows.
    """
    if record.setting("corpus", "task") == "text":
        return _score_blocks(rows, folder, record, metrics)
    own = record.setting("evaluate", "metrics") or []
    return score_predictions(collect(enumerate(rows, start=1), folder.predictions_path), [*own, *metrics])


def _score_blocks(
    rows: Rows, folder: EvaluationDir, record: Record, metrics: Sequence[str]
) -> tuple[EvaluationRecord, Rows]:
    if metrics and METRIC not in metrics:
        raise ConfigError(
            Fault(
                "not-allowed", "running text has one score alone", key="metrics", got=list(metrics), allowed=(METRIC,)
            )
        )
    length, stride = record.setting("train", "max_length"), record.setting("evaluate", "stride")
    signature = text_signature(length, stride, record.setting("corpus", "separator"))
    return score_blocks(rows, signature, folder.predictions_path)
