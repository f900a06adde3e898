"""Draws which cells differ: every pair, with the difference and the test's finding."""

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.report.figures.base import INK, LINE, Chart, ChartInput, Style, hint, name_fields, text_colour
from medqa_finetune.report.figures.numbers import Formatter, alike
from medqa_finetune.report.messages import label, reason, score_title
from medqa_finetune.report.names import two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.intervals import Comparison, Finding

# Blue to orange-red through grey: distinguishable for colour-blind readers, and by lightness.
MAP = colormaps["PuOr_r"]
MOST_CELLS = 24
INCHES_PER_CELL = 0.5
DIFFERENT, NONE_SHOWN, NOT_COMPARABLE = "different (Holm)", "no difference shown", "not comparable"


def charts(given: ChartInput) -> Iterator[Chart]:
    """Yield one matrix per score in which cells were compared."""
    compared = {each.score for each in given.comparisons}
    for score in given.shown_scores:
        if score.name in compared:
            yield significance_matrix(given.cells, score, given.comparisons, given.prefix)


def significance_matrix(
    cells: Sequence[Cell], score: ScoreInfo, comparisons: Sequence[Comparison], prefix: str = ""
) -> Chart:
    """Return the matrix of one score; each field shows the row's score minus the column's."""
    compared = {name for each in comparisons if each.score == score.name for name in (each.first, each.second)}
    # A baseline without this score would be an empty row.
    cells = [cell for cell in cells if cell.name in compared or cell.measured(score.name)]
    shown = cells[:MOST_CELLS]
    names = {cell.name for cell in shown}
    own = [each for each in comparisons if each.score == score.name and {each.first, each.second} <= names]
    caption = label("chart.differences.caption")
    if len(cells) > MOST_CELLS:
        caption += label("chart.differences.cut", shown=MOST_CELLS, count=len(cells))
    width = 1.6 + INCHES_PER_CELL * max(5, len(shown))
    return Chart(
        name=f"{prefix}{score.name}_differences",
        section="significance",
        title=label("chart.differences", score=score_title(score.name)),
        caption=caption,
        data=_data(own),
        draw=lambda axes: _draw(axes, shown, own),
        legend=[DIFFERENT, NONE_SHOWN, *([NOT_COMPARABLE] if any(each.difference is None for each in own) else [])],
        handles=lambda: _handles(own),
        height=0.9 + 0.75 * INCHES_PER_CELL * max(4, len(shown)),
        width=width,
        score=score.name,
    )


def _data(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    columns = {
        "first": [each.first for each in comparisons],
        "second": [each.second for each in comparisons],
        "compared": [each.axis for each in comparisons],
        "difference": [each.difference for each in comparisons],
        "low": [each.interval.low if each.interval else None for each in comparisons],
        "high": [each.interval.high if each.interval else None for each in comparisons],
        "effect": [each.effect for each in comparisons],
        "p": [each.p for each in comparisons],
        "p_holm": [each.p_holm for each in comparisons],
        "verdict": [each.verdict for each in comparisons],
        "reason": [reason(each).en for each in comparisons],
    }
    return pd.DataFrame(columns)


def _handles(comparisons: Sequence[Comparison]) -> list[Artist]:
    handles: list[Artist] = [
        Patch(facecolor=MAP(0.8), label=DIFFERENT),
        Patch(facecolor="none", edgecolor=LINE, label=NONE_SHOWN),
    ]
    if any(each.difference is None for each in comparisons):
        style: Style = {"linestyle": "none", "markersize": 6, "label": NOT_COMPARABLE}
        handles.append(Line2D([], [], marker="x", color=INK, **style))
    return handles


def _largest(cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> float:
    """Return the difference with the strongest colour: the largest between trained cells, if two were compared.

    A baseline far from them would leave them one colour; its own fields have the strongest then.
    """
    trained = {cell.name for cell in cells if cell.train_size and cell.loads_model}
    known = [each for each in comparisons if each.difference]
    among = [each for each in known if {each.first, each.second} <= trained]
    return max((abs(each.difference or 0.0) for each in among or known), default=1.0)


def _draw(axes: Axes, cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> None:
    places = {cell.name: at for at, cell in enumerate(cells)}
    labels = {cell.name: cell.label for cell in cells}
    largest = _largest(cells, comparisons)
    written = alike([each.difference or 0.0 for each in comparisons], signed=True)
    for each in comparisons:
        for own, other, sign in ((each.first, each.second, -1), (each.second, each.first, 1)):
            value = None if each.difference is None else sign * each.difference
            what = f"{labels[own]} − {labels[other]}"
            _field(axes, (places[own], places[other]), each, (value, largest, written), what)
    for at in range(len(cells)):
        axes.add_patch(Rectangle((at, at), 1, 1, facecolor=LINE, alpha=0.5, edgecolor="none"))
    axes.set(xlim=(0, len(cells)), ylim=(len(cells), 0), ylabel="")
    names = [two_lines(cell.label) for cell in cells]
    name_fields(axes, names, names)


def _field(
    axes: Axes,
    place: tuple[int, int],
    each: Comparison,
    shown_as: tuple[float | None, float, Formatter],
    what: str,
) -> None:
    (row, column), (value, largest, written) = place, shown_as
    middle = (column + 0.5, row + 0.5)
    if value is None:
        axes.text(*middle, "×", ha="center", va="center")
        return
    shown = each.verdict is Finding.DIFFERENT
    colour = MAP(0.5 + 0.5 * max(-1.0, min(1.0, value / largest)))
    style: Style = {"facecolor": colour if shown else "none", "edgecolor": LINE, "linewidth": 0.8}
    box = Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, **style)
    axes.add_patch(box)
    p = f", p (Holm) = {each.p_holm:.3g}" if each.p_holm is not None else ""
    hint(box, f"{what} = {value:+.4g}{p}: {each.verdict}")
    bold: Style = {"fontweight": "bold", "color": text_colour(colour)} if shown else {}
    words = written(value)
    axes.text(*middle, words, ha="center", va="center", fontsize=8 if len(words) <= 6 else 48 / len(words), **bold)
