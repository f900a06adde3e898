"""One panel of bars: a figure per method and data size."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from medqa_finetune.report.groups import Group, compact
from medqa_finetune.report.messages import panel_title
from medqa_finetune.report.scores import headline_columns

GREY = "0.35"
# Okabe and Ito's palette as seaborn has it: ten colours that colour-blind readers can tell apart.
PALETTE = "colorblind"
USUAL_METHODS = ("lora", "qlora", "qlora_8bit", "full")
STYLE: dict[Any, Any] = {
    "axes.titlesize": 10.5, "axes.labelsize": 9.5, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "legend.fontsize": 9, "axes.edgecolor": "0.6", "grid.color": "0.9", "legend.frameon": False,
}  # fmt: skip
BAR_SPACE = 0.8
UPRIGHT_LABELS_UP_TO = 9
LABELS_UP_TO = 30


@dataclass(frozen=True)
class Panel:
    """What one panel shows: a column of the table, divided by `unit`."""

    column: str
    title: str
    unit: float = 1.0


def bar_panels(group: Group) -> list[Panel]:
    """Return the panels of a group: its headline scores, memory, time and throughput.

    Memory is the GPU's where it was measured, else the process's own.
    """
    on_gpu = group.tuned["peak_vram_gib"].notna().any()
    memory = (
        Panel("peak_vram_gib", "Peak GPU memory, allocated (GiB)")
        if on_gpu
        else Panel("peak_rss_gib", "Peak resident memory of the process (GiB)")
    )
    seconds = group.tuned["train_seconds"].max()
    word, unit = ("s", 1.0) if not seconds >= 300 else ("min", 60.0) if seconds < 7200 else ("h", 3600.0)
    return [
        *(Panel(score.name, panel_title(score.name)) for score in group.scores),
        memory,
        Panel("train_seconds", f"Training time ({word})", unit),
        Panel("train_tokens_per_second", "Training throughput (tokens/s)"),
    ]


def colours(group: Group) -> dict[str, Any]:
    """Return a colour per legend entry; the usual methods have the same one in every picture."""
    palette = sns.color_palette(PALETTE)
    usual = dict(zip(USUAL_METHODS, palette, strict=False))
    others = itertools.cycle(palette[len(USUAL_METHODS) :])
    return {entry: usual[entry] if entry in usual else next(others) for entry in group.entries}


def legend_handles(group: Group, palette: dict[str, Any]) -> Iterator[Any]:
    """Yield what the legend of the bars shows."""
    for entry, colour in palette.items():
        yield Patch(color=colour, label=entry)
    if len(group.base):
        yield Line2D([], [], color=GREY, linestyle="--", linewidth=1.5, label="untuned base")


def measured(rows: pd.DataFrame, column: str, unit: float = 1.0) -> pd.DataFrame:
    """Return the rows that have a value in `column`, as floats divided by `unit`."""
    kept = rows[rows[column].notna()]
    return kept.assign(**{column: kept[column].astype(float) / unit})


def draw_bars(ax: Any, group: Group, panel: Panel, palette: dict[str, Any]) -> None:
    """Draw one panel: mean per method and data size, each seed a dot where there are several, × where a cell lacks."""
    rows = measured(group.tuned, panel.column, panel.unit)
    rows = rows.assign(label=[compact(int(size)) for size in rows["train_size"]])
    labels, entries = [compact(size) for size in group.sizes], list(palette)
    ax.set(title=panel.title)
    if rows.empty:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=GREY)
        ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
        return
    shared = {"data": rows, "x": "label", "y": panel.column, "hue": "entry", "order": labels, "hue_order": entries,
              "ax": ax, "legend": False}  # fmt: skip
    sns.barplot(**shared, palette=palette, errorbar=None, width=BAR_SPACE, saturation=1)
    if rows.duplicated(["label", "entry"]).any():
        sns.stripplot(**shared, palette=dict.fromkeys(entries, "0.15"), dodge=True, jitter=False, size=3.5)
    base = measured(group.base, panel.column, panel.unit)
    if len(base) and panel.column in headline_columns():
        ax.axhline(base[panel.column].mean(), color=GREY, linestyle="--", linewidth=1.5)
    ax.set(xlabel=group.training_items, ylabel="")
    ax.grid(visible=False, axis="x")
    _write_values(ax, bars=len(labels) * len(entries))
    drawn = set(zip(rows["label"], rows["entry"], strict=True))
    for place, size in enumerate(labels):
        for turn, entry in enumerate(entries):
            if (size, entry) not in drawn:
                middle = place - BAR_SPACE / 2 + BAR_SPACE * (turn + 0.5) / len(entries)
                mark_missing(ax, (middle, 0.035), palette[entry])
    ax.set_xlim(-0.5, len(labels) - 0.5)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")


def mark_missing(ax: Any, place: tuple[float, float], colour: Any) -> None:
    """Draw × where a cell has no value: `place` is x in data, y as a share of the panel's height."""
    ax.plot(*place, marker="x", color=colour, markersize=7, markeredgewidth=2, transform=ax.get_xaxis_transform())


def _write_values(ax: Any, bars: int) -> None:
    if bars > LABELS_UP_TO:
        return
    upright = bars <= UPRIGHT_LABELS_UP_TO
    ax.margins(y=0.14 if upright else 0.24)
    for container in ax.containers:
        ax.bar_label(container, fmt=_short, fontsize=7.5, padding=4, rotation=0 if upright else 90)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
