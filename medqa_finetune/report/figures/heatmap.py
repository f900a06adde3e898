"""Draws heat maps of the matrix, one per score: methods as rows, data sizes as columns."""

import math
from collections.abc import Callable, Iterator, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.report.figures.base import Chart, ChartInput, Style, hint, table_of, text_colour
from medqa_finetune.report.messages import label, score_title
from medqa_finetune.report.names import compact, training_items, two_lines
from medqa_finetune.report.runs import Cell

# Monotonic in lightness, also for colour-blind readers.
MAP = colormaps["cividis"]
ROW_INCHES = 0.42


def charts(given: ChartInput) -> Iterator[Chart]:
    """Yield a heat map of every measured score."""
    for score in given.measured_scores:
        yield heat_map(given.cells, score, given.prefix)


def heat_map(cells: Sequence[Cell], score: ScoreInfo, prefix: str = "") -> Chart:
    """Return the heat map of one score; a baseline, which has no data size, gets a row with one wide field."""
    shown = [cell for cell in cells if cell.measured(score.name)]
    rows = list(dict.fromkeys(cell.entry for cell in cells))
    return Chart(
        name=f"{prefix}heat_{score.name}",
        section="heat",
        title=label("chart.heat", score=score_title(score.name)),
        caption=label(
            "chart.heat.caption",
            colour=label("chart.heat.better" if score.sign else "chart.heat.higher"),
            better=label(score.better),
        ),
        data=table_of(shown, [score.name]),
        draw=lambda axes: _draw(axes, cells, rows, score),
        score=score.name,
        height=0.75 + ROW_INCHES * max(2, len(rows)),
    )


def _draw(axes: Axes, cells: Sequence[Cell], rows: list[str], score: ScoreInfo) -> None:
    sizes = sorted({cell.train_size for cell in cells if cell.train_size})
    values = {(cell.entry, cell.train_size): cell.mean(score.name) for cell in cells}
    known = [value for value in values.values() if not math.isnan(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    for place, entry in enumerate(rows):
        fields = [(0, 0, len(sizes))] if (entry, 0) in values else [(size, at, 1) for at, size in enumerate(sizes)]
        for size, at, width in fields:
            _field(axes, (at, place, width), values.get((entry, size), float("nan")), _share(low, high, score))
    axes.set(xlim=(0, max(1, len(sizes))), ylim=(len(rows), 0), xlabel=training_items(score))
    axes.set_xticks([at + 0.5 for at in range(len(sizes))], [compact(size) for size in sizes])
    axes.set_yticks([at + 0.5 for at in range(len(rows))], [two_lines(row) for row in rows])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _share(low: float, high: float, score: ScoreInfo) -> Callable[[float], float]:
    """Return a function that scales a value between worst (0) and best (1); perplexities by their logarithm."""
    if score.per_tokenizer:
        return lambda value: math.log(high / value) / (math.log(high / low) or 1.0)
    start, way = (high, -1) if score.sign < 0 else (low, 1)
    return lambda value: way * (value - start) / ((high - low) or 1.0)


def _field(axes: Axes, place: tuple[int, int, int], value: float, share: Callable[[float], float]) -> None:
    at, row, width = place
    measured = not math.isnan(value)
    colour = MAP(0.12 + 0.88 * share(value)) if measured else (0.0, 0.0, 0.0, 0.0)
    filled = colour if measured else "none"
    box = Rectangle((at + 0.02, row + 0.04), width - 0.04, 0.92, facecolor=filled, edgecolor="none")
    axes.add_patch(box)
    middle = (at + width / 2, row + 0.5)
    if measured:
        hint(box, f"{value:.3f}")
        style: Style = {"fontweight": "bold", "color": text_colour(colour)}
        axes.text(*middle, f"{value:.2f}", ha="center", va="center", **style)
    else:
        axes.text(*middle, "–", ha="center", va="center")
