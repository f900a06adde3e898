"""Fits a score against the number of training examples: a power law with an offset if supported, else log-linear.

The power law, `offset - factor * examples ** -exponent`, describes how scores grow with data in many tasks (Hestness et
al. 2017, arXiv:1712.00409; Rosenfeld et al. 2020, arXiv:1909.12673). It has three parameters, so three sizes determine
it exactly and cannot contradict it. It therefore counts as supported only if it exists in nearly every resample, i.e.
if each step up is clearly positive and clearly smaller than a line over the logarithm of the size would make it.

A perplexity, the exponential of a mean loss, is fitted by its logarithm, so that no curve falls below 0. Curves are
clipped to the limits of the score.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from medqa_finetune.report.comparability import unfair
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import score_info
from medqa_finetune.report.stats.bootstrap import Array
from medqa_finetune.report.stats.intervals import Resampled, Settings, interval_of, mean_draws
from medqa_finetune.report.verdict import Curve, Estimate, Fit, NoFit

# Grid of exponents. Beyond the last, doubling the data would add nothing; before the first, the curve is a line over
# the logarithm of the size. A best fit at either end is rejected.
EXPONENTS = np.geomspace(0.02, 5.0, 120)
SIZES_FOR_POWER_LAW = 3
CURVE_POINTS = 33


@dataclass(frozen=True)
class _Fitted:
    """Data of a fit, and the settings of its intervals.

    Attributes:
        score: Name of the fitted score.
        sizes: Training examples, shape (k,).
        points: On the scale of the fit, shape (k, 1 + resamples): the scores, then their draws.
        n: Number of test questions.
        settings: Settings of the intervals.
    """

    score: str
    sizes: Array
    points: Array
    n: int
    settings: Settings

    @property
    def grid(self) -> Array:
        """Sizes to draw, shape (CURVE_POINTS,)."""
        return np.geomspace(self.sizes[0], 2 * self.sizes[-1], CURVE_POINTS)

    def estimate(self, values: Array) -> Estimate:
        """Return the first of `values`, shape (1 + resamples,), with the interval of the others."""
        return Estimate(float(values[0]), interval_of(values[1:], self.n, self.settings))

    def curve(self, values: Array) -> tuple[tuple[float, float, float, float], ...]:
        """Return size, score, low and high along the grid; `values`, on the scale of the fit, have its rows."""
        rows = [self.estimate(row) for row in _from_scale(values, self.score)]
        return tuple(
            (float(size), value, bound.low, bound.high) for size, (value, bound) in zip(self.grid, rows, strict=True)
        )


def series_of(cells: Sequence[Cell], chosen: Set[str] = frozenset()) -> dict[str, list[Cell]]:
    """Group trained cells that differ only in the number of examples, by ascending size, under the series' name.

    Args:
        cells: Cells of a family.
        chosen: Settings that were chosen for every size on its own, and so may differ.
    """
    grouped: dict[str, list[Cell]] = {}
    for cell in sorted((cell for cell in cells if cell.trains), key=lambda cell: cell.train_size):
        settings = sorted((k, v) for k, v in cell.settings.items() if not k.startswith("data.") and k not in chosen)
        grouped.setdefault(repr((cell.first.method, cell.first.model, settings)), []).append(cell)
    names: dict[str, list[Cell]] = {}
    for group in grouped.values():
        name = series_name(group[0])
        names[name if name not in names else f"{name} ({len(names) + 1})"] = group
    return names


def series_name(cell: Cell) -> str:
    """Return a cell's name without its data size."""
    return cell.name.replace(f"_{cell.first.data}", "", 1)


def fit_of(series: str, cells: Sequence[Cell], resampled: dict[str, Resampled], score: str, settings: Settings) -> Fit:
    """Fit one score over cells of ascending size."""
    having = [cell for cell in cells if cell.name in resampled]
    sizes = tuple(cell.train_size for cell in having)
    values = tuple(resampled[cell.name].value for cell in having)
    none = Fit(series, score, tuple(cell.name for cell in having), sizes, values)
    if len(having) < 2:
        return replace(none, no_fit=NoFit.ONE_SIZE)
    for first, second in pairwise(having):
        differences = unfair(first, second, score)
        if differences:
            unlike = (first.name, second.name)
            return replace(none, no_fit=NoFit.NOT_COMPARABLE, unlike=unlike, differences=differences)
    draws = np.stack([mean_draws(resampled[cell.name], settings) for cell in having])
    points = _to_scale(np.concatenate([np.array(values)[:, None], draws], axis=1), score)
    fitted = _Fitted(score, np.array(sizes, dtype=float), points, resampled[having[0].name].n, settings)
    if len(having) < SIZES_FOR_POWER_LAW:
        return _as_line(none, fitted)
    # A score that is better lower is negated, so that it rises.
    parameters, inside = power_law(fitted.sizes, score_info(score).sign * points)
    share = float(inside[1:].mean())
    if share >= settings.level and inside[0]:
        return _as_power_law(none, fitted, parameters)
    return replace(_as_line(none, fitted), without_power_law=1 - share)


def power_law(sizes: Array, points: Array) -> tuple[Array, Array]:
    """Return offset, factor and exponent, shape (3, m), of the best fits, and which fits do not exist, shape (m,).

    Args:
        sizes: Shape (k,), at least three.
        points: Shape (k, m): m sets of scores.
    """
    best = np.full(points.shape[1], np.inf)
    found = np.zeros((3, points.shape[1]))
    scaled = sizes / sizes[0]
    for exponent in EXPONENTS:
        design = np.stack([np.ones_like(scaled), -(scaled**-exponent)], axis=1)
        solution = np.linalg.pinv(design) @ points
        error = ((design @ solution - points) ** 2).sum(axis=0)
        better = error < best
        best = np.where(better, error, best)
        curve = np.stack([solution[0], solution[1] * sizes[0] ** exponent, np.full_like(best, exponent)])
        found = np.where(better, curve, found)
    inside = (found[1] > 0) & (found[2] > EXPONENTS[0]) & (found[2] < EXPONENTS[-1])
    return found, inside


def _as_power_law(fit: Fit, fitted: _Fitted, upright: Array) -> Fit:
    """Return the fit with offset, factor and exponent, shape (3, 1 + resamples), of a score that rises."""
    sign = score_info(fit.score).sign
    offset, factor, exponent = sign * upright[0], upright[1], upright[2]
    named = {"offset": offset, "factor": factor, "exponent": exponent}
    return replace(
        fit,
        model=Curve.POWER_LAW,
        parameters={name: fitted.estimate(row) for name, row in named.items()},
        curve=fitted.curve(offset - sign * factor * fitted.grid[:, None] ** -exponent),
        limit=fitted.estimate(_from_scale(offset, fit.score)),
        tested=len(fit.sizes) > SIZES_FOR_POWER_LAW,
    )


def _as_line(fit: Fit, fitted: _Fitted) -> Fit:
    sizes = np.stack([np.ones_like(fitted.sizes), np.log2(fitted.sizes)], axis=1)
    offset, slope = np.linalg.pinv(sizes) @ fitted.points
    return replace(
        fit,
        model=Curve.LOG_LINEAR,
        parameters={"offset": fitted.estimate(offset), "per_doubling": fitted.estimate(slope)},
        curve=fitted.curve(offset + slope * np.log2(fitted.grid)[:, None]),
    )


def _to_scale(points: Array, score: str) -> Array:
    """Return scores, shape (k, 1 + m), on the scale of the fit: a perplexity by its logarithm.

    Draws deviate there by their relative deviation (delta method), since a draw of a wide interval may be negative and
    has no logarithm.
    """
    if not score_info(score).per_tokenizer:
        return points
    values = points[:, :1]
    return np.asarray(np.log(values) + (points - values) / values)


def _from_scale(fitted: Array, score: str) -> Array:
    # The exponential of a steep line may overflow.
    raw = np.exp(np.minimum(fitted, 700.0)) if score_info(score).per_tokenizer else fitted
    return np.asarray(np.clip(raw, *score_info(score).limits))
