"""Draws heat maps of the matrix, one per score: methods as rows, data sizes as columns."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.report.figures.base import (
    INK,
    LINE,
    NOT_MEASURED,
    WIDTH,
    Chart,
    ChartInput,
    Style,
    hint,
    table_of,
    take_away_frame,
    text_colour,
)
from medqa_finetune.report.figures.numbers import Formatter, alike
from medqa_finetune.report.messages import label, score_title
from medqa_finetune.report.names import size_tick, training_items, two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.intervals import CellScore, Interval

# Monotonic in lightness, also for colour-blind readers.
MAP = colormaps["cividis"]
ROW_INCHES = 0.42
BASELINE = "baseline, outside the colours"
# An interval is written where a field has this many inches for each of its characters.
INCHES_PER_CHARACTER = 0.058
Scores = Mapping[tuple[str, str], CellScore]


def charts(given: ChartInput) -> Iterator[Chart]:
    """Yield a heat map of every measured score."""
    for score in given.measured_scores:
        yield heat_map(given.cells, score, given.prefix, scores=given.scores)


def heat_map(cells: Sequence[Cell], score: ScoreInfo, prefix: str = "", *, scores: Scores | None = None) -> Chart:
    """Return the heat map of one score; a cell without data size gets a row with one wide field.

    Colours span the trained cells alone, since a baseline far from them would leave them one colour.

    Args:
        cells: Cells to show.
        score: The score.
        prefix: Prefix of the chart's name.
        scores: Intervals by cell and score.
    """
    shown = [cell for cell in cells if cell.measured(score.name)]
    rows = list(dict.fromkeys(cell.entry for cell in cells))
    intervals = {
        cell.name: scores[cell.name, score.name].interval
        for cell in shown
        if scores is not None and (cell.name, score.name) in scores
    }
    legend = [BASELINE] if _coloured(shown) != shown else []
    legend += [NOT_MEASURED] if _gaps(cells, rows, score) else []
    data = table_of(shown, [score.name])
    data["low"] = [intervals[cell.name].low if cell.name in intervals else None for cell in shown]
    data["high"] = [intervals[cell.name].high if cell.name in intervals else None for cell in shown]
    caption = label(
        "chart.heat.caption",
        colour=label("chart.heat.better" if score.sign else "chart.heat.higher"),
        better=label(score.better),
    )
    return Chart(
        name=f"{prefix}heat_{score.name}",
        section="heat",
        title=label("chart.heat", score=score_title(score.name)),
        caption=caption + label("chart.heat.baselines") if BASELINE in legend else caption,
        data=data,
        draw=lambda axes: _draw(axes, cells, (rows, intervals), score),
        legend=legend,
        handles=lambda: [_handle(words) for words in legend],
        score=score.name,
        height=0.75 + ROW_INCHES * max(2, len(rows)),
    )


def _handle(words: str) -> Artist:
    if words == BASELINE:
        return Patch(facecolor=LINE, label=words)
    return Line2D([], [], marker="$–$", color=INK, linestyle="none", markersize=7, label=words)


def _coloured(cells: Sequence[Cell]) -> Sequence[Cell]:
    """Return the cells whose colours say how good they are: the trained ones, or all if there are none."""
    trained = [cell for cell in cells if cell.train_size and cell.loads_model]
    return trained or cells


def _sizes(cells: Sequence[Cell]) -> list[int]:
    return sorted({cell.train_size for cell in cells if cell.train_size})


def _gaps(cells: Sequence[Cell], rows: Sequence[str], score: ScoreInfo) -> bool:
    """Return whether a field has no value."""
    known = {(cell.entry, cell.train_size) for cell in cells if cell.measured(score.name)}
    wide = {cell.entry for cell in cells if not cell.train_size}
    sizes = _sizes(cells)
    return any((entry, size) not in known for entry in rows for size in ([0] if entry in wide else sizes))


def _draw(
    axes: Axes, cells: Sequence[Cell], shown: tuple[Sequence[str], Mapping[str, Interval]], score: ScoreInfo
) -> None:
    rows, intervals = shown
    sizes = _sizes(cells)
    found = {(cell.entry, cell.train_size): cell for cell in cells}
    measured = [cell for cell in cells if cell.measured(score.name)]
    coloured = {cell.name for cell in _coloured(measured)}
    known = [cell.mean(score.name) for cell in measured if cell.name in coloured]
    share = share_of(*((min(known), max(known)) if known else (0.0, 1.0)), score)
    written = alike(known)
    room = (WIDTH - 1.4) / max(1, len(sizes))
    for place, entry in enumerate(rows):
        fields = (
            [(0, 0, max(1, len(sizes)))] if (entry, 0) in found else [(size, at, 1) for at, size in enumerate(sizes)]
        )
        for size, at, width in fields:
            cell = found.get((entry, size))
            value = cell.mean(score.name) if cell else math.nan
            colour = MAP(0.12 + 0.88 * share(value)) if cell and cell.name in coloured else None
            below = _interval(intervals.get(cell.name) if cell else None, written, room * width)
            _field(axes, (at, place, width), (value, colour), (written, below))
    axes.set(xlim=(0, max(1, len(sizes))), ylim=(len(rows), 0), xlabel=training_items(score))
    axes.set_xticks([at + 0.5 for at in range(len(sizes))], [size_tick(size) for size in sizes])
    axes.set_yticks([at + 0.5 for at in range(len(rows))], [two_lines(row) for row in rows])
    take_away_frame(axes)


def share_of(low: float, high: float, score: ScoreInfo) -> Callable[[float], float]:
    """Return a function that scales a value between worst (0) and best (1); perplexities by their logarithm."""
    if score.per_tokenizer and low > 0:
        return lambda value: math.log(high / value) / (math.log(high / low) or 1.0)
    start, way = (high, -1) if score.sign < 0 else (low, 1)
    return lambda value: way * (value - start) / ((high - low) or 1.0)


def _interval(interval: Interval | None, written: Formatter, inches: float) -> str:
    if interval is None:
        return ""
    words = f"[{written(interval.low)}, {written(interval.high)}]"
    return words if len(words) * INCHES_PER_CHARACTER <= inches else ""


def _field(
    axes: Axes,
    place: tuple[int, int, int],
    what: tuple[float, tuple[float, ...] | None],
    words: tuple[Formatter, str],
) -> None:
    (at, row, width), (value, colour), (written, below) = place, what, words
    middle = (at + width / 2, row + 0.5)
    if math.isnan(value):
        axes.text(*middle, "–", ha="center", va="center")
        return
    style: Style = {"facecolor": colour or LINE, "edgecolor": "none"}
    box = Rectangle((at + 0.02, row + 0.04), width - 0.04, 0.92, **style)
    axes.add_patch(box)
    hint(box, f"{value:.6g} {below}".strip())
    ink: Style = {"color": text_colour(colour) if colour else INK, "ha": "center", "va": "center"}
    if not below:
        axes.text(*middle, written(value), fontweight="bold", **ink)
        return
    axes.text(middle[0], middle[1] - 0.14, written(value), fontweight="bold", **ink)
    axes.text(middle[0], middle[1] + 0.26, below, fontsize=6.5, **ink)
