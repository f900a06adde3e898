"""A score against the number of training pairs: a power law with an offset where the sizes bear it, else a line.

The power law, `offset - factor * pairs ** -exponent`, is how scores grow with data in many tasks (Hestness et al. 2017,
arXiv:1712.00409; Rosenfeld et al. 2020, arXiv:1909.12673). It has three parameters: three sizes fix it exactly and test
nothing, so it counts as supported only where it exists in nearly every resample, i.e. where each step up is surely
positive and surely smaller than the one before would make it on a logarithmic scale.

Of a perplexity, which is the exponential of a mean loss, the logarithm is fitted: no curve then leads below 0. What a
curve says of a score beyond what that score can be is cut there.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from medqa_finetune.report.cells import Cell
from medqa_finetune.report.fairness import unfair
from medqa_finetune.report.resampling import Array
from medqa_finetune.report.scores import score_name, title
from medqa_finetune.report.statistics import Drawn, Interval, Settings, interval_of, mean_draws
from medqa_finetune.report.verdict import Fit
from medqa_finetune.report.words import Text, signed, span

# Exponents tried. Beyond the last, twice the data would have nothing left to add; before the first, the curve is a line
# over the logarithm of the size. A fit at either end is none.
EXPONENTS = np.geomspace(0.02, 5.0, 120)
SIZES_FOR_POWER_LAW = 3
CURVE_POINTS = 33


def series_of(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return trained cells that differ in nothing but the number of pairs, by rising size, under a name."""
    grouped: dict[str, list[Cell]] = {}
    for cell in sorted((cell for cell in cells if cell.trains), key=lambda cell: cell.train_size):
        settings = sorted((k, v) for k, v in cell.settings.items() if not k.startswith("data."))
        grouped.setdefault(repr((cell.first.method, cell.first.model, settings)), []).append(cell)
    names: dict[str, list[Cell]] = {}
    for group in grouped.values():
        name = series_name(group[0])
        names[name if name not in names else f"{name} ({len(names) + 1})"] = group
    return names


def series_name(cell: Cell) -> str:
    """Return a cell's name without its data size."""
    return cell.name.replace(f"_{cell.first.data}", "", 1)


def fit_of(series: str, cells: Sequence[Cell], drawn: dict[str, Drawn], score: str, settings: Settings) -> Fit:
    """Return the fit of one score over cells of rising size."""
    having = [cell for cell in cells if cell.name in drawn]
    sizes = tuple(cell.train_size for cell in having)
    values = tuple(drawn[cell.name].value for cell in having)

    none = Fit(series, score, tuple(cell.name for cell in having), sizes, values, None, {}, (), Text("", ""))
    if len(having) < 2:
        text = Text(f"{series}: one size, nothing to fit.", f"{series}：只有一种数据量，无从拟合。")
        return replace(none, text=text)
    for first, second in pairwise(having):
        fault = unfair(first, second, score)
        if fault is not None:
            head = Text(
                f"{series}: no fit, {first.name} and {second.name} do not compare.",
                f"{series}：不作拟合，{first.name} 与 {second.name} 不可比。",
            )
            return replace(none, text=head + fault)
    draws = np.stack([mean_draws(drawn[cell.name], settings) for cell in having])
    points = _to_scale(np.concatenate([np.array(values)[:, None], draws], axis=1), score)
    x, n = np.array(sizes, dtype=float), drawn[having[0].name].n
    bears, share = Text("", ""), 0.0
    if len(having) >= SIZES_FOR_POWER_LAW:
        # A score that falls, the lower the better, is a score that rises, upside down.
        parameters, inside = power_law(x, score_name(score).sign * points)
        share = float(inside[1:].mean())
        if share >= settings.level and inside[0]:
            return _as_power_law(none, (x, parameters, n), settings)
        bears = _unsupported(len(having), 1 - share)
    return _as_line(none, (x, points, n, bears), settings)


def power_law(sizes: Array, points: Array) -> tuple[Array, Array]:
    """Return offset, factor and exponent, shape (3, m), of the closest curves, and which are none, shape (m,).

    Args:
        sizes: Shape (k,), three at least.
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


def _as_power_law(fit: Fit, found: tuple[Array, Array, int], settings: Settings) -> Fit:
    series, score = fit.series, fit.score
    sizes, parameters, n = found
    sign = score_name(score).sign
    parameters = np.stack([sign * parameters[0], parameters[1], parameters[2]])
    grid = _grid(sizes)
    curves = _from_scale(parameters[0] - sign * parameters[1] * grid[:, None] ** -parameters[2], score)
    named = {
        name: (float(row[0]), interval_of(row[1:], n, settings))
        for name, row in zip(("offset", "factor", "exponent"), parameters, strict=True)
    }
    offset, exponent = named["offset"][0], named["exponent"]
    ends = _from_scale(parameters[0], score)
    limit, bound = float(ends[0]), interval_of(ends[1:], n, settings)
    mark, items = "-" if sign > 0 else "+", score_name(score).items.en
    rest = f"{named['factor'][0]:.3g}"
    fitted = f"log {title(score)}" if score_name(score).of_tokens else title(score)
    text = Text(
        f"{series}: {fitted} = {offset:.2f} {mark} {rest} * {items}^-{exponent[0]:.2f} (exponent "
        f"{span(exponent[1].low, exponent[1].high)}); however much data: {limit:.2f} {span(bound.low, bound.high)}.",
        f"{series}：{fitted} = {offset:.2f} {mark} {rest} × 数据量^-{exponent[0]:.2f}（指数 "
        f"{span(exponent[1].low, exponent[1].high)}）；数据再多也只到 {limit:.2f} {span(bound.low, bound.high)}。",
    )
    if len(sizes) == SIZES_FOR_POWER_LAW:
        text += Text("Three sizes fix this curve and cannot test it.", "三个点恰好定出这条曲线，无法检验它。")
    curve = _curve(grid, curves, n, settings)
    return replace(
        fit, model="power law", parameters=named, curve=curve, text=text + _beyond(score, (grid, curves), n, settings)
    )


def _as_line(fit: Fit, found: tuple[Array, Array, int, Text], settings: Settings) -> Fit:
    series, score = fit.series, fit.score
    sizes, points, n, bears = found
    offset, slope = np.linalg.pinv(np.stack([np.ones_like(sizes), np.log2(sizes)], axis=1)) @ points
    grid = _grid(sizes)
    curves = _from_scale(offset + slope * np.log2(grid)[:, None], score)
    gain, bound = float(slope[0]), interval_of(slope[1:], n, settings)
    known = bound.low > 0 or bound.high < 0
    growth = Text(": no growth shown.", "：未显示出增长。")
    if score_name(score).sign < 0:
        growth = Text(": no fall shown.", "：未显示出下降。")
    ends = (" (a line over log size).", "（对数数据量的直线）。") if known else (growth.en, growth.zh)
    if score_name(score).of_tokens:
        ends = (" (a line, log over log size).", "（双对数直线）。") if known else ends
        times, low, high = np.exp([gain, bound.low, bound.high])
        change = f"{title(score)} x {times:.2f} {span(low, high)}"
    else:
        change = f"{signed(gain)} {title(score)} {span(bound.low, bound.high)}"
    text = Text(
        f"{series}: {change} for each doubling of the data{ends[0]}",
        f"{series}：数据每翻一倍，{change}{ends[1]}",
    )
    named = {
        "offset": (float(offset[0]), interval_of(offset[1:], n, settings)),
        "per_doubling": (gain, bound),
    }
    curve = _curve(grid, curves, n, settings)
    return replace(
        fit,
        model="log-linear",
        parameters=named,
        curve=curve,
        text=text + bears + _beyond(score, (grid, curves), n, settings),
    )


def _unsupported(sizes: int, share: float) -> Text:
    return Text(
        f"{sizes} sizes cannot support a power law with an offset here: in {share:.0%} of the resamples there is none.",
        f"这里 {sizes} 个数据量撑不起带截距的幂律：{share:.0%} 的重抽样中拟合不出。",
    )


def _beyond(score: str, curve: tuple[Array, Array], n: int, settings: Settings) -> Text:
    (grid, curves), items = curve, score_name(score).items
    value, bound = float(curves[-1][0]), interval_of(curves[-1][1:], n, settings)
    size = f"{round(grid[-1]):,}"
    return Text(
        f"If it went on so, {size} {items.en} would give {value:.2f} {span(bound.low, bound.high)}.",
        f"若照此延伸，{size} {items.zh}数据将得到 {value:.2f} {span(bound.low, bound.high)}。",
    )


def _to_scale(points: Array, score: str) -> Array:
    """Return scores, shape (k, 1 + m), as they are fitted: a perplexity as its logarithm.

    What else it might have been deviates there by the relative deviation (delta method): a draw of a wide interval may
    be below 0, where no logarithm is.
    """
    if not score_name(score).of_tokens:
        return points
    values = points[:, :1]
    return np.asarray(np.log(values) + (points - values) / values)


def _from_scale(fitted: Array, score: str) -> Array:
    # The exponential of a line that leads steeply upwards may be more than a number holds.
    raw = np.exp(np.minimum(fitted, 700.0)) if score_name(score).of_tokens else fitted
    return np.asarray(np.clip(raw, *score_name(score).limits))


def _grid(sizes: Array) -> Array:
    return np.geomspace(sizes[0], 2 * sizes[-1], CURVE_POINTS)


def _curve(grid: Array, curves: Array, n: int, settings: Settings) -> tuple[tuple[float, float, float, float], ...]:
    bounds: list[Interval] = [interval_of(row[1:], n, settings) for row in curves]
    return tuple(
        (float(size), float(row[0]), bound.low, bound.high)
        for size, row, bound in zip(grid, curves, bounds, strict=True)
    )
