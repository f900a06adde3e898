"""Learning curves of all cells: losses over steps, and over tokens."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from medqa_finetune.errors import DataError
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record
from medqa_finetune.report.figures.base import INK, Chart, legend_columns, legend_height, nothing_measured, short
from medqa_finetune.report.figures.cells import Cell
from medqa_finetune.report.groups import compact
from medqa_finetune.report.messages import label
from medqa_finetune.report.words import Text

POINTS_PER_LINE = 150
COLUMNS = ["step", "tokens", "loss", "eval_loss"]
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
LOSSES = {"loss": "training", "eval_loss": "validation"}
OVER = {"step": "steps", "tokens": "tokens"}
AXIS = {"step": "Training step", "tokens": "Training tokens", "loss": "Training loss", "eval_loss": "Validation loss"}


@dataclass(frozen=True)
class Curve:
    """What the runs of a cell logged, as the mean over its seeds: `step`, `tokens`, `loss`, `eval_loss`, by step."""

    cell: Cell
    rows: pd.DataFrame


def curve_of(cell: Cell, logs: list[pd.DataFrame]) -> Curve:
    """Return the mean over seeds, step by step, of what `read_log` returned for each."""
    rows = pd.concat(logs) if logs else pd.DataFrame(columns=COLUMNS, dtype=float)
    return Curve(cell, rows.groupby("step", as_index=False).mean())


def read_log(folder: RunDir, record: Record) -> pd.DataFrame:
    """Read the losses that a run logged; tokens are steps times the mean tokens of a step of this run.

    A run without a log that can be read gives no rows.
    """
    try:
        logged = folder.read_metrics()
    except (DataError, OSError):
        logged = []
    rows: pd.DataFrame = pd.DataFrame(logged).reindex(columns=COLUMNS)
    rows = rows.apply(pd.to_numeric, errors="coerce").astype(float)
    train = record.train
    rows["tokens"] = rows["step"] * (train.tokens / train.steps) if train and train.steps else float("nan")
    return rows


def learning_curves(curves: list[Curve], palette: dict[str, Any], name: str) -> Iterator[Chart]:
    """Yield training and validation loss, each over steps and over tokens."""
    for loss, what in LOSSES.items():
        for over, words in OVER.items():
            yield Chart(
                name=f"{name}{what}_loss_over_{words}",
                title=label(f"chart.{loss}" if over == "step" else f"chart.{loss}.tokens"),
                caption=_caption(over),
                data=_data(curves, over, loss),
                draw=lambda axes, over=over, loss=loss: _draw(axes, curves, (over, loss), palette),  # type: ignore[misc]
                height=3.4 + legend_height(_labels(curves)),
            )


def _caption(over: str) -> Text:
    caption = label("chart.loss.caption")
    return caption + label("chart.loss.caption.tokens") if over == "tokens" else caption


def _data(curves: list[Curve], over: str, loss: str) -> pd.DataFrame:
    columns = ["cell", "seeds", over, loss]
    parts = [
        _points(curve, over, loss).assign(cell=curve.cell.name, seeds=len(curve.cell.runs))[columns] for curve in curves
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _points(curve: Curve, over: str, loss: str) -> pd.DataFrame:
    rows = curve.rows.dropna(subset=[over, loss])
    stride = max(1, -(-len(rows) // POINTS_PER_LINE))
    # Counted from the end: the last point is the one that is read off.
    return rows.iloc[::-1].iloc[::stride].iloc[::-1]


def _draw(axes: Any, curves: list[Curve], columns: tuple[str, str], palette: dict[str, Any]) -> None:
    over, loss = columns
    sizes = sorted({curve.cell.size for curve in curves})
    entries = list(dict.fromkeys(curve.cell.entry for curve in curves))
    drawn = 0
    for curve in curves:
        points = _points(curve, over, loss)
        drawn += len(points)
        # Each method's lines are thinner than those below them, so that equal losses show as two lines.
        place = entries.index(curve.cell.entry)
        style = {
            "linewidth": max(1.0, 2.8 - 1.4 * place),
            "linestyle": DASHES[sizes.index(curve.cell.size) % len(DASHES)],
        }
        style |= {"marker": "o", "markersize": max(2.5, 5.5 - 2 * place)} if loss == "eval_loss" else {}
        axes.plot(points[over], points[loss], color=palette[curve.cell.entry], **style)
    if not drawn:
        nothing_measured(axes)
        return
    axes.set(xlabel=AXIS[over], ylabel=AXIS[loss])
    axes.xaxis.set_major_formatter(lambda value, _: compact(round(value)))
    axes.margins(x=0.02)
    handles = [Line2D([], [], color=palette[entry], linewidth=2.5, label=short(entry)) for entry in entries]
    handles += [
        Line2D([], [], color=INK, linestyle=DASHES[at % len(DASHES)], linewidth=1.3, label=compact(size))
        for at, size in enumerate(sizes)
    ]
    axes.figure.legend(handles=handles, ncols=legend_columns(_labels(curves)), loc="outside lower center")


def _labels(curves: list[Curve]) -> list[str]:
    entries = dict.fromkeys(curve.cell.entry for curve in curves)
    return [*entries, *(compact(size) for size in sorted({curve.cell.size for curve in curves}))]
