"""Draws cost against score, with the Pareto front."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from medqa_finetune.evaluation.metrics.base import Better
from medqa_finetune.report.figures.base import INK, MARKERS, WIDTH, Chart, ChartInput, Palette, Style, hint
from medqa_finetune.report.figures.labels import LabelledPoint, height_for, label_points
from medqa_finetune.report.figures.lettering import letter
from medqa_finetune.report.figures.numbers import amount, tick
from medqa_finetune.report.messages import label, score_axis, score_title, text
from medqa_finetune.report.names import two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import score_info
from medqa_finetune.report.stats.intervals import CellScore, Interval
from medqa_finetune.report.verdict import Front, ParetoPoint

# With more points than this, only those on the front are labelled.
MOST_LABELS = 24
MARK_SIZE, RING = 8.0, 4.0
BASELINE_MARK = "d"
FRONT, BEHIND, INTERVAL, NO_ROOM = "on the front", "behind it", "confidence interval", "not every point has a label"
Scores = Mapping[tuple[str, str], CellScore]


def charts(given: ChartInput) -> Iterator[Chart]:
    """Yield one chart per Pareto front."""
    for front in given.fronts:
        yield pareto_chart(front, given.cells, given.palette, given.prefix, scores=given.scores)


def pareto_chart(
    front: Front, cells: Sequence[Cell], palette: Palette, prefix: str = "", *, scores: Scores | None = None
) -> Chart:
    """Return the chart of one front; `cells` supplies the points' names and colours, `scores` their intervals."""
    lower = score_info(front.score).better is Better.LOWER
    known = {cell.name: cell for cell in cells}
    intervals = [None if scores is None else scores.get((point.cell, front.score)) for point in front.points]
    data = {
        "cell": [point.cell for point in front.points],
        front.unit: [point.cost for point in front.points],
        front.score: [point.value for point in front.points],
        "low": [each.interval.low if each else None for each in intervals],
        "high": [each.interval.high if each else None for each in intervals],
        "on_front": [point.on_front for point in front.points],
        "share_of_resamples_on_front": [point.share for point in front.points],
    }
    caption = label("chart.pareto.down" if lower else "chart.pareto.up") + label("chart.pareto.caption")
    labels = _labels(front, known)
    if "" in labels:
        caption += label("chart.pareto.cut")
    # A mark needs as much room as a short label.
    room = [*filter(None, labels), *("mark" for _ in front.points)]
    entries = _entries(front, known, palette)
    bounds = [each.interval if each else None for each in intervals]
    measured = any(bounds)
    return Chart(
        name=f"{prefix}{front.score}_by_{front.cost}",
        section="pareto",
        title=label("chart.pareto", score=score_title(front.score), cost=label(front.cost)),
        caption=caption + text(front, {cell.name: cell.label for cell in cells}),
        data=pd.DataFrame(data),
        draw=lambda axes: _draw(axes, front, known, palette, bounds),
        finish=lambda axes: _add_labels(axes, front, labels, bounds),
        legend=[*entries, FRONT, BEHIND, *([INTERVAL] if measured else [])],
        handles=lambda: _handles(entries, palette, measured=measured),
        height=min(9.0, height_for(room, WIDTH - 0.7, 3.2) + 0.4),
    )


def _labels(front: Front, cells: Mapping[str, Cell]) -> list[str]:
    every = len(front.points) <= MOST_LABELS
    return [
        two_lines(cells[point.cell].label if point.cell in cells else point.cell) if every or point.on_front else ""
        for point in front.points
    ]


def _entries(front: Front, cells: Mapping[str, Cell], palette: Palette) -> list[str]:
    shown = dict.fromkeys(cells[point.cell].entry for point in front.points if point.cell in cells)
    return [*(entry for entry in palette if entry in shown), *(entry for entry in shown if entry not in palette)]


def _marker(entry: str, palette: Palette) -> str:
    return MARKERS[list(palette).index(entry) % len(MARKERS)] if entry in palette else BASELINE_MARK


def _handles(entries: Sequence[str], palette: Palette, *, measured: bool) -> list[Artist]:
    marks: Style = {"linestyle": "none", "markersize": 7, "markeredgewidth": 1.6}
    handles: list[Artist] = [
        Line2D([], [], marker=_marker(entry, palette), color=palette.get(entry, INK), label=two_lines(entry), **marks)
        for entry in entries
    ]
    line: Style = {"linewidth": 1, "linestyle": (0, (4, 2)), "markersize": 7, "markeredgewidth": 1.6}
    handles.append(Line2D([], [], marker="o", color=INK, label=FRONT, **line))
    handles.append(Line2D([], [], marker="o", color=INK, markerfacecolor="none", label=BEHIND, **marks))
    if measured:
        handles.append(Line2D([], [], marker="|", color=INK, label=INTERVAL, linestyle="none", markersize=10))
    return handles


def _draw(
    axes: Axes, front: Front, cells: Mapping[str, Cell], palette: Palette, intervals: Sequence[Interval | None]
) -> None:
    on_front = [point for point in front.points if point.on_front]
    line: Style = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 2))}
    axes.step([point.cost for point in on_front], [point.value for point in on_front], where="post", **line)
    radii = _radii(front.points)
    for point, radius, found in zip(front.points, radii, intervals, strict=True):
        cell = cells.get(point.cell)
        name = cell.label if cell else point.cell
        colour = palette.get(cell.entry, INK) if cell else INK
        style: Style = {"color": colour, "markersize": 2 * radius, "markeredgewidth": 1.6}
        # Of points at one place, each but the first is a ring around those before it.
        filled = colour if point.on_front and 2 * radius == MARK_SIZE else "none"
        marker = _marker(cell.entry if cell else "", palette)
        (mark,) = axes.plot(point.cost, point.value, marker, markerfacecolor=filled, **style)
        if found is not None:
            axes.vlines(point.cost, found.low, found.high, color=colour, linewidth=1, alpha=0.6, zorder=1.8)
        share = f"on the front in {point.share:.0%} of resamples"
        hint(mark, f"{name}: {amount(point.value)}, {amount(point.cost)} {front.unit}; {share}")
    axes.margins(x=0.18, y=0.12)
    axes.set(xlabel=front.unit, ylabel=score_axis(front.score).en)
    # The margin left of nothing spent has no meaning.
    axes.xaxis.set_major_formatter(lambda value, _: tick(value) if value >= 0 else "")
    axes.yaxis.set_major_formatter(lambda value, _: tick(value))


def _radii(points: Sequence[ParetoPoint]) -> list[float]:
    """Return the radius of each mark, in points: of marks at one place, each is larger than those before it."""
    places = [(point.cost, point.value) for point in points]
    return [(MARK_SIZE + RING * places[:at].count(place)) / 2 for at, place in enumerate(places)]


def _add_labels(axes: Axes, front: Front, labels: Sequence[str], intervals: Sequence[Interval | None]) -> None:
    radii = _radii(front.points)
    points = [
        LabelledPoint(point.cost, point.value, words, radius + 0.8)
        for point, words, radius in zip(front.points, labels, radii, strict=True)
    ]
    on_front = [point for point in front.points if point.on_front]
    corners = [(before.cost, before.value, after.cost, after.value) for before, after in pairwise(on_front)]
    steps = [segment for x, y, to_x, to_y in corners for segment in (((x, y), (to_x, y)), ((to_x, y), (to_x, to_y)))]
    bars = [
        ((point.cost, each.low), (point.cost, each.high))
        for point, each in zip(front.points, intervals, strict=True)
        if each is not None
    ]
    if label_points(axes, points, [*steps, *bars]):
        letter(axes.text(1, 1.005, NO_ROOM, transform=axes.transAxes, ha="right", va="bottom", fontsize=6.5))
