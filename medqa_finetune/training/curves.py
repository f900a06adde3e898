"""The plot of one training: losses on the left, learning rate on the right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medqa_finetune.compat.fonts import fonts, picture_language
from medqa_finetune.compat.pictures import picture
from medqa_finetune.languages.choice import chosen
from medqa_finetune.languages.zh.drawn import DRAWN
from medqa_finetune.record.files import write_bytes

DPI = 150

Row = Mapping[str, Any]  # a row of `metrics.jsonl`


def draw_curves(rows: Sequence[Row], title: str, endings: Sequence[str] = ("png",)) -> list[bytes]:
    """Draw the rows of `metrics.jsonl`: training and validation loss, and learning rate, over steps.

    Args:
        rows: The rows.
        title: Title of the picture.
        endings: Formats of the files whose contents are returned: `png`, `svg`, `pdf`.
    """
    # matplotlib's own font has no Chinese, and looking for one takes a moment.
    families: dict[str, Any] = {"font.family": fonts()} if chosen() == "zh" or not title.isascii() else {}
    style: Any = families | {"svg.fonttype": "none", "svg.hashsalt": title}
    with mpl.rc_context(style):
        figure = plot_curves(rows, title)
        return [picture(figure, ending, DPI) for ending in endings]


def write_curves(rows: Sequence[Row], title: str, paths: Sequence[Path]) -> None:
    """Write the picture of `draw_curves` to paths whose endings say how, each atomically."""
    pictures = draw_curves(rows, title, [path.suffix[1:] for path in paths])
    for path, content in zip(paths, pictures, strict=True):
        write_bytes(path, content)


def plot_curves(rows: Sequence[Row], title: str) -> Figure:
    """Return the figure that `draw_curves` saves."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate = figure.subplots(1, 2)
    step = _word("Training step")
    _line(loss, rows, "loss", _word("training"))
    _line(loss, rows, "eval_loss", _word("validation"), marker="o")
    loss.set(xlabel=step, ylabel=_word("Mean loss per answer token (nats)"), title=_word("Loss"))
    if loss.lines:
        loss.legend()
    rate_name = _word("Learning rate")
    _line(rate, rows, "learning_rate", rate_name, color="tab:green")
    rate.set(xlabel=step, ylabel=rate_name, title=rate_name, ylim=(0, None))
    for axes in (loss, rate):
        axes.grid(alpha=0.3)
    figure.suptitle(title, parse_math=False)
    return figure


def _word(english: str) -> str:
    return DRAWN[english] if picture_language() == "zh" else english


def _line(axes: Axes, rows: Sequence[Row], name: str, label: str, **style: Any) -> None:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)
