"""What the cells cost: memory, time and throughput, a bar per cell."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medqa_finetune.report.figures.base import LINE, Chart, hint, nothing_measured, short
from medqa_finetune.report.figures.cells import Cell, table_of
from medqa_finetune.report.messages import label
from medqa_finetune.report.words import Text

INCHES_PER_BAR = 0.27


@dataclass(frozen=True)
class Cost:
    """What a chart of bars shows: a column of the table, divided by `unit`."""

    column: str
    axis: str
    unit: float = 1.0


def time_of(seconds: float) -> Cost:
    """Return training time in the unit in which the longest one, of `seconds`, reads well."""
    word, unit = ("Seconds", 1.0) if not seconds >= 300 else ("Minutes", 60.0) if seconds < 7200 else ("Hours", 3600.0)
    return Cost("train_seconds", f"{word} of training", unit)


def cost_bars(cells: list[Cell], palette: dict[str, Any], name: str) -> Iterator[Chart]:
    """Yield peak memory (the GPU's where it was measured, else the process's own), training time and throughput."""
    trained = [cell for cell in cells if cell.size and cell.measured("train_seconds")]
    on_gpu = any(cell.measured("peak_vram_gib") for cell in trained)
    longest = max((cell.mean("train_seconds") for cell in trained), default=0.0)
    costs = (
        Cost("peak_vram_gib", "Peak GPU memory (GiB)")
        if on_gpu
        else Cost("peak_rss_gib", "Peak memory of the process (GiB)"),
        time_of(longest),
        Cost("train_tokens_per_second", "Tokens a second"),
    )
    for cost in costs:
        yield Chart(
            name=f"{name}{cost.column}",
            title=label(f"chart.{cost.column}"),
            caption=_caption(cost.column),
            data=table_of(trained, [cost.column]),
            draw=lambda axes, cost=cost: _draw(axes, trained, cost, palette),  # type: ignore[misc]
            height=0.8 + INCHES_PER_BAR * max(3, len(trained)),
        )


def _caption(column: str) -> Text:
    return label(f"chart.{column}.caption") + label("chart.bars.caption")


def _draw(axes: Any, cells: list[Cell], cost: Cost, palette: dict[str, Any]) -> None:
    if not any(cell.measured(cost.column) for cell in cells):
        nothing_measured(axes)
        return
    for place, cell in enumerate(cells):
        value, sd = cell.mean(cost.column) / cost.unit, cell.sd(cost.column) / cost.unit
        if math.isnan(value):
            axes.text(0, place, "not measured", va="center", ha="left")
            continue
        (bar,) = axes.barh(place, value, height=0.72, color=palette[cell.entry])
        hint(bar, f"{cell.label}: {value:,.2f}" + ("" if math.isnan(sd) else f" ± {sd:,.2f}"))
        if not math.isnan(sd):
            axes.plot([value - sd, value + sd], [place, place], color="#000000", linewidth=1)
        end = value if math.isnan(sd) else value + sd
        style = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate(_short(value), (end, place), **style)
    axes.set_yticks(range(len(cells)), [short(cell.label) for cell in cells])
    axes.set(ylim=(len(cells) - 0.4, -0.6), xlabel=cost.axis)
    axes.margins(x=0.14)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.spines["bottom"].set_color(LINE)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
