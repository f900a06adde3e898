"""Draws a score against the number of training examples, with intervals, the fitted curve and the baselines."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from medqa_finetune.evaluation.metric_registry import headlines
from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.report.figures.base import INK, MARKERS, Chart, ChartInput, Style, nothing_measured, table_of
from medqa_finetune.report.figures.numbers import tick
from medqa_finetune.report.messages import label, score_axis, score_title
from medqa_finetune.report.names import size_tick, training_items, two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.verdict import Fit

# Horizontal offset factor between methods, so that their intervals do not overlap; all together at most this share of
# the gap between two sizes.
SHIFT, MOST_OF_GAP = 1.06, 0.2
# From this ratio of its largest to its smallest value, an axis of perplexities is logarithmic.
LOGARITHMIC = 10.0
# Tick labels closer than this share of a decade would overlap.
TICK_GAP = 0.07
# Lengths of a dash and its gap; baselines of one value take turns.
DASH, CLOSE = 5.0, 0.004


def charts(given: ChartInput) -> Iterator[Chart]:
    """Yield a chart of every measured score, or of the usual scores if none was measured."""
    for score in given.measured_scores or headlines()[:2]:
        yield score_against_size(given, score)


def score_against_size(given: ChartInput, score: ScoreInfo) -> Chart:
    """Return the chart of one score; cells without an interval are drawn without error bars."""
    fits = [fit for fit in given.fits if fit.score == score.name and fit.curve]
    measured = any((cell.name, score.name) in given.scores for cell in given.cells)
    intervals = label("chart.size.intervals" if measured else "chart.size.no_intervals")
    caption = label("chart.size.caption", intervals=intervals, better=label(score.better))
    return Chart(
        name=f"{given.prefix}{score.name}_by_data_size",
        section="size",
        title=label("chart.size", score=score_title(score.name)),
        caption=caption + label("chart.size.fitted") if fits else caption,
        data=_data(given, score),
        draw=lambda axes: _draw(axes, given, score, fits),
        legend=sorted({cell.entry for cell in given.cells}),
        height=3.4,
        score=score.name,
    )


def _data(given: ChartInput, score: ScoreInfo) -> pd.DataFrame:
    table = table_of(given.cells, [score.name])
    found = [given.scores.get((cell.name, score.name)) for cell in given.cells]
    table["low"] = [each.interval.low if each else float("nan") for each in found]
    table["high"] = [each.interval.high if each else float("nan") for each in found]
    return table


def _draw(axes: Axes, given: ChartInput, score: ScoreInfo, fits: Sequence[Fit]) -> None:
    palette = given.palette
    known = [cell for cell in given.cells if cell.measured(score.name)]
    sizes = sorted({cell.train_size for cell in given.cells if cell.train_size})
    if not known or not sizes:
        nothing_measured(axes)
        return
    entries = [entry for entry in palette if any(cell.entry == entry for cell in known)]
    step = _shift(sizes, len(entries))
    for place, entry in enumerate(entries):
        shift = step ** (place - (len(entries) - 1) / 2)
        line = [cell for cell in known if cell.entry == entry]
        style: Style = {"color": palette[entry], "marker": MARKERS[place % len(MARKERS)], "label": two_lines(entry)}
        _draw_line(axes, line, (score.name, shift), given, style)
        for fit in fits:
            if {cell.name for cell in line} >= set(fit.cells):
                at, values, low, high = zip(*fit.curve, strict=True)
                axes.plot(at, values, color=palette[entry], linewidth=0.8, alpha=0.8)
                axes.fill_between(at, low, high, color=palette[entry], alpha=0.1, linewidth=0)
    baselines = [cell for cell in known if not cell.train_size]
    for cell, dashes in zip(baselines, _dashes([cell.mean(score.name) for cell in baselines]), strict=True):
        style = {"color": INK, "linewidth": 1.1, "linestyle": dashes}
        axes.axhline(cell.mean(score.name), label=two_lines(cell.entry), **style)
    axes.set(xlabel=training_items(score), ylabel=score_axis(score.name).en)
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 1.25, max(sizes) * (2.1 if fits else 1.25))
    axes.xaxis.set_major_locator(FixedLocator([float(size) for size in ticks_of(sizes)]))
    axes.xaxis.set_major_formatter(lambda value, _: size_tick(round(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    means = [cell.mean(score.name) for cell in known]
    if score.per_tokenizer and min(means) > 0 and max(means) / min(means) >= LOGARITHMIC:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: tick(value))


def _shift(sizes: Sequence[int], count: int) -> float:
    gaps = [math.log(high / low) for low, high in pairwise(sizes)]
    return math.exp(min([math.log(SHIFT), *(MOST_OF_GAP * gap / max(1, count - 1) for gap in gaps)]))


def _dashes(values: Sequence[float]) -> list[tuple[float, tuple[float, ...]]]:
    """Return a dash pattern for each baseline: its own, and in turn with others of about the same value."""
    largest = max(map(abs, values), default=0.0)
    patterns: list[tuple[float, tuple[float, ...]]] = []
    for at, value in enumerate(values):
        same = [other for other, near in enumerate(values) if abs(near - value) <= CLOSE * largest]
        length = DASH if at % 2 == 0 else DASH / 3
        gap = 0.4 * DASH if len(same) == 1 else DASH * (len(same) - 1)
        own = length if len(same) == 1 else DASH
        patterns.append((DASH * same.index(at), (own, gap)))
    return patterns


def _draw_line(axes: Axes, line: Sequence[Cell], where: tuple[str, float], given: ChartInput, style: Style) -> None:
    column, shift = where
    at = [cell.train_size * shift for cell in line]
    axes.plot(at, [cell.mean(column) for cell in line], linewidth=1.8, markersize=6, **style)
    for cell, place in zip(line, at, strict=True):
        found = given.scores.get((cell.name, column))
        if found:
            bar: Style = {"color": style["color"], "linewidth": 2, "alpha": 0.75}
            axes.vlines(place, found.interval.low, found.interval.high, **bar)
        if len(cell.runs) > 1:
            axes.plot([place] * len(cell.runs), cell.column(column), ".", color=INK, markersize=3)


def ticks_of(sizes: Sequence[int]) -> list[int]:
    """Return the sizes whose tick labels do not overlap on a logarithmic axis, always including the smallest."""
    gap = (max(sizes) * 1.25**2 / min(sizes)) ** TICK_GAP
    kept: list[int] = []
    for size in sizes:
        if not kept or size >= kept[-1] * gap:
            kept.append(size)
    return kept
