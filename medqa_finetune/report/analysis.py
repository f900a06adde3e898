"""From records and per-question scores to intervals, comparisons and a verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from medqa_finetune.record.schema import Record
from medqa_finetune.report.statistics import CellScore, Comparison, Settings
from medqa_finetune.report.verdict import Verdict
from medqa_finetune.report.words import Text


@dataclass(frozen=True)
class ScoredRun:
    """A run and how its per-question scores are had.

    Attributes:
        name: As in the table.
        study: As in the table.
        record: As its folder holds it.
        items: Reads the per-question scores; None where there are none. Called late and perhaps twice, so that a
            thousand runs need not be in memory together.
    """

    name: str
    study: str
    record: Record
    items: Callable[[], Any]


@dataclass(frozen=True)
class Analysis:
    """All there is to say about a table of runs.

    Attributes:
        settings: How it was done; the seed is among them.
        scores: Every cell's scores with intervals.
        comparisons: Every pair of cells that were compared, per score.
        verdicts: One per study and corpus.
        notes: What was left out, capped or could not be read, and why.
    """

    settings: Settings
    scores: tuple[CellScore, ...]
    comparisons: tuple[Comparison, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[Text, ...]


def analyse(frame: pd.DataFrame, runs: Sequence[ScoredRun], settings: Settings) -> Analysis:
    """Return intervals, comparisons and verdicts over the runs of a table."""
    raise NotImplementedError
