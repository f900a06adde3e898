"""Cost against score, with the Pareto front: the cells that no other beats in both."""

from typing import Any

import pandas as pd

from medqa_finetune.evaluation.metrics.base import Better
from medqa_finetune.report.figures.base import INK, Chart, hint, short
from medqa_finetune.report.figures.cells import Cell
from medqa_finetune.report.figures.overview import MARKERS
from medqa_finetune.report.messages import label, score_axis, score_title, text
from medqa_finetune.report.scores import score_info
from medqa_finetune.report.verdict import Front

# With more points than these, only those on the front are named.
MOST_LABELS = 24


def pareto_chart(front: Front, cells: list[Cell], palette: dict[str, Any], name: str) -> Chart:
    """Return the chart of one front; `cells` gives the points their names and colours."""
    lower = score_info(front.score).better is Better.LOWER
    return Chart(
        name=f"{name}{front.score}_by_{front.cost}",
        title=label("chart.pareto", score=score_title(front.score), cost=label(front.cost)),
        caption=label("chart.pareto.down" if lower else "chart.pareto.up") + label("chart.pareto.caption")
        + text(front),
        data=pd.DataFrame(
            [{"cell": point.cell, front.unit: point.cost, front.score: point.value, "on_front": point.on_front,
              "share_of_resamples_on_front": point.share} for point in front.points]
        ),
        draw=lambda axes: _draw(axes, front, {cell.name: cell for cell in cells}, palette),
        height=3.6,
    )  # fmt: skip


def _draw(axes: Any, front: Front, cells: dict[str, Cell], palette: dict[str, Any]) -> None:
    on_front = [point for point in front.points if point.on_front]
    axes.step([point.cost for point in on_front], [point.value for point in on_front], where="post", color=INK,
              linewidth=1, linestyle=(0, (4, 2)))  # fmt: skip
    entries = list(palette)
    # Labels stand above and below their marks in turn, so that neighbours do not print into each other.
    above = False
    for point in front.points:
        cell = cells.get(point.cell)
        called = cell.label if cell else point.cell
        colour = palette.get(cell.entry, INK) if cell else INK
        marker = MARKERS[entries.index(cell.entry) % len(MARKERS)] if cell and cell.entry in palette else "d"
        (mark,) = axes.plot(point.cost, point.value, marker, color=colour, markersize=8, markeredgewidth=1.6,
                            markerfacecolor=colour if point.on_front else "none")  # fmt: skip
        hint(mark, f"{called}: {point.value:.2f}, {point.cost:,.3g} {front.unit}; on the front in {point.share:.0%} of "
             "resamples")  # fmt: skip
        if point.on_front or len(front.points) <= MOST_LABELS:
            above = not above
            style = {"xytext": (6, 5 if above else -11), "textcoords": "offset points", "fontsize": 8}
            axes.annotate(short(called), (point.cost, point.value), **style)
    axes.margins(x=0.18, y=0.12)
    axes.set(xlabel=front.unit, ylabel=score_axis(front.score).en)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
