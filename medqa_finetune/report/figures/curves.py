"""Draws learning curves of all cells: losses over steps, and over tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from medqa_finetune.errors import DataError
from medqa_finetune.report.figures.base import INK, MARKERS, Chart, ChartInput, Palette, Style, nothing_measured
from medqa_finetune.report.messages import label
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.names import compact, size_tick, two_lines
from medqa_finetune.report.runs import Cell, Run

POINTS_PER_LINE = 150
# Marks on a line that tell it from another below it, and widths of the first and the last method's lines.
MARKS_PER_LINE = 8
WIDEST, THINNEST = 3.0, 1.0
# Maximum number of seeds in a mean curve: a thousand logs would take long to read.
MOST_SEEDS = 10
COLUMNS = ["step", "tokens", "loss", "eval_loss"]
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
LOSSES = {"loss": "training", "eval_loss": "validation"}
OVER = {"step": "steps", "tokens": "tokens"}
AXIS = {"step": "Training step", "tokens": "Training tokens", "loss": "Training loss", "eval_loss": "Validation loss"}


@dataclass(frozen=True)
class Curve:
    """A cell's log, averaged over its seeds: rows by step with `step`, `tokens`, `loss`, `eval_loss`."""

    cell: Cell
    rows: pd.DataFrame


def charts(given: ChartInput) -> Iterator[Chart]:
    """Yield training and validation loss, each over steps and over tokens."""
    curves = [curve_of(cell) for cell in given.cells if cell.train_size]
    return learning_curves([curve for curve in curves if not curve.rows.empty], given.palette, given.prefix)


def curve_of(cell: Cell) -> Curve:
    """Read the logs of a cell's runs and average them over seeds."""
    logs = [read_log(run) for run in cell.runs[:MOST_SEEDS]]
    return Curve(cell, pd.concat(logs).groupby("step", as_index=False).mean())


def read_log(run: Run) -> pd.DataFrame:
    """Read the logged losses of a run; tokens are steps times the run's mean tokens per step.

    A run without a readable log gives no rows.
    """
    try:
        logged = [] if run.folder is None else run.folder.read_metrics()
    except (DataError, OSError):
        logged = []
    rows: pd.DataFrame = pd.DataFrame(logged).reindex(columns=COLUMNS)
    rows = rows.apply(pd.to_numeric, errors="coerce").astype(float)
    train = run.known.train
    rows["tokens"] = rows["step"] * (train.tokens / train.steps) if train and train.steps else float("nan")
    return rows


def learning_curves(curves: Sequence[Curve], palette: Palette, prefix: str = "") -> Iterator[Chart]:
    """Yield the charts of curves, at least one of which has points."""
    entries = list(dict.fromkeys(curve.cell.entry for curve in curves))
    sizes = sorted({curve.cell.train_size for curve in curves})
    legend = [*dict.fromkeys(entries), *map(compact, sizes)]
    for loss, what in LOSSES.items():
        for over, words in OVER.items():
            data = _data(curves, over, loss)
            yield Chart(
                name=f"{prefix}{what}_loss_over_{words}",
                section="curves",
                title=label(f"chart.{loss}" if over == "step" else f"chart.{loss}.tokens"),
                caption=_caption(over),
                data=data,
                draw=lambda axes, over=over, loss=loss: _draw(axes, curves, (over, loss), palette),  # type: ignore[misc]
                legend=legend,
                handles=partial(_handles, entries, sizes, palette) if len(data) else list,
                height=3.4,
            )


def _caption(over: str) -> Text:
    caption = label("chart.loss.caption")
    return caption + label("chart.loss.caption.tokens") if over == "tokens" else caption


def _data(curves: Sequence[Curve], over: str, loss: str) -> pd.DataFrame:
    columns = ["cell", "seeds", over, loss]
    parts = [
        _points(curve, over, loss).assign(cell=curve.cell.name, seeds=len(curve.cell.runs))[columns] for curve in curves
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _points(curve: Curve, over: str, loss: str) -> pd.DataFrame:
    rows = curve.rows.dropna(subset=[over, loss])
    stride = max(1, -(-len(rows) // POINTS_PER_LINE))
    # Counted from the end, so that the last point is kept.
    return rows.iloc[::-1].iloc[::stride].iloc[::-1]


def _draw(axes: Axes, curves: Sequence[Curve], columns: tuple[str, str], palette: Palette) -> None:
    over, loss = columns
    sizes = sorted({curve.cell.train_size for curve in curves})
    entries = list(dict.fromkeys(curve.cell.entry for curve in curves))
    drawn = 0
    for curve in curves:
        points = _points(curve, over, loss)
        drawn += len(points)
        style = _line_style(entries.index(curve.cell.entry), len(entries), len(points), every=loss == "eval_loss")
        style["linestyle"] = DASHES[sizes.index(curve.cell.train_size) % len(DASHES)]
        axes.plot(points[over], points[loss], color=palette[curve.cell.entry], **style)
    if not drawn:
        nothing_measured(axes)
        return
    axes.set(xlabel=AXIS[over], ylabel=AXIS[loss])
    axes.xaxis.set_major_formatter(lambda value, _: compact(round(value)))
    axes.margins(x=0.02)


def _line_style(place: int, count: int, points: int, *, every: bool) -> Style:
    """Return a style that tells equal lines of several methods apart.

    Lines are thinner than those drawn before them, marks smaller and hollow after the first, and marks of long lines
    stand at points of their own.
    """
    share = place / max(1, count - 1)
    style: Style = {"linewidth": WIDEST - (WIDEST - THINNEST) * share, "marker": MARKERS[place % len(MARKERS)]}
    style |= {"markersize": 9 - 5 * share if every else 5, "markeredgewidth": 1.2}
    style |= {"markerfacecolor": "none"} if every and place < count - 1 else {}
    apart = max(1, points // MARKS_PER_LINE)
    return style if every else style | {"markevery": (place * apart // max(1, count) % max(1, points), apart)}


def _handles(entries: Sequence[str], sizes: Sequence[int], palette: Palette) -> list[Artist]:
    methods = [
        Line2D([], [], color=palette[entry], label=two_lines(entry), **_line_style(at, len(entries), 1, every=False))
        for at, entry in enumerate(entries)
    ]
    dashed = [
        Line2D([], [], color=INK, linestyle=DASHES[at % len(DASHES)], linewidth=1.3, label=size_tick(size))
        for at, size in enumerate(sizes)
    ]
    return [*methods, *dashed]
