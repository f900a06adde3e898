"""The scores of a report: those that metrics describe, those of metrics that are not installed, and of benchmarks."""

import re
from collections.abc import Iterable
from enum import StrEnum

from medqa_finetune.evaluation.metric_registry import all_scores, default_scores, describe, headlines
from medqa_finetune.evaluation.metrics.base import Better, Prominence, ScoreInfo
from medqa_finetune.log import visible
from medqa_finetune.record.schema import EvaluationRecord, Score

SIGNATURE_SEPARATOR = "; "
# The perplexity of a text that is a benchmark, also where figures that do not compare were set apart.
OF_A_TEXT = re.compile(r"/perplexity(?:#\d+)?$")


class Items(StrEnum):
    """What a training set is counted in."""

    PAIRS = "pairs"
    BLOCKS = "blocks"


def score_info(column: str) -> ScoreInfo:
    """Return the description of the score in a column of the table."""
    if OF_A_TEXT.search(column):
        return ScoreInfo(column, Better.LOWER, low=1.0, per_tokenizer=True)
    return describe(column)


def in_order(columns: Iterable[str]) -> list[ScoreInfo]:
    """Return the descriptions of scores as a report shows them: headlines, main scores, unknown ones, details."""
    place = {name: place for place, name in enumerate(all_scores())}
    found = [describe(column) for column in dict.fromkeys(columns)]
    return sorted(found, key=lambda score: (score.prominence, place.get(score.name, len(place)), score.name))


def headline_columns() -> tuple[str, ...]:
    """Return the columns of the scores that verdicts are about."""
    return tuple(score.name for score in headlines())


def training_items_of(score: ScoreInfo) -> Items:
    """Return what a training set of runs with this score is counted in."""
    return Items.BLOCKS if score.running_text else Items.PAIRS


def is_benchmark(column: str) -> bool:
    """Say whether a score is of a benchmark, which is measured in addition: these are called `<name>/<metric>`."""
    return "/" in column


def benchmark_column(name: str) -> str:
    """Return the column of a benchmark: its name, without separators of signatures and control characters."""
    return visible(name).replace(";", "_").replace("=", "_").replace("#", "_")


def scores_of(evaluation: EvaluationRecord) -> dict[str, Score]:
    """Return the scores of an evaluation by their column: the perplexity of running text has one of its own."""
    of_text = {score.recorded_as: score.name for score in all_scores().values() if score.running_text}
    return {
        of_text[name] if name in of_text and score.signature.startswith(f"{name}|text") else name: score
        for name, score in evaluation.scores.items()
    }


def signatures(cell: str | None) -> dict[str, str]:
    """Return the signature of each score in a cell of the table's column `signature`."""
    return dict(part.split("=", 1) for part in cell.split(SIGNATURE_SEPARATOR)) if cell else {}


def score_columns(cells: Iterable[str | None]) -> list[str]:
    """Return the columns of scores that a table has: those of the default metrics, and any other that a run has.

    Main scores come before details, scores of running text behind both.

    Args:
        cells: The table's column `signature`.
    """
    by_place = sorted(default_scores(), key=lambda score: (score.running_text, score.prominence is Prominence.DETAIL))
    usual = [score.name for score in by_place]
    named = {name for cell in set(cells) for name in signatures(cell) if not is_benchmark(name)}
    return [*usual, *sorted(named - set(usual))]
