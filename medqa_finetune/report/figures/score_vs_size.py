"""A score against the number of training pairs, with intervals, the fitted curve and the baselines."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.ticker import FixedLocator, NullLocator

from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.report.figures.base import INK, Chart, legend_columns, legend_height, nothing_measured, short
from medqa_finetune.report.figures.cells import Cell, table_of
from medqa_finetune.report.figures.overview import MARKERS, apart
from medqa_finetune.report.groups import compact, training_items
from medqa_finetune.report.messages import label, score_axis, score_title
from medqa_finetune.report.stats.intervals import CellScore
from medqa_finetune.report.verdict import Fit

# Methods stand apart by this factor, so that their intervals do not lie on each other.
SHIFT = 1.06
BASELINE_DASHES: tuple[Any, ...] = ((0, (5, 2)), (0, (1.5, 1.5)))
Scores = dict[tuple[str, str], CellScore]


def score_against_size(
    cells: list[Cell], score: ScoreInfo, scores: Scores, fits: Sequence[Fit], *, palette: dict[str, Any], name: str
) -> Chart:
    """Return the chart of one score.

    Args:
        scores: Intervals by cell and score; a cell without one is drawn without.
        fits: Curves through cells of this group, for any score.
    """
    own = [fit for fit in fits if fit.score == score.name and fit.curve]
    measured = any((cell.name, score.name) in scores for cell in cells)
    intervals = label("chart.size.intervals" if measured else "chart.size.no_intervals")
    caption = label("chart.size.caption", intervals=intervals, better=label(score.better))
    return Chart(
        name=f"{name}{score.name}_by_data_size",
        title=label("chart.size", score=score_title(score.name)),
        caption=caption + label("chart.size.fitted") if own else caption,
        data=_data(cells, score, scores),
        draw=lambda axes: _draw(axes, (cells, score, scores), own, palette),
        height=3.4 + legend_height(sorted({cell.entry for cell in cells})),
        score=score.name,
    )


def _data(cells: list[Cell], score: ScoreInfo, scores: Scores) -> pd.DataFrame:
    table = table_of(cells, [score.name])
    found = [scores.get((cell.name, score.name)) for cell in cells]
    table["low"] = [each.interval.low if each else float("nan") for each in found]
    table["high"] = [each.interval.high if each else float("nan") for each in found]
    return table


def _draw(axes: Any, what: tuple[list[Cell], ScoreInfo, Scores], fits: list[Fit], palette: dict[str, Any]) -> None:
    cells, score, scores = what
    known = [cell for cell in cells if cell.measured(score.name)]
    sizes = sorted({cell.size for cell in cells if cell.size})
    if not known or not sizes:
        nothing_measured(axes)
        return
    entries = [entry for entry in palette if any(cell.entry == entry for cell in known)]
    for place, entry in enumerate(entries):
        shift = SHIFT ** (place - (len(entries) - 1) / 2)
        line = [cell for cell in known if cell.entry == entry]
        style = {"color": palette[entry], "marker": MARKERS[place % len(MARKERS)], "label": short(entry)}
        _draw_line(axes, line, (score.name, shift), scores, style)
        for fit in fits:
            if {cell.name for cell in line} >= set(fit.cells):
                pairs, values, low, high = zip(*fit.curve, strict=True)
                axes.plot(pairs, values, color=palette[entry], linewidth=0.8, alpha=0.8)
                axes.fill_between(pairs, low, high, color=palette[entry], alpha=0.1, linewidth=0)
    for place, cell in enumerate(cell for cell in known if not cell.size):
        axes.axhline(cell.mean(score.name), color=INK, linewidth=1.1, label=cell.entry,
                     linestyle=BASELINE_DASHES[place % len(BASELINE_DASHES)])  # fmt: skip
    axes.set(xlabel=training_items(score), ylabel=score_axis(score.name).en)
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 1.25, max(sizes) * (2.1 if fits else 1.25))
    axes.xaxis.set_major_locator(FixedLocator([float(size) for size in apart(sizes)]))
    axes.xaxis.set_major_formatter(lambda value, _: compact(round(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.figure.legend(loc="outside lower center", ncols=legend_columns(sorted({cell.entry for cell in known})))


def _draw_line(axes: Any, line: list[Cell], where: tuple[str, float], scores: Scores, style: dict[str, Any]) -> None:
    column, shift = where
    axes.plot([cell.size * shift for cell in line], [cell.mean(column) for cell in line], linewidth=1.8, markersize=6,
              **style)  # fmt: skip
    for cell in line:
        found = scores.get((cell.name, column))
        if found:
            axes.vlines(cell.size * shift, found.interval.low, found.interval.high, color=style["color"], linewidth=2,
                        alpha=0.75)  # fmt: skip
        if len(cell.runs) > 1:
            axes.plot([cell.size * shift] * len(cell.runs), cell.runs[column].astype(float), ".", color=INK,
                      markersize=3)  # fmt: skip
