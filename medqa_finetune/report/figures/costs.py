"""Bar charts of costs (memory, time and throughput), and of any other column of the table."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from medqa_finetune.report.figures.base import LINE, Chart, ChartInput, Style, hint, nothing_measured, table_of
from medqa_finetune.report.messages import label
from medqa_finetune.report.names import two_lines
from medqa_finetune.report.runs import Cell

INCHES_PER_BAR = 0.27


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
            height=0.8 + INCHES_PER_BAR * max(3, len(trained)),
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


def draw_bars(axes: Axes, bars: Sequence[Bar], measure: Measure) -> None:
    """Draw one horizontal bar per cell: the mean over seeds, with an error bar of one standard deviation."""
    if not any(bar.cell is not None and bar.cell.measured(measure.column) for bar in bars):
        nothing_measured(axes)
        return
    for place, bar in enumerate(bars):
        if bar.cell is None:
            style: Style = {"color": bar.colour, "markersize": 7, "markeredgewidth": 2}
            axes.plot(0.02, place, "x", transform=axes.get_yaxis_transform(), **style)
        else:
            _draw_bar(axes, place, (bar.label, bar.colour, bar.cell), measure)
    axes.set_yticks(range(len(bars)), [two_lines(bar.label) for bar in bars])
    axes.set(ylim=(len(bars) - 0.4, -0.6), xlabel=measure.axis)
    axes.margins(x=0.14)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.spines["bottom"].set_color(LINE)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")


def _draw_bar(axes: Axes, place: int, bar: tuple[str, str, Cell], measure: Measure) -> None:
    name, colour, cell = bar
    value, sd = cell.mean(measure.column) / measure.unit, cell.sd(measure.column) / measure.unit
    if math.isnan(value):
        axes.text(0, place, "not measured", va="center", ha="left")
        return
    (mark,) = axes.barh(place, value, height=0.72, color=colour)
    hint(mark, f"{name}: {value:,.2f}" + ("" if math.isnan(sd) else f" ± {sd:,.2f}"))
    end = value
    if not math.isnan(sd):
        axes.plot([value - sd, value + sd], [place, place], color="#000000", linewidth=1)
        end = value + sd
    style: Style = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
    axes.annotate(_short(value), (end, place), **style)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
