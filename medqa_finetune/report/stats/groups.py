"""Scores of each group of questions, such as the departments of a hospital (`corpus.group`)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from medqa_finetune.errors import DataError
from medqa_finetune.report.runs import Run
from medqa_finetune.report.stats.bootstrap import Sample
from medqa_finetune.report.stats.compare import resample_scores
from medqa_finetune.report.stats.intervals import Interval, Settings, cell_score
from medqa_finetune.report.stats.samples import CellSamples

# Of one question there is no interval.
LEAST = 2


@dataclass(frozen=True)
class GroupScore:
    """One score of a cell over the questions of one group.

    Attributes:
        cell: Name of the cell.
        group: The group; empty for questions without one.
        interval: Of the value; None for a single question.
        n: Number of the group's questions.
    """

    cell: str
    group: str
    score: str
    value: float
    interval: Interval | None
    n: int
    seeds: int


def group_scores(cells: Sequence[CellSamples], scores: Sequence[str], settings: Settings) -> Iterator[GroupScore]:
    """Yield the scores of every group, the largest first; nothing for cells whose corpus names no groups.

    Args:
        cells: Samples of each cell.
        scores: Names of the scores; those that a cell lacks are left out.
        settings: How intervals are computed.
    """
    for each in cells:
        if each.cell.first.setting("corpus", "group") is None:
            continue
        groups = _groups(each.cell.runs[0])
        of_question = np.array([groups.get(str(question), "") for question in each.ids])
        counted = Counter(of_question.tolist())
        for group, n in sorted(counted.items(), key=lambda item: (item[0] == "", -item[1], item[0])):
            own = of_question == group
            samples = {
                score: tuple(Sample(sample.columns[own], sample.aggregate) for sample in each.samples[score])
                for score in scores
                if score in each.samples
            }
            part = CellSamples(each.cell, each.ids[own], samples)
            for score, runs in samples.items():
                interval = None
                if n >= LEAST:
                    (resampled,) = resample_scores([part], score, settings)
                    interval = cell_score(resampled, score, settings).interval
                value = fmean(sample.value for sample in runs)
                yield GroupScore(each.cell.name, group, score, value, interval, n, len(runs))


def _groups(run: Run) -> dict[str, str]:
    """Return the group of each question that has one, by id."""
    try:
        rows = [] if run.evaluation_dir is None else run.evaluation_dir.read_predictions()
    except (DataError, OSError):
        rows = []
    return {str(row.get("id")): str(row["group"]) for row in rows if row.get("group")}
