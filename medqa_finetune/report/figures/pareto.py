"""Draws cost against score, with the Pareto front."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from medqa_finetune.evaluation.metrics.base import Better
from medqa_finetune.report.figures.base import INK, MARKERS, Chart, ChartInput, Palette, Style, hint
from medqa_finetune.report.messages import label, score_axis, score_title, text
from medqa_finetune.report.names import two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import score_info
from medqa_finetune.report.verdict import Front

# With more points than this, only those on the front are labelled.
MOST_LABELS = 24


def charts(given: ChartInput) -> Iterator[Chart]:
    """Yield one chart per Pareto front."""
    for front in given.fronts:
        yield pareto_chart(front, given.cells, given.palette, given.prefix)


def pareto_chart(front: Front, cells: Sequence[Cell], palette: Palette, prefix: str = "") -> Chart:
    """Return the chart of one front; `cells` supplies the points' names and colours."""
    lower = score_info(front.score).better is Better.LOWER
    data = {
        "cell": [point.cell for point in front.points],
        front.unit: [point.cost for point in front.points],
        front.score: [point.value for point in front.points],
        "on_front": [point.on_front for point in front.points],
        "share_of_resamples_on_front": [point.share for point in front.points],
    }
    direction = label("chart.pareto.down" if lower else "chart.pareto.up")
    return Chart(
        name=f"{prefix}{front.score}_by_{front.cost}",
        section="pareto",
        title=label("chart.pareto", score=score_title(front.score), cost=label(front.cost)),
        caption=direction + label("chart.pareto.caption") + text(front),
        data=pd.DataFrame(data),
        draw=lambda axes: _draw(axes, front, {cell.name: cell for cell in cells}, palette),
        height=3.6,
    )


def _draw(axes: Axes, front: Front, cells: Mapping[str, Cell], palette: Palette) -> None:
    on_front = [point for point in front.points if point.on_front]
    line: Style = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 2))}
    axes.step([point.cost for point in on_front], [point.value for point in on_front], where="post", **line)
    entries = list(palette)
    # Labels alternate above and below their marks, so that neighbours do not overlap.
    above = False
    for point in front.points:
        cell = cells.get(point.cell)
        name = cell.label if cell else point.cell
        colour = palette.get(cell.entry, INK) if cell else INK
        marker = MARKERS[entries.index(cell.entry) % len(MARKERS)] if cell and cell.entry in palette else "d"
        style: Style = {"color": colour, "markersize": 8, "markeredgewidth": 1.6}
        filled = colour if point.on_front else "none"
        (mark,) = axes.plot(point.cost, point.value, marker, markerfacecolor=filled, **style)
        share = f"on the front in {point.share:.0%} of resamples"
        hint(mark, f"{name}: {point.value:.2f}, {point.cost:,.3g} {front.unit}; {share}")
        if point.on_front or len(front.points) <= MOST_LABELS:
            above = not above
            offset: Style = {"xytext": (6, 5 if above else -11), "textcoords": "offset points", "fontsize": 8}
            axes.annotate(two_lines(name), (point.cost, point.value), **offset)
    axes.margins(x=0.18, y=0.12)
    axes.set(xlabel=front.unit, ylabel=score_axis(front.score).en)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
