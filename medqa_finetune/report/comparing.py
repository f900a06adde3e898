"""Every pair of cells for one score: fair or not, how large the difference, and whether it counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

import numpy as np

from medqa_finetune.report.cells import Cell
from medqa_finetune.report.fairness import axis_between, unfair
from medqa_finetune.report.resampling import Sample, bootstrap, holm, randomisation
from medqa_finetune.report.samples import CellSamples
from medqa_finetune.report.statistics import (
    CellScore,
    Comparison,
    Drawn,
    Gap,
    Interval,
    Settings,
    cell_score,
    gap_between,
    interval_of,
    pooled,
)
from medqa_finetune.report.words import Text

OTHER_QUESTIONS = Text("They answered other questions.", "两者回答的题目不同。")
ONE_SEED = Text(
    "One seed: about these runs, not about training again.",
    "只有一个随机种子：只说明这几次运行，不说明重新训练会怎样。",
)
SOME_SEED = Text(
    "One of them has one seed: what another seed would change there is not known.",
    "其中一格只有一个随机种子：换种子会有多大变化不得而知。",
)
SEVERAL_SEEDS = Text("Over several seeds.", "基于多个随机种子。")
SEVERAL_AXES = Text(
    "More than one thing differs ({axes}): the difference is of all of them together.",
    "不止一项不同（{axes}）：差异来自它们的总和。",
)


Samples = Sequence[Sample]


@dataclass(frozen=True)
class Measured:
    """What was found for a pair of cells; `p` is not corrected."""

    gap: Gap
    interval: Interval
    p: float


@dataclass(frozen=True)
class ScoreResults:
    """One score over cells.

    Attributes:
        scores: One per cell that has it.
        drawn: The same, with every resample, by cell.
        comparisons: Every pair.
    """

    scores: tuple[CellScore, ...]
    drawn: dict[str, Drawn]
    comparisons: tuple[Comparison, ...]


def compare_all(cells: Sequence[CellSamples], score: str, settings: Settings) -> ScoreResults:
    """Return one score of all cells, and all pairs; Holm's correction is over those that compare."""
    having = [each for each in cells if score in each.samples]
    drawn = {each.cell: each for each in drawn_of(having, score, settings)}
    pairs = list(combinations(having, 2))
    faults = [_fault(first, second, score) for first, second in pairs]
    fair = [pair for pair, fault in zip(pairs, faults, strict=True) if fault is None]
    tested = {
        (first.cell.name, second.cell.name): found
        for (first, second), found in zip(fair, _tested(fair, score, drawn, settings), strict=True)
    }
    comparisons = tuple(
        tested[first.cell.name, second.cell.name] if fault is None else _refused(first.cell, second.cell, score, fault)
        for (first, second), fault in zip(pairs, faults, strict=True)
    )
    return ScoreResults(tuple(cell_score(each, score, settings) for each in drawn.values()), drawn, comparisons)


def drawn_of(cells: Sequence[CellSamples], score: str, settings: Settings) -> list[Drawn]:
    """Return one score of every cell that has it, in every resample."""
    found = []
    for n, group in groupby((each for each in cells if score in each.samples), key=lambda each: len(each.ids)):
        block = list(group)
        samples = [sample for each in block for sample in each.samples[score]]
        draws = bootstrap(samples, settings.resamples, settings.seed)
        start = 0
        for each in block:
            runs = each.samples[score]
            values = np.array([sample.value for sample in runs])
            found.append(Drawn(each.cell.name, values, draws[start : start + len(runs)], n))
            start += len(runs)
    return found


def _fault(first: CellSamples, second: CellSamples, score: str) -> Text | None:
    fault = unfair(first.cell, second.cell, score)
    return fault if fault is not None or first.same_questions(second) else OTHER_QUESTIONS


def measure(pairs: Sequence[tuple[tuple[Drawn, Samples], tuple[Drawn, Samples]]], settings: Settings) -> list[Measured]:
    """Return difference, interval and p value of pairs of cells that answered the same questions, in order."""
    found: list[Measured] = []
    for n, group in groupby(pairs, key=lambda pair: pair[0][0].n):
        block = list(group)
        swapped = [(pooled(first), pooled(second)) for (_, first), (_, second) in block]
        p_values = randomisation(swapped, settings.trials, settings.seed)
        for ((first, _), (second, _)), p in zip(block, map(float, p_values), strict=True):
            gap = gap_between(first, second, settings)
            several = max(len(first.values), len(second.values)) > 1
            found.append(Measured(gap, interval_of(gap.draws, n, settings), max(p, gap.p) if several else p))
    return found


def _tested(
    pairs: Sequence[tuple[CellSamples, CellSamples]], score: str, drawn: dict[str, Drawn], settings: Settings
) -> list[Comparison]:
    measured = measure(
        [tuple((drawn[each.cell.name], each.samples[score]) for each in pair) for pair in pairs],  # type: ignore[misc]
        settings,
    )
    corrected = holm([each.p for each in measured])
    return [
        _compared((first.cell, second.cell), score, (found, p), settings)
        for (first, second), found, p in zip(pairs, measured, corrected, strict=True)
    ]


def _compared(cells: tuple[Cell, Cell], score: str, found: tuple[Measured, float], settings: Settings) -> Comparison:
    (first, second), (measured, p_holm) = cells, found
    axis, scale, interval = axis_between(first, second), measured.gap.spread, measured.interval
    return Comparison(
        first=first.name,
        second=second.name,
        score=score,
        axis=axis,
        difference=measured.gap.value,
        interval=interval,
        effect=measured.gap.value / scale if scale else None,
        effect_interval=Interval(interval.low / scale, interval.high / scale) if scale else None,
        p=measured.p,
        p_holm=p_holm,
        verdict="different" if p_holm < 1 - settings.level else "no difference shown",
        reason=_reason(axis, cells),
    )


def _reason(axis: str, cells: tuple[Cell, Cell]) -> Text:
    # To what is not trained a seed is nothing.
    seeds = [len(cell.runs) for cell in cells if cell.trains]
    if not seeds:
        return Text("", "")
    text = ONE_SEED if max(seeds) == 1 else SOME_SEED if min(seeds) == 1 else SEVERAL_SEEDS
    if " + " in axis:
        return text + Text(SEVERAL_AXES.en.format(axes=axis), SEVERAL_AXES.zh.format(axes=axis))
    return text


def _refused(first: Cell, second: Cell, score: str, fault: Text) -> Comparison:
    return Comparison(
        first=first.name, second=second.name, score=score, axis=axis_between(first, second), difference=None,
        interval=None, effect=None, effect_interval=None, p=None, p_holm=None, verdict="not comparable", reason=fault,
    )  # fmt: skip
