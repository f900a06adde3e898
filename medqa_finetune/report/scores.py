"""Describes the scores of a report: those of metrics, of metrics that are not installed, and of benchmarks."""

import re
from collections.abc import Iterable
from enum import StrEnum

from medqa_finetune.evaluation.metric_registry import all_scores, default_scores, describe, headlines
from medqa_finetune.evaluation.metrics.base import Better, Prominence, ScoreInfo
from medqa_finetune.log import visible
from medqa_finetune.record.schema import EvaluationRecord, Score

SIGNATURE_SEPARATOR = "; "
# Column of a benchmark text's perplexity, with an optional suffix for figures that do not compare.
OF_A_TEXT = re.compile(r"/perplexity(?:#\d+)?$")


class Items(StrEnum):
    """Unit in which a training set is counted."""

    PAIRS = "pairs"
    BLOCKS = "blocks"


def score_info(column: str) -> ScoreInfo:
    """Return the description of the score in a table column; columns of unknown metrics get a generic one."""
    if OF_A_TEXT.search(column):
        return ScoreInfo(column, Better.LOWER, low=1.0, per_tokenizer=True)
    return describe(column)


def in_order(columns: Iterable[str]) -> list[ScoreInfo]:
    """Return the descriptions of scores in report order: headlines, main scores, unknown ones, details."""
    place = {name: place for place, name in enumerate(all_scores())}
    found = [describe(column) for column in dict.fromkeys(columns)]
    return sorted(found, key=lambda score: (score.prominence, place.get(score.name, len(place)), score.name))


def headline_columns() -> tuple[str, ...]:
    """Return the columns of the headline scores, which verdicts use."""
    return tuple(score.name for score in headlines())


def training_items_of(score: ScoreInfo) -> Items:
    """Return the unit of the training sets of runs with this score."""
    return Items.BLOCKS if score.running_text else Items.PAIRS


def is_benchmark(column: str) -> bool:
    """Return whether a column is of a benchmark; these are named `<name>/<metric>`."""
    return "/" in column


def benchmark_column(name: str) -> str:
    """Return a benchmark's column: its name without signature separators and control characters."""
    return visible(name).replace(";", "_").replace("=", "_").replace("#", "_")


def scores_of(evaluation: EvaluationRecord) -> dict[str, Score]:
    """Return the scores of an evaluation by column; the perplexity of running text has its own column."""
    of_text = {score.recorded_as: score.name for score in all_scores().values() if score.running_text}
    return {
        of_text[name] if name in of_text and score.signature.startswith(f"{name}|text") else name: score
        for name, score in evaluation.scores.items()
    }


def signatures(cell: str | None) -> dict[str, str]:
    """Parse a value of the table's column `signature` into the signature of each score."""
    return dict(part.split("=", 1) for part in cell.split(SIGNATURE_SEPARATOR)) if cell else {}


def score_columns(cells: Iterable[str | None]) -> list[str]:
    """Return the score columns of a table: those of the default metrics, and any other that a run has.

    Main scores come first, then details, scores of running text, and scores of other metrics.

    Args:
        cells: Values of the table's column `signature`.
    """
    by_place = sorted(default_scores(), key=lambda score: (score.running_text, score.prominence is Prominence.DETAIL))
    usual = [score.name for score in by_place]
    named = {name for cell in set(cells) for name in signatures(cell) if not is_benchmark(name)}
    return [*usual, *sorted(named - set(usual))]
