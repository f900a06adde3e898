"""The lines of a run's `predictions.jsonl` to scores: answers, or blocks of running text."""

from collections.abc import Sequence
from typing import Any

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.schema import EvaluationRecord, Record

Rows = list[dict[str, Any]]


def score_rows(
    rows: Rows, folder: EvaluationDir, record: Record, metrics: Sequence[str]
) -> tuple[EvaluationRecord, Rows]:
    """Return the scores of an evaluation's lines, without costs, and those of each line.

    Args:
        rows: The lines.
        folder: Of the evaluation.
        record: The run's record as the evaluation sees it; its own metrics are always among those computed.
        metrics: Names of more of them.

    Raises:
        DataError: a line lacks something.
        ConfigError: a metric that there is none of for such lines.
    """
    if record.setting("corpus", "task") == "text":
        return _score_blocks(rows, folder, record, metrics)
    from medqa_finetune.evaluation.predictions import collect
    from medqa_finetune.evaluation.score import score_answers

    own = record.setting("evaluate", "metrics") or []
    return score_answers(collect(enumerate(rows, start=1), folder.predictions_path), [*own, *metrics])


def _score_blocks(
    rows: Rows, folder: EvaluationDir, record: Record, metrics: Sequence[str]
) -> tuple[EvaluationRecord, Rows]:
    from medqa_finetune.evaluation.text_perplexity import METRIC, score_blocks, text_signature

    if metrics and METRIC not in metrics:
        raise ConfigError(
            Fault(
                "not-allowed", "running text has one score alone", key="metrics", got=list(metrics), allowed=(METRIC,)
            )
        )
    length, stride = record.setting("train", "max_length"), record.setting("evaluate", "stride")
    signature = text_signature(length, stride, record.setting("corpus", "separator"))
    return score_blocks(rows, signature, folder.predictions_path)
