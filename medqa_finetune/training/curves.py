"""The plot of one training: losses on the left, learning rate on the right."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Row = Mapping[str, Any]  # a row of `metrics.jsonl`


def draw_curves(rows: Sequence[Row], title: str) -> bytes:
    """Return a PNG of the rows of `metrics.jsonl`: training and validation loss, and learning rate, over steps."""
    buffer = io.BytesIO()
    plot_curves(rows, title).savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def plot_curves(rows: Sequence[Row], title: str) -> Figure:
    """Return the figure that `draw_curves` saves."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate = figure.subplots(1, 2)
    _line(loss, rows, "loss", "training")
    _line(loss, rows, "eval_loss", "validation", marker="o")
    loss.set(xlabel="optimizer step", ylabel="mean loss per answer token (nats)", title="Loss")
    if loss.lines:
        loss.legend()
    _line(rate, rows, "learning_rate", "learning rate", color="tab:green")
    rate.set(xlabel="optimizer step", ylabel="learning rate", title="Learning rate", ylim=(0, None))
    for axes in (loss, rate):
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


def _line(axes: Axes, rows: Sequence[Row], name: str, label: str, **style: Any) -> None:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)
