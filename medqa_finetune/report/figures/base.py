"""What a chart is, what it is drawn from, and what all charts share: colours, type, labels.

A kind of chart is a function from a `ChartInput` to `Chart`s in a file of its own; `registry` finds it.
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

from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.grouping import Group
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.names import fonts, two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import in_order, score_columns
from medqa_finetune.report.stats.intervals import CellScore, Comparison
from medqa_finetune.report.verdict import Fit, Front

# Folder of the charts in the summary, and the sections of the page, in which a chart has its place.
FIGURES = "figures"
SECTIONS = ("heat", "size", "curves", "pareto", "cost", "significance", "more")

# The page puts its own colours, light or dark, in the place of these three.
INK, LINE, PAPER = "#24292f", "#d0d7de", "#fffffe"
STYLE: dict[str, Any] = {
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": LINE,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.facecolor": "none", "figure.facecolor": PAPER,
    "grid.color": LINE, "grid.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "axes.labelsize": 9, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "xtick.major.size": 0, "ytick.major.size": 0, "legend.fontsize": 8.5, "legend.frameon": False, "font.size": 9,
    "svg.fonttype": "none", "axes.unicode_minus": True, "lines.solid_capstyle": "round",
}  # fmt: skip
# An SVG element whose id starts so becomes a hint that shows under the pointer.
HINT = "hint:"
# SVG elements that the page goes without: it has the title as text, and a background of its own.
TITLE, BACKGROUND = "chart-title", "chart-background"
TITLE_HEIGHT = 0.3
# Width of a chart in inches; the page shows it a little larger.
WIDTH = 5.0
MARKERS = "osD^vPX*"
# Okabe and Ito's palette as seaborn has it: ten colours that colour-blind readers can tell apart.
PALETTE = "colorblind"
USUAL_METHODS = ("lora", "qlora", "qlora_8bit", "full")
Palette = Mapping[str, str]
# Keyword arguments of a call of matplotlib.
Style = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """One chart with one pair of axes.

    Attributes:
        name: Of its files, without ending: letters, digits, `.`, `_` and `-`.
        section: Of the page; one of `SECTIONS`.
        title: What it shows; stands above it in the page and in the file.
        caption: How to read it, and what it leaves out.
        data: What is drawn, one row per mark; written as CSV.
        draw: Draws it on the axes given, which may be one panel of several.
        legend: Labels of the legend below; they decide its height. Empty where there is none.
        handles: Makes what the legend shows; the labelled artists of the axes if None.
        height: In inches, without title and legend.
        width: In inches.
        score: Column of the score where there is one such chart per score, among which the page lets choose; else "".
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


@dataclass(frozen=True)
class ChartInput:
    """What charts are drawn from: a group of runs that compare, and what was found for its cells.

    Attributes:
        cells: Those to draw, baselines first.
        palette: A colour, `#rrggbb`, per entry of the legend; baselines have none.
        scores: Value and interval by cell and score.
        comparisons: Pairs of these cells.
        fits: Curves through these cells.
        fronts: Pareto fronts with one of these cells.
        prefix: What the names of the charts begin with, so that no two groups share one.
    """

    cells: Sequence[Cell]
    palette: Palette
    scores: Mapping[tuple[str, str], CellScore]
    comparisons: Sequence[Comparison]
    fits: Sequence[Fit]
    fronts: Sequence[Front]
    prefix: str = ""

    @property
    def shown_scores(self) -> list[ScoreInfo]:
        """Scores that a report shows of these cells, in its order; some may not be measured."""
        return in_order(score_columns(run.values.get("signature") for cell in self.cells for run in cell.runs))

    @property
    def measured_scores(self) -> list[ScoreInfo]:
        """Of these, those that one of the cells has."""
        return [score for score in self.shown_scores if any(cell.measured(score.name) for cell in self.cells)]


def chart_input(group: Group, cells: Sequence[Cell], analysis: Analysis, prefix: str = "") -> ChartInput:
    """Return what the charts of some cells of a group are drawn from."""
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
    )


def colours(entries: Sequence[str]) -> Palette:
    """Return a colour per legend entry; the usual methods have the same one in every chart."""
    palette = [to_hex(colour) for colour in sns.color_palette(PALETTE)]
    usual = dict(zip(USUAL_METHODS, palette, strict=False))
    others = itertools.cycle(palette[len(USUAL_METHODS) :])
    return {entry: usual[entry] if entry in usual else next(others) for entry in entries}


def table_of(cells: Sequence[Cell], columns: Sequence[str]) -> pd.DataFrame:
    """Return one row per cell with mean, and standard deviation over seeds, of each column."""
    rows = []
    for cell in cells:
        row: dict[str, object] = {"cell": cell.name, "method": cell.entry, "train_size": cell.train_size}
        row["seeds"] = len(cell.runs)
        for column in columns:
            row |= {column: cell.mean(column), f"{column}_sd": cell.sd(column)}
        rows.append(row)
    return pd.DataFrame(rows)


def figure_of(chart: Chart) -> Figure:
    """Draw a chart, its title in a strip of `TITLE_HEIGHT` above; the caller holds `chart_style`.

    The layout is made once and kept: to make it takes as long as to write a file, and it would be made for each.
    """
    body = chart.height + legend_height(chart.legend)
    height = body + TITLE_HEIGHT
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, body / height))
    figure = Figure(figsize=(chart.width, height), layout=layout)
    chart.draw(figure.add_subplot())
    add_legend(figure, chart)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    figure.patch.set_gid(BACKGROUND)
    style: Style = {"ha": "center", "va": "center", "fontsize": 10, "fontweight": "bold", "gid": TITLE}
    figure.text(0.5, 1 - 0.4 * TITLE_HEIGHT / height, chart.title.en, **style)
    return figure


@contextmanager
def chart_style(name: str) -> Iterator[None]:
    """Hold the charts' style for the block; ids in the SVG come from `name`, so that no two charts share one."""
    style: Any = STYLE | {"font.family": fonts(), "svg.hashsalt": name}
    with mpl.rc_context(style):
        yield


def hint(artist: Artist, text: str) -> None:
    """Let `text` show under the pointer, in the page and in the SVG file."""
    artist.set_gid(HINT + text)


def add_legend(figure: Figure, chart: Chart) -> None:
    """Draw the legend below a chart, where it has one and something was drawn."""
    handles = figure.axes[0].get_legend_handles_labels()[0] if chart.handles is None else list(chart.handles())
    if chart.legend and handles:
        columns = legend_columns([str(handle.get_label()) for handle in handles])
        figure.legend(handles=handles, ncols=columns, loc="outside lower center")


def legend_columns(labels: Sequence[str]) -> int:
    """Return how many labels stand in one row below a chart."""
    longest = max((len(line) for label in labels for line in label.split("\n")), default=1)
    return max(1, min(6, 54 // (longest + 4)))


def legend_height(labels: Sequence[str]) -> float:
    """Return the inches that such a legend takes."""
    shown = [two_lines(label) for label in labels]
    rows = -(-len(shown) // legend_columns(shown))
    return 0.19 * rows * max((label.count("\n") + 1 for label in shown), default=1)


def text_colour(background: tuple[float, ...]) -> str:
    """Return white or black, whichever reads better on a colour with red, green and blue in [0, 1]."""
    red, green, blue, *_ = background
    return "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "#000000"


def nothing_measured(axes: Axes) -> None:
    """Say in the chart that there is nothing to draw."""
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
