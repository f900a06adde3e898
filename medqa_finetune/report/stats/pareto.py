"""Relates scores to costs: Pareto fronts, and the gain and cost of each step up in data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from medqa_finetune.config.size_names import size_name
from medqa_finetune.report.comparability import signatures_of, unfair_costs, unfair_times
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import score_info
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval, Resampled, Settings, mean_draws
from medqa_finetune.report.verdict import Cost, Front, Machine, ParetoPoint, Step, Unit


def fronts_of(cells: Sequence[Cell], resampled: dict[str, Resampled], score: str, settings: Settings) -> list[Front]:
    """Return the Pareto fronts of one score against hours, memory and, with a price, money.

    There are none without a trained cell, nor for a cost that no cell has measured.
    """
    having = [cell for cell in cells if cell.name in resampled]
    trained = [cell for cell in having if cell.trains]
    if not trained:
        return []
    like = trained[0]
    alike = [cell for cell in having if _comparable(like, cell, score)]
    price, on_gpu = settings.price_per_hour, like.vram_gib is not None
    # The hours of a training that shared its machine do not compare.
    hours = {cell.name: cell.hours for cell in alike if not cell.disturbed}
    memory = {cell.name: cell.vram_gib if on_gpu else cell.rss_gib for cell in alike if cell.trains}
    costs = [
        (Cost.HOURS, Unit.GPU_HOURS if on_gpu else Unit.CPU_HOURS, hours),
        (Cost.MEMORY, Unit.VRAM if on_gpu else Unit.RSS, memory),
    ]
    if price is not None:
        money = {name: None if each is None else each * price for name, each in hours.items()}
        costs.append((Cost.MONEY, Unit.MONEY, money))
    return [
        Front(
            score,
            cost,
            unit,
            _points(score, known, resampled, settings),
            tuple(cell.name for cell in having if cell not in alike or (cell.name not in known and cell.disturbed)),
        )
        for cost, unit, known in costs
        if any(known.get(cell.name) is not None for cell in trained)
    ]


def steps_of(
    series: Mapping[str, Sequence[Cell]], comparisons: Sequence[Comparison], score: str, settings: Settings
) -> list[Step]:
    """Return the step from each data size of a series (`scaling.series_of`) to the next, for one score."""
    found = {frozenset((each.first, each.second)): each for each in comparisons if each.score == score}
    steps = []
    for name, group in series.items():
        for first, second in pairwise(group):
            comparison = found.get(frozenset((first.name, second.name)))
            if comparison is not None:
                steps.append(_step(name, (first, second), comparison, settings))
    return steps


def pairs_tested(comparisons: Sequence[Comparison], score: str) -> int:
    """Return the number of comparable pairs of a score, over which its p values are corrected."""
    return sum(each.score == score and each.p_holm is not None for each in comparisons)


def explained(steps: Sequence[Step], comparisons: Sequence[Comparison]) -> list[Step]:
    """Set `uncorrected` in the first step that is not significant although its interval excludes 0."""
    found = list(steps)
    for place, step in enumerate(found):
        bound = step.interval
        if step.verdict is Finding.NONE_SHOWN and bound is not None and not bound.low <= 0 <= bound.high:
            found[place] = replace(step, uncorrected=pairs_tested(comparisons, step.score))
            break
    return found


def machine_of(cell: Cell) -> Machine:
    """Return the kind of machine whose hours a cell's training is counted in."""
    return Machine.GPU if cell.vram_gib is not None else Machine.CPU


def _comparable(like: Cell, cell: Cell, score: str) -> bool:
    tests = [record.data_manifest.test.sha256 if record.data_manifest else None for record in (like.first, cell.first)]
    same = tests[0] == tests[1] and like.n == cell.n and signatures_of(like, score) == signatures_of(cell, score)
    return same and not (cell.trains and unfair_costs(like, cell))


def _points(
    score: str, costs: dict[str, float | None], resampled: dict[str, Resampled], settings: Settings
) -> tuple[ParetoPoint, ...]:
    """Return the cells with a known cost, by ascending cost."""
    known = sorted(((cost, name) for name, cost in costs.items() if cost is not None), key=lambda item: item[0])
    prices = np.array([cost for cost, _ in known])
    values = np.array([resampled[name].value for _, name in known])
    draws = np.array([mean_draws(resampled[name], settings) for _, name in known])
    sign = score_info(score).sign
    front = undominated(prices, sign * values[:, None])[:, 0]
    shares = undominated(prices, sign * draws).mean(axis=1)
    return tuple(
        ParetoPoint(name, float(cost), float(value), bool(on), float(share))
        for (cost, name), value, on, share in zip(known, values, front, shares, strict=True)
    )


def undominated(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return which points are not dominated: no other is as good in score and cost and better in one of them.

    Args:
        costs: Shape (k,).
        scores: Shape (k, m): m sets of scores.

    Returns:
        Booleans, shape (k, m).
    """
    beaten = np.zeros(scores.shape, dtype=bool)
    for place, cost in enumerate(costs):
        cheaper, as_cheap = costs < cost, costs <= cost
        beaten[place] = (scores[cheaper] >= scores[place]).any(axis=0) | (scores[as_cheap] > scores[place]).any(axis=0)
    return ~beaten


def _step(series: str, cells: tuple[Cell, Cell], comparison: Comparison, settings: Settings) -> Step:
    first, second = cells
    sign = 1 if comparison.first == first.name else -1
    hours = money = None
    if not unfair_times(first, second) and first.hours is not None and second.hours is not None:
        hours = second.hours - first.hours
        money = None if settings.price_per_hour is None else hours * settings.price_per_hour
    gain, bound = comparison.difference, comparison.interval
    return Step(
        series=series,
        first=first.name,
        second=second.name,
        sizes=(size_name(first.first.data, first.train_size), size_name(second.first.data, second.train_size)),
        score=comparison.score,
        gain=None if gain is None else sign * gain,
        interval=bound if bound is None or sign == 1 else Interval(-bound.high, -bound.low),
        p_holm=comparison.p_holm,
        verdict=comparison.verdict,
        machine=machine_of(first),
        hours=hours,
        money=money,
        differences=comparison.differences,
    )
