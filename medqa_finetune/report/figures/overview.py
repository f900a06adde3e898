"""Pictures of the table: scores against data size, and what the methods cost. No state of matplotlib is changed."""

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from medqa_finetune.record.files import write_bytes
from medqa_finetune.report.figures.panels import (
    GREY,
    STYLE,
    bar_panels,
    colours,
    draw_bars,
    legend_handles,
    mark_missing,
    measured,
)
from medqa_finetune.report.groups import Group, compact, fonts, groups_of
from medqa_finetune.report.messages import panel_title

DATA_SCALE = "data_scale_comparison.png"
METHODS = "method_comparison.png"
MARKERS = "osD^vPX*"
DPI = 180
# Two ticks closer than this share of a decade would print into each other.
TICK_GAP = 0.07


def write_plots(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw both pictures into a folder, each atomically; return their paths, none where no tuned run is done.

    Runs are put into one panel only if model, corpus, study, test set, number of test questions and signatures agree.
    A picture that no longer has a run to show is removed: it would be of runs that are gone.

    Args:
        frame: As `report.table.results_table` makes it.
    """
    groups = groups_of(frame)
    if not groups:
        for name in (DATA_SCALE, METHODS):
            (folder / name).unlink(missing_ok=True)
        return []
    with _style():
        _save(data_scale_figure(groups), folder / DATA_SCALE)
        _save(method_figure(groups), folder / METHODS)
    return [folder / DATA_SCALE, folder / METHODS]


def data_scale_figure(groups: list[Group]) -> Figure:
    """Draw the headline scores against the number of training pairs or blocks, a row of panels per group."""
    figure = Figure(figsize=(9.6, 4.7 * len(groups)))
    for group, part in zip(groups, _parts(figure, len(groups)), strict=True):
        part.subplots_adjust(left=0.075, right=0.985, top=0.84, bottom=0.3, wspace=0.2)
        axes = list(part.subplots(1, len(group.scores), squeeze=False).flat)
        palette = colours(group)
        for ax, score in zip(axes, group.scores, strict=True):
            _draw_lines(ax, group, score.name, palette)
            ax.set(title=panel_title(score.name), xlabel=group.training_items, ylabel="Score")
        handles = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
        part.legend(
            handles.values(), handles.keys(), loc="lower center", bbox_to_anchor=(0.5, 0.1), ncols=min(5, len(handles))
        )
        _entitle(part, f"Score by training-set size: {group.title}", group.caption, width=150)
    return figure


def method_figure(groups: list[Group]) -> Figure:
    """Draw scores, memory, time and throughput as bars per method and data size, two rows of panels per group."""
    figure = Figure(figsize=(12.6, 7.4 * len(groups)))
    for group, part in zip(groups, _parts(figure, len(groups)), strict=True):
        part.subplots_adjust(left=0.055, right=0.985, top=0.88, bottom=0.145, wspace=0.2, hspace=0.42)
        axes = list(part.subplots(2, 3).flat)
        palette = colours(group)
        for ax, panel in zip(axes, bar_panels(group), strict=False):
            draw_bars(ax, group, panel, palette)
        for ax in axes[len(bar_panels(group)) :]:
            ax.axis("off")
        axes[-1].legend(
            handles=list(legend_handles(group, palette)), loc="center", title="Method", fontsize=10, title_fontsize=10
        )
        _entitle(part, f"Method comparison: {group.title}", group.caption, width=200)
    return figure


def _draw_lines(ax: Any, group: Group, column: str, palette: dict[str, Any]) -> None:
    tuned = measured(group.tuned, column)
    for place, (entry, colour) in enumerate(palette.items()):
        points = tuned[tuned["entry"] == entry]
        means = points.groupby("train_size")[column].mean()
        # Each line is thinner than the one below it, so that equal scores show as two lines.
        style = {"color": colour, "marker": MARKERS[place % len(MARKERS)], "label": entry}
        style |= {"linewidth": max(1.2, 2.6 - 0.9 * place), "markersize": max(5, 9 - 2.2 * place)}
        ax.plot(means.index.astype(float), means.to_numpy(), **style)
        if points["train_size"].duplicated().any():
            dots = {"color": colour, "markeredgecolor": "0.1", "markeredgewidth": 0.7, "markersize": 3.8, "zorder": 4}
            ax.plot(points["train_size"].astype(float), points[column], "o", **dots)
    base = measured(group.base, column)
    if len(base):
        ax.axhline(base[column].mean(), color=GREY, linestyle="--", linewidth=1.5, label="untuned base")
    elif not len(tuned):
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=GREY)
    _size_axis(ax, group.sizes)
    _draw_missing(ax, group, tuned, palette)


def _draw_missing(ax: Any, group: Group, tuned: pd.DataFrame, palette: dict[str, Any]) -> None:
    """Mark cells without a score in a strip of their own below the scores, where × cannot be read as one."""
    missing = [(entry, size) for entry in palette for size in group.sizes if not _has(tuned, entry, size)]
    if not missing:
        return
    rows = list(dict.fromkeys(entry for entry, _ in missing))
    share = 0.075 * len(rows)
    low, high = ax.get_ylim()
    ax.set_ylim(low - (high - low) * share / (1 - share), high)
    ax.add_patch(Rectangle((0, 0), 1, share, transform=ax.transAxes, facecolor="0.93", edgecolor="none", zorder=1.5))
    ax.text(0.012, share / 2, "missing", transform=ax.transAxes, va="center", fontsize=8, color=GREY)
    for entry, size in missing:
        mark_missing(ax, (float(size), 0.075 * (rows.index(entry) + 0.5)), palette[entry])


def _has(rows: pd.DataFrame, entry: str, size: int) -> bool:
    return bool(((rows["entry"] == entry) & (rows["train_size"] == size)).any())


def _size_axis(ax: Any, sizes: list[int]) -> None:
    ax.set_xscale("log")
    ax.set_xlim(min(sizes) / 1.25, max(sizes) * 1.25)
    ax.xaxis.set_major_locator(FixedLocator([float(size) for size in apart(sizes)]))
    ax.xaxis.set_major_formatter(lambda value, _: compact(round(value)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def apart(sizes: list[int]) -> list[int]:
    """Return the sizes whose tick labels stand clear of each other, the smallest always among them."""
    gap = (max(sizes) * 1.25**2 / min(sizes)) ** TICK_GAP
    kept: list[int] = []
    for size in sizes:
        if not kept or size >= kept[-1] * gap:
            kept.append(size)
    return kept


def _parts(figure: Figure, count: int) -> list[Any]:
    return list(figure.subfigures(count, 1, squeeze=False).flat)


def _entitle(part: Any, title: str, caption: str, width: int) -> None:
    part.suptitle(textwrap.fill(title, width // 2), x=0.5, y=0.98, va="top", fontsize=12, fontweight="bold")
    part.text(0.5, 0.012, textwrap.fill(caption, width), ha="center", va="bottom", fontsize=7.5, color="0.3")


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(), sns.axes_style("whitegrid"), mpl.rc_context(STYLE | {"font.family": fonts()}):
        yield


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    write_bytes(path, buffer.getvalue())
