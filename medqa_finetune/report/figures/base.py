"""Defines charts, their input, and what all charts share: colours, fonts, labels.

Each kind of chart is a function from a `ChartInput` to `Chart`s in its own file; `registry` lists them.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from medqa_finetune.compat.fonts import fonts
from medqa_finetune.config.labels import method_label
from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures.lettering import Lettering, letter, lettered
from medqa_finetune.report.grouping import Group
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.names import two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import in_order, score_columns
from medqa_finetune.report.stats.groups import GroupScore
from medqa_finetune.report.stats.intervals import CellScore, Comparison
from medqa_finetune.report.verdict import Fit, Front

# Folder of the charts in the summary, and the page sections a chart can belong to.
FIGURES = "figures"
SECTIONS = ("heat", "groups", "size", "curves", "pareto", "cost", "significance", "more")

# The page replaces these three with its own colours, light or dark.
INK, LINE, PAPER = "#24292f", "#d0d7de", "#fffffe"
STYLE: dict[str, Any] = {
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": LINE,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.facecolor": "none", "figure.facecolor": PAPER,
    "grid.color": LINE, "grid.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "axes.labelsize": 9, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "xtick.major.size": 0, "ytick.major.size": 0, "legend.fontsize": 8.5, "legend.frameon": False, "font.size": 9,
    "svg.fonttype": "none", "axes.unicode_minus": True, "lines.solid_capstyle": "round",
}  # fmt: skip
# An SVG element whose id has this prefix becomes a tooltip.
HINT = "hint:"
# SVG elements removed in the page, which has the title as text and its own background.
TITLE, BACKGROUND = "chart-title", "chart-background"
TITLE_HEIGHT = 0.3
# Width of a chart in inches; the page shows it slightly larger.
WIDTH = 5.0
MARKERS = "osD^vPX*"
# seaborn's version of Okabe and Ito's palette: ten colours that colour-blind readers can distinguish.
PALETTE = "colorblind"
NOT_MEASURED = "not measured"
USUAL_METHODS = tuple(map(method_label, ("lora", "qlora", "qlora_8bit", "full")))
Palette = Mapping[str, str]
# Keyword arguments of a matplotlib call.
Style = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """One chart with one pair of axes.

    Attributes:
        name: File name without ending: letters, digits, `.`, `_` and `-`.
        section: Section of the page; one of `SECTIONS`.
        title: Title above the chart, in the page and in the file.
        caption: How to read it, and what it leaves out.
        data: The plotted data, one row per mark; written as CSV.
        draw: Draws it on the given axes, which may be one panel of several.
        finish: Adds what depends on the final layout, such as labels that must not overlap; None for nothing.
        legend: Labels of the legend below, which determine its height. Empty for no legend.
        handles: Makes the legend's handles; if None, the labelled artists of the axes.
        height: In inches, without title and legend.
        width: In inches.
        score: Column of the score if the page offers one such chart per score to choose from; else "".
    """

    name: str
    section: str
    title: Text
    caption: Text
    data: pd.DataFrame
    draw: Callable[[Axes], None]
    legend: Sequence[str] = ()
    handles: Callable[[], Sequence[Artist]] | None = None
    height: float = 3.3
    width: float = WIDTH
    score: str = ""
    finish: Callable[[Axes], None] | None = None


@dataclass(frozen=True)
class ChartInput:
    """Input of charts: a group of comparable runs, and the results for its cells.

    Attributes:
        cells: Cells to draw, baselines first.
        palette: Colour, `#rrggbb`, per legend entry; baselines have none.
        scores: Value and interval by cell and score.
        comparisons: Comparisons of these cells.
        fits: Curves fitted through these cells.
        fronts: Pareto fronts with at least one of these cells.
        groups: Scores of these cells per group of questions (`corpus.group`).
        prefix: Prefix of chart names, unique per group.
    """

    cells: Sequence[Cell]
    palette: Palette
    scores: Mapping[tuple[str, str], CellScore]
    comparisons: Sequence[Comparison]
    fits: Sequence[Fit]
    fronts: Sequence[Front]
    prefix: str = ""
    groups: Sequence[GroupScore] = ()

    @property
    def shown_scores(self) -> list[ScoreInfo]:
        """Scores shown for these cells, in report order; some may not be measured."""
        return in_order(score_columns(run.values.get("signature") for cell in self.cells for run in cell.runs))

    @property
    def measured_scores(self) -> list[ScoreInfo]:
        """Scores of `shown_scores` that at least one cell has."""
        return [score for score in self.shown_scores if any(cell.measured(score.name) for cell in self.cells)]


def chart_input(group: Group, cells: Sequence[Cell], analysis: Analysis, prefix: str = "") -> ChartInput:
    """Return the chart input for some cells of a group."""
    names = {cell.name for cell in cells}
    verdicts = analysis.verdicts
    return ChartInput(
        cells=cells,
        palette=colours(group.entries),
        scores={(score.cell, score.score): score for score in analysis.scores},
        comparisons=[each for each in analysis.comparisons if {each.first, each.second} <= names],
        fits=[fit for verdict in verdicts for fit in verdict.fit if set(fit.cells) <= names],
        fronts=[
            front for verdict in verdicts for front in verdict.pareto if {point.cell for point in front.points} & names
        ],
        prefix=prefix,
        groups=[each for each in analysis.groups if each.cell in names],
    )


def colours(entries: Sequence[str]) -> Palette:
    """Return a colour per legend entry; the usual methods have the same colour in every chart."""
    palette = [to_hex(colour) for colour in sns.color_palette(PALETTE)]
    usual = dict(zip(USUAL_METHODS, palette, strict=False))
    # First those that no usual method has, then those of usual methods that are not here.
    free = palette[len(USUAL_METHODS) :] + [colour for method, colour in usual.items() if method not in entries]
    others = itertools.cycle(free)
    return {entry: usual[entry] if entry in usual else next(others) for entry in entries}


def table_of(cells: Sequence[Cell], columns: Sequence[str]) -> pd.DataFrame:
    """Return one row per cell with mean and standard deviation over seeds of each column."""
    rows = []
    for cell in cells:
        row: dict[str, object] = {"cell": cell.name, "method": cell.entry, "train_size": cell.train_size}
        row["seeds"] = len(cell.runs)
        for column in columns:
            row |= {column: cell.mean(column), f"{column}_sd": cell.sd(column)}
        rows.append(row)
    return pd.DataFrame(rows)


def name_fields(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    """Name the columns, aslant, and the rows of a matrix whose fields are one unit wide and high, without a frame."""
    middles = [at + 0.5 for at in range(len(columns))]
    axes.set_xticks(middles, columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks([at + 0.5 for at in range(len(rows))], rows)
    take_away_frame(axes)


def take_away_frame(axes: Axes) -> None:
    """Leave fields that are next to each other without grid and edges."""
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def figure_of(chart: Chart, lettering: Lettering) -> Figure:
    """Draw a chart with its title in a strip of `TITLE_HEIGHT` above; must be called within `chart_style`.

    The layout is computed once: it takes as long as writing a file, and would otherwise be repeated for each file.
    """
    with lettered(lettering):
        return _figure_of(chart, lettering)


def _figure_of(chart: Chart, lettering: Lettering) -> Figure:
    body = chart.height + legend_height(chart.legend)
    height = body + TITLE_HEIGHT
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, body / height))
    figure = Figure(figsize=(chart.width, height), layout=layout)
    chart.draw(figure.add_subplot())
    add_legend(figure, chart)
    lettering.apply(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    if chart.finish is not None:
        chart.finish(figure.axes[0])
    figure.patch.set_gid(BACKGROUND)
    style: Style = {"ha": "center", "va": "center", "fontsize": 10, "fontweight": "bold", "gid": TITLE}
    letter(figure.text(0.5, 1 - 0.4 * TITLE_HEIGHT / height, lettering.text(chart.title), **style))
    return figure


@contextmanager
def chart_style(name: str) -> Iterator[None]:
    """Apply the charts' style within the block; SVG ids derive from `name`, so that they are unique per chart."""
    style: Any = STYLE | {"font.family": fonts(), "svg.hashsalt": name}
    with mpl.rc_context(style):
        yield


def hint(artist: Artist, text: str) -> None:
    """Add `text` as a tooltip to an artist, in the page and in the SVG file."""
    artist.set_gid(HINT + text)


def add_legend(figure: Figure, chart: Chart) -> None:
    """Draw the legend below a chart, if it has one and anything was drawn."""
    handles = figure.axes[0].get_legend_handles_labels()[0] if chart.handles is None else list(chart.handles())
    if chart.legend and handles:
        columns = legend_columns([str(handle.get_label()) for handle in handles])
        figure.legend(handles=handles, ncols=columns, loc="outside lower center")


def legend_columns(labels: Sequence[str]) -> int:
    """Return the number of legend labels per row below a chart."""
    longest = max((len(line) for label in labels for line in label.split("\n")), default=1)
    return max(1, min(6, 54 // (longest + 4)))


def legend_height(labels: Sequence[str]) -> float:
    """Return the height of a legend in inches."""
    shown = [two_lines(label) for label in labels]
    rows = -(-len(shown) // legend_columns(shown))
    return 0.19 * rows * max((label.count("\n") + 1 for label in shown), default=1)


def text_colour(background: tuple[float, ...]) -> str:
    """Return white or black, whichever is more readable on a colour with red, green and blue in [0, 1]."""
    red, green, blue, *_ = background
    return "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "#000000"


def nothing_measured(axes: Axes) -> None:
    """Write into the chart that nothing was measured."""
    axes.text(0.5, 0.5, NOT_MEASURED, transform=axes.transAxes, ha="center", va="center")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
