"""What a chart is, and what all charts share: colours that colour-blind readers tell apart, and one type."""

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from medqa_finetune.report.groups import fonts
from medqa_finetune.report.words import Text

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
LABEL_WIDTH = 22


@dataclass(frozen=True)
class Chart:
    """One chart with one pair of axes.

    Attributes:
        name: Of its files, without ending.
        title: What it shows; stands above it in the page, and in the picture.
        caption: How to read it, and what it leaves out.
        data: What is drawn, one row per mark.
        draw: Draws it on the axes given.
        height: In inches.
        width: In inches.
        score: Column of the score that it is one of many charts of, by which the page lets choose; else empty.
    """

    name: str
    title: Text
    caption: Text
    data: pd.DataFrame
    draw: Callable[[Any], None]
    height: float = 3.3
    width: float = WIDTH
    score: str = ""


def figure_of(chart: Chart) -> Figure:
    """Draw a chart, its title in a strip of `TITLE_HEIGHT` above; the caller holds `chart_style`.

    The layout is made once and kept: to make it takes as long as to write a file, and it would be made for each.
    """
    height = chart.height + TITLE_HEIGHT
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, chart.height / height))
    figure = Figure(figsize=(chart.width, height), layout=layout)
    chart.draw(figure.add_subplot())
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    figure.patch.set_gid(BACKGROUND)
    figure.text(
        0.5, 1 - 0.4 * TITLE_HEIGHT / height, chart.title.en, ha="center", va="center", fontsize=10, fontweight="bold",
        gid=TITLE,
    )  # fmt: skip
    return figure


@contextmanager
def chart_style(name: str) -> Iterator[None]:
    """Hold the charts' style for the block; ids in the SVG come from `name`, so that no two charts share one."""
    style: Any = STYLE | {"font.family": fonts(), "svg.hashsalt": name}
    with mpl.rc_context(style):
        yield


def hint(artist: Any, text: str) -> None:
    """Let `text` show under the pointer, in the page and in the SVG file."""
    artist.set_gid(HINT + text)


def short(label: str) -> str:
    """Return a label as an axis or a legend can hold it: two lines at most."""
    lines = textwrap.wrap(label, LABEL_WIDTH) or [""]
    return "\n".join([lines[0], lines[1][:-1] + "…"] if len(lines) > 2 else lines)


def legend_columns(labels: list[str]) -> int:
    """Return how many labels stand in one row below a chart."""
    longest = max((len(line) for label in labels for line in short(label).split("\n")), default=1)
    return max(1, min(6, 54 // (longest + 4)))


def legend_height(labels: list[str]) -> float:
    """Return the inches that such a legend takes."""
    rows = -(-len(labels) // legend_columns(labels))
    return 0.19 * rows * max((short(label).count("\n") + 1 for label in labels), default=1)


def nothing_measured(axes: Any) -> None:
    """Say in the chart that there is nothing to draw."""
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
