"""Reads a run's scores per question, or per block of running text, as columns to sum, in one order for all runs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.report.notes import Flaw, FlawKind
from medqa_finetune.report.runs import Cell, Run
from medqa_finetune.report.scores import in_order
from medqa_finetune.report.stats.bootstrap import Sample, mean

# Tolerance for rounding between the per-question file and the record.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class CellSamples:
    """Per-question scores of a cell.

    Attributes:
        cell: Name of the cell.
        ids: Sorted ids of its questions, the same for all its runs.
        samples: By score: one sample per run, in the order of the cell's runs.
    """

    cell: Cell
    ids: npt.NDArray[np.str_]
    samples: dict[str, tuple[Sample, ...]]

    def same_questions(self, other: "CellSamples") -> bool:
        """Return whether two cells have the same questions."""
        return self.ids is other.ids or np.array_equal(self.ids, other.ids)


def samples_of(cell: Cell, scores: tuple[str, ...] | None = None) -> CellSamples | Flaw:
    """Return the per-question scores of a cell, or why they cannot be used.

    Args:
        cell: The cell to read.
        scores: Names of the scores to include; None for all in the record. Scores that a run lacks are left out.
    """
    found: list[dict[str, Sample]] = []
    ids: npt.NDArray[np.str_] | None = None
    for run in cell.runs:
        items = run.items()
        if items is None:
            return Flaw(FlawKind.NO_SCORES, run.name)
        if len(items.ids) != run.evaluation.n:
            return Flaw(FlawKind.OTHER_NUMBER, run.name, found=len(items.ids), expected=run.evaluation.n)
        order = np.argsort(items.ids, kind="stable")
        if ids is not None and not np.array_equal(ids, items.ids[order]):
            return Flaw(FlawKind.OTHER_QUESTIONS, run.name, other=cell.runs[0].name)
        ids = items.ids[order]
        recorded = set(run.scores)
        columns = _columns(items, order, recorded if scores is None else recorded & set(scores))
        wrong = [score for score, sample in columns.items() if not _agrees(run, score, sample)]
        if wrong:
            return Flaw(FlawKind.OTHER_SUM, run.name, score=wrong[0])
        found.append(columns)
    shared = [score for score in found[0] if all(score in columns for columns in found)]
    return CellSamples(cell, np.asarray(ids), {score: tuple(columns[score] for columns in found) for score in shared})


def _columns(items: ItemScores, order: npt.NDArray[np.intp], scores: set[str]) -> dict[str, Sample]:
    found = {
        score: Sample(values[order].astype(np.float64)[:, None], mean)
        for score, values in items.values.items()
        if score in scores
    }
    for score in in_order(scores):
        if score.aggregate is None:
            continue
        counts = items.counts.get(score.key, {})
        if all(name in counts for name in score.aggregate.counts):
            stacked = np.stack([counts[name][order] for name in score.aggregate.counts], axis=1).astype(np.float64)
            found[score.name] = Sample(stacked, score.aggregate.formula)
    return found


def _agrees(run: Run, score: str, sample: Sample) -> bool:
    recorded = run.scores[score].value
    return abs(recorded - sample.value) <= TOLERANCE * max(1.0, abs(recorded))
