"""Bar charts of costs (memory, time and throughput), and of any other column of the table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from medqa_finetune.report.figures.base import (
    INK,
    LINE,
    NOT_MEASURED,
    Chart,
    ChartInput,
    Style,
    hint,
    nothing_measured,
    table_of,
)
from medqa_finetune.report.figures.numbers import amount, tick
from medqa_finetune.report.messages import label
from medqa_finetune.report.names import two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.intervals import Interval

INCHES_PER_BAR, TWO_LINES_INCHES = 0.27, 0.36
# Share of a row that its bar takes.
BAR_HEIGHT = 0.72
# Share of the longest bar that the number behind it takes.
NUMBER_SHARE = 0.24
MOST_TICKS = 5
MISSING = "no run is done"


@dataclass(frozen=True)
class Measure:
    """Quantity of a bar chart: a column of the table, divided by `unit`, and its axis label."""

    column: str
    axis: str
    unit: float = 1.0


@dataclass(frozen=True)
class Bar:
    """A bar of a chart; `cell` is None for a missing cell, which keeps its place."""

    label: str
    colour: str
    cell: Cell | None


def charts(given: ChartInput) -> Iterator[Chart]:
    """Yield peak memory (of the GPU if measured, else of the process), training time and throughput."""
    trained = [cell for cell in given.cells if cell.train_size and cell.measured("train_seconds")]
    bars = [Bar(cell.label, given.palette[cell.entry], cell) for cell in trained]
    for measure in measures_of(trained):
        yield Chart(
            name=f"{given.prefix}{measure.column}",
            section="cost",
            title=label(f"chart.{measure.column}"),
            caption=label(f"chart.{measure.column}.caption") + label("chart.bars.caption"),
            data=table_of(trained, [measure.column]),
            draw=lambda axes, measure=measure: draw_bars(axes, bars, measure),  # type: ignore[misc]
            legend=bar_marks(bars, [measure]),
            handles=partial(mark_handles, bar_marks(bars, [measure])),
            height=0.8 + row_inches(INCHES_PER_BAR, bars) * max(3, len(trained)),
        )


def measures_of(cells: Sequence[Cell]) -> tuple[Measure, Measure, Measure]:
    """Return the measures of memory, time and throughput for trained cells."""
    on_gpu = any(cell.measured("peak_vram_gib") for cell in cells)
    memory = (
        Measure("peak_vram_gib", "Peak GPU memory (GiB)")
        if on_gpu
        else Measure("peak_rss_gib", "Peak memory of the process (GiB)")
    )
    seconds = max((cell.mean("train_seconds") for cell in cells), default=0.0)
    return memory, time_of(seconds), Measure("train_tokens_per_second", "Tokens a second")


def time_of(seconds: float) -> Measure:
    """Return training time in a unit that suits the longest of `seconds`."""
    word, unit = ("Seconds", 1.0) if not seconds >= 300 else ("Minutes", 60.0) if seconds < 7200 else ("Hours", 3600.0)
    return Measure("train_seconds", f"{word} of training", unit)


def row_inches(least: float, bars: Sequence[Bar]) -> float:
    """Return the height of a bar's row in inches: `least`, or more where a label takes two lines."""
    return max(least, TWO_LINES_INCHES) if any("\n" in two_lines(bar.label) for bar in bars) else least


def bar_marks(bars: Sequence[Bar], measures: Sequence[Measure]) -> list[str]:
    """Return what the legend of bar charts must explain: the marks of cells without a value."""
    known = [[bar.cell.measured(each.column) for each in measures] for bar in bars if bar.cell is not None]
    marks = [MISSING] if any(bar.cell is None for bar in bars) else []
    # A chart without any value says so itself.
    some = [any(own[at] for own in known) for at in range(len(measures))]
    return [*marks, NOT_MEASURED] if any(not own[at] for own in known for at in range(len(some)) if some[at]) else marks


def mark_handles(marks: Sequence[str]) -> list[Artist]:
    """Return the handles of `bar_marks` for a legend."""
    style: Style = {"linestyle": "none", "color": INK, "markersize": 7}
    return [Line2D([], [], marker="x" if words == MISSING else "$–$", label=words, **style) for words in marks]


def draw_bars(
    axes: Axes, bars: Sequence[Bar], measure: Measure, intervals: Mapping[str, Interval] | None = None
) -> None:
    """Draw one horizontal bar per cell: the mean over seeds, with its interval, else one standard deviation, as a line.

    Args:
        axes: Axes to draw on.
        bars: The bars, from top to bottom.
        measure: What they show.
        intervals: Confidence intervals by the cell's name, if there are any.
    """
    if not any(bar.cell is not None and bar.cell.measured(measure.column) for bar in bars):
        nothing_measured(axes)
        return
    ends = [0.0]
    for place, bar in enumerate(bars):
        if bar.cell is None or not bar.cell.measured(measure.column):
            style: Style = {"color": bar.colour, "markersize": 7, "markeredgewidth": 2}
            style |= {"marker": "x"} if bar.cell is None else {"marker": "$–$", "color": INK, "markeredgewidth": 0.5}
            axes.plot(0.03, place, transform=axes.get_yaxis_transform(), **style)
        else:
            interval = None if intervals is None else intervals.get(bar.cell.name)
            ends += _draw_bar(axes, place, (bar.label, bar.colour, bar.cell), (measure, interval))
    low, high = min(ends), max(ends)
    if low == high:
        high = 1.0
    # Room for the numbers behind the ends.
    room = NUMBER_SHARE * (high - low)
    axes.set(xlim=(low - room if low < 0 else 0.0, high + room if high > 0 else 0.0))
    axes.set_yticks(range(len(bars)), [two_lines(bar.label) for bar in bars])
    axes.set(ylim=(len(bars) - 0.4, -0.6), xlabel=measure.axis)
    axes.grid(visible=False, axis="y")
    axes.spines["bottom"].set_color(LINE)
    axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS))
    axes.xaxis.set_major_formatter(lambda value, _: tick(value))


def _draw_bar(
    axes: Axes, place: int, bar: tuple[str, str, Cell], what: tuple[Measure, Interval | None]
) -> tuple[float, float]:
    """Draw a bar with its line and number; return its ends."""
    (name, colour, cell), (measure, interval) = bar, what
    value, sd = cell.mean(measure.column) / measure.unit, cell.sd(measure.column) / measure.unit
    (mark,) = axes.barh(place, value, height=BAR_HEIGHT, color=colour)
    low = high = value
    spread = ""
    if interval is not None:
        low, high = interval.low / measure.unit, interval.high / measure.unit
        spread = f" [{amount(low)}, {amount(high)}]"
    elif not math.isnan(sd):
        low, high = value - sd, value + sd
        spread = f" ± {amount(sd)}"
    hint(mark, f"{name}: {amount(value)}{spread}")
    if high > low:
        axes.plot([low, high], [place, place], color="#000000", linewidth=1)
    low, high = min(low, value), max(high, value)
    left = value < 0
    style: Style = {"xytext": (-4 if left else 4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
    axes.annotate(amount(value), (low if left else high, place), ha="right" if left else "left", **style)
    return low, high
