"""Compares every pair of cells in one score: comparability, difference and significance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

import numpy as np

from medqa_finetune.report.comparability import Difference, Fact, axes_between, unfair
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.bootstrap import Sample, bootstrap, holm, randomisation
from medqa_finetune.report.stats.intervals import (
    CellScore,
    Comparison,
    Finding,
    Gap,
    Interval,
    Resampled,
    SeedBasis,
    Settings,
    cell_score,
    gap_between,
    interval_of,
    pooled,
)
from medqa_finetune.report.stats.samples import CellSamples

Samples = Sequence[Sample]
NOT_CHOSEN: Mapping[str, frozenset[str]] = {}


@dataclass(frozen=True)
class Measured:
    """Difference, interval and uncorrected p value of a pair of cells."""

    gap: Gap
    interval: Interval
    p: float


@dataclass(frozen=True)
class ScoreResults:
    """Results for one score over all cells.

    Attributes:
        scores: One per cell that has the score.
        resampled: Scores in every resample, by cell.
        comparisons: One per pair of cells.
    """

    scores: tuple[CellScore, ...]
    resampled: dict[str, Resampled]
    comparisons: tuple[Comparison, ...]


def compare_all(
    cells: Sequence[CellSamples], score: str, settings: Settings, chosen: Mapping[str, frozenset[str]] = NOT_CHOSEN
) -> ScoreResults:
    """Compute one score of all cells, and compare all pairs; Holm's correction covers the comparable pairs.

    Args:
        cells: Samples of each cell.
        score: Name of the score.
        settings: How intervals and p values are computed.
        chosen: By cell, settings that were chosen by validation loss (`choice.Chosen.keys`).
    """
    having = [each for each in cells if score in each.samples]
    resampled = {each.cell: each for each in resample_scores(having, score, settings)}
    pairs = list(combinations(having, 2))
    obstacles = [_obstacles(first, second, score, chosen) for first, second in pairs]
    fair = [pair for pair, found in zip(pairs, obstacles, strict=True) if not found]
    tested = {
        (first.cell.name, second.cell.name): found
        for (first, second), found in zip(fair, _tested(fair, score, resampled, settings), strict=True)
    }
    comparisons = tuple(
        _refused(first.cell, second.cell, score, against) if against else tested[first.cell.name, second.cell.name]
        for (first, second), against in zip(pairs, obstacles, strict=True)
    )
    return ScoreResults(tuple(cell_score(each, score, settings) for each in resampled.values()), resampled, comparisons)


def resample_scores(cells: Sequence[CellSamples], score: str, settings: Settings) -> list[Resampled]:
    """Resample one score of every cell that has it."""
    found = []
    # Neighbours with equally many questions share their draws; the order of the cells stays.
    for n, group in groupby((each for each in cells if score in each.samples), key=lambda each: len(each.ids)):
        block = list(group)
        samples = [sample for each in block for sample in each.samples[score]]
        draws = bootstrap(samples, settings.resamples, settings.seed)
        start = 0
        for each in block:
            runs = each.samples[score]
            values = np.array([sample.value for sample in runs])
            found.append(Resampled(each.cell.name, values, draws[start : start + len(runs)], n))
            start += len(runs)
    return found


def _obstacles(
    first: CellSamples, second: CellSamples, score: str, chosen: Mapping[str, frozenset[str]]
) -> tuple[Difference, ...]:
    """Return why two cells may not be compared; nothing where they may."""
    both = chosen.get(first.cell.name, frozenset()) & chosen.get(second.cell.name, frozenset())
    found = unfair(first.cell, second.cell, score, both)
    if not found and not first.same_questions(second):
        return (Difference(Fact.ANSWERED),)
    return found


def measure(
    pairs: Sequence[tuple[tuple[Resampled, Samples], tuple[Resampled, Samples]]], settings: Settings
) -> list[Measured]:
    """Compute difference, interval and p value of pairs of cells with the same questions, in order."""
    found: list[Measured] = []
    for n, group in groupby(pairs, key=lambda pair: pair[0][0].n):
        block = list(group)
        pooled_pairs = [(pooled(first), pooled(second)) for (_, first), (_, second) in block]
        p_values = randomisation(pooled_pairs, settings.trials, settings.seed)
        for ((first, _), (second, _)), p in zip(block, map(float, p_values), strict=True):
            gap = gap_between(first, second, settings)
            several = max(len(first.values), len(second.values)) > 1
            # With several seeds the larger p value counts: see `intervals.py`.
            found.append(Measured(gap, interval_of(gap.draws, n, settings), max(p, gap.p) if several else p))
    return found


def _tested(
    pairs: Sequence[tuple[CellSamples, CellSamples]], score: str, resampled: dict[str, Resampled], settings: Settings
) -> list[Comparison]:
    measured = measure(
        [tuple((resampled[each.cell.name], each.samples[score]) for each in pair) for pair in pairs],  # type: ignore[misc]
        settings,
    )
    corrected = holm([each.p for each in measured])
    return [
        _compared((first.cell, second.cell), score, (found, p), settings)
        for (first, second), found, p in zip(pairs, measured, corrected, strict=True)
    ]


def _compared(cells: tuple[Cell, Cell], score: str, found: tuple[Measured, float], settings: Settings) -> Comparison:
    (first, second), (measured, p_holm) = cells, found
    scale, interval = measured.gap.spread, measured.interval
    return Comparison(
        first=first.name,
        second=second.name,
        score=score,
        axes=axes_between(first, second),
        difference=measured.gap.value,
        interval=interval,
        effect=measured.gap.value / scale if scale else None,
        effect_interval=Interval(interval.low / scale, interval.high / scale) if scale else None,
        p=measured.p,
        p_holm=p_holm,
        verdict=Finding.DIFFERENT if p_holm < 1 - settings.level else Finding.NONE_SHOWN,
        seeds=_seeds_of(cells),
    )


def _seeds_of(cells: tuple[Cell, Cell]) -> SeedBasis | None:
    # The seed has no effect on an untrained cell.
    seeds = [len(cell.runs) for cell in cells if cell.trains]
    if not seeds:
        return None
    return SeedBasis.ONE if max(seeds) == 1 else SeedBasis.SOME if min(seeds) == 1 else SeedBasis.SEVERAL


def _refused(first: Cell, second: Cell, score: str, differences: tuple[Difference, ...]) -> Comparison:
    return Comparison(
        first=first.name,
        second=second.name,
        score=score,
        axes=axes_between(first, second),
        difference=None,
        interval=None,
        effect=None,
        effect_interval=None,
        p=None,
        p_holm=None,
        verdict=Finding.NOT_COMPARABLE,
        differences=differences,
    )
