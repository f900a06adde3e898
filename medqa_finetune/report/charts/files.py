"""Charts as files: PNG and SVG with the data as CSV, and SVG as it stands in the page."""

import html
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from medqa_finetune.record.files import sweep, write_bytes
from medqa_finetune.report.charts.base import (
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
from medqa_finetune.report.charts.chinese import CHART_WORDS
from medqa_finetune.report.table import write_csv

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
    body = re.sub(rf'<g id="(?:{TITLE}|{BACKGROUND})">.*?</g>', "", svg, flags=re.DOTALL)
    strip = TITLE_HEIGHT * POINTS_PER_INCH
    return re.sub(r'viewBox="0 0 (\S+) ([^"]+)"',
                  lambda box: f'viewBox="0 {strip:g} {box[1]} {float(box[2]) - strip:g}"', body, count=1)  # fmt: skip


def inline(svg: str, chart: Chart) -> str:
    """Return an SVG for the page: its colours and type are the page's, and its words stand in both languages."""
    body = hinted(svg[svg.index("<svg") :])
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # The ids that nothing refers to would stand in the page many times; those of clips and markers differ by chart.
    body = re.sub(r' id="(?![mp][0-9a-f]{10}|C[0-9]_|[A-Za-z]+Collection)[^"]*"', "", body)
    body = re.sub(r"\s*font-family: [^;\"]*;?", "", body)
    for colour, variable in COLOURS.items():
        body = body.replace(colour, variable)
    body = re.sub(r"(<text[^>]*>)([^<]*)</text>", _in_both_languages, body)
    name = html.escape(chart.title.en, quote=True)
    return re.sub(r'<svg([^>]*?) width="[^"]*" height="[^"]*"|<svg([^>]*)', rf'<svg role="img" aria-label="{name}"\1\2',
                  body, count=1)  # fmt: skip


def hinted(svg: str) -> str:
    """Return an SVG in which marks with a hint have it as their title, which browsers show under the pointer."""
    return re.sub(rf'<g id="{HINT}([^"]*)">', r"<g><title>\1</title>", svg)


def _in_both_languages(match: re.Match[str]) -> str:
    start, words = match.groups()
    chinese = CHART_WORDS.get(html.unescape(words))
    if chinese is None:
        return match.group()
    return f'{start}<tspan class="en">{words}</tspan><tspan class="zh">{html.escape(chinese)}</tspan></text>'
