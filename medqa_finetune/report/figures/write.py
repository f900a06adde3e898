"""Charts as files: PNG and SVG with the data as CSV, and SVG as it stands in the page."""

import html
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from medqa_finetune.compat import matplotlib as svgs
from medqa_finetune.record.files import sweep, write_bytes
from medqa_finetune.report.figures.base import (
    BACKGROUND,
    HINT,
    INK,
    LINE,
    PAPER,
    TITLE,
    TITLE_HEIGHT,
    Chart,
    chart_style,
    figure_of,
)
from medqa_finetune.report.messages import drawn as drawn_words
from medqa_finetune.report.outputs.csv import write_csv

DPI = 150
POINTS_PER_INCH = 72
COLOURS = {INK: "var(--ink)", LINE: "var(--line)", PAPER: "var(--paper)"}


@dataclass(frozen=True)
class Drawn:
    """A chart with its SVG as it stands in the page."""

    chart: Chart
    svg: str


def write_charts(charts: Iterable[Chart], folder: Path) -> list[Drawn]:
    """Write `<name>.png`, `<name>.svg` and `<name>.csv` of every chart into a folder, each atomically.

    Files there of charts that are no longer drawn are removed: they would be of runs that are gone. So is what a
    killed writer left; whoever calls sees to it that nobody else writes there now.
    """
    sweep(folder)
    drawn = [_write(chart, folder) for chart in charts]
    kept = {f"{each.chart.name}.{ending}" for each in drawn for ending in ("png", "svg", "csv")}
    for path in folder.glob("*.*"):
        if path.suffix in (".png", ".svg", ".csv") and path.name not in kept:
            path.unlink()
    return drawn


def _write(chart: Chart, folder: Path) -> Drawn:
    with chart_style(chart.name):
        figure = figure_of(chart)
        written = {ending: _as(figure, ending) for ending in ("png", "svg")}
    svg = hinted(written["svg"].decode())
    write_bytes(folder / f"{chart.name}.png", written["png"])
    write_bytes(folder / f"{chart.name}.svg", svg.encode())
    write_csv(chart.data, folder / f"{chart.name}.csv")
    return Drawn(chart, inline(untitled(svg), chart))


def _as(figure: Figure, ending: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=ending, dpi=DPI, metadata=None if ending == "png" else {"Date": None})
    return buffer.getvalue()


def untitled(svg: str) -> str:
    """Return an SVG without the title, the strip that it stands in, and the background."""
    return svgs.without_strip(svgs.without_groups(svg, TITLE, BACKGROUND), TITLE_HEIGHT * POINTS_PER_INCH)


def inline(svg: str, chart: Chart) -> str:
    """Return an SVG for the page: its colours and type are the page's, and its words stand in both languages."""
    body = svgs.without_fonts(svgs.without_ids(svgs.element(hinted(svg))))
    for colour, variable in COLOURS.items():
        body = body.replace(colour, variable)
    return svgs.as_image(svgs.with_words(body, _in_both_languages), chart.title.en)


def hinted(svg: str) -> str:
    """Return an SVG in which marks with a hint have it as their title, which browsers show under the pointer."""
    return svgs.with_titles(svg, HINT)


def _in_both_languages(words: str) -> str | None:
    both = drawn_words(words)
    if both is None:
        return None
    return f'<tspan class="en">{_text(both.en)}</tspan><tspan class="zh">{_text(both.zh)}</tspan>'


def _text(words: str) -> str:
    return html.escape(words, quote=False)
