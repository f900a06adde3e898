"""Writes charts to files: PNG, SVG, PDF and the data as CSV; also makes the SVG for the page."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medqa_finetune.compat.matplotlib import SvgImage
from medqa_finetune.compat.pictures import PICTURES, picture
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
from medqa_finetune.report.figures.lettering import for_page, for_pictures, lacks_characters, lettered
from medqa_finetune.report.messages import drawn as drawn_words
from medqa_finetune.report.outputs.csv import write_csv

DPI = 150
POINTS_PER_INCH = 72
COLOURS = {INK: "var(--ink)", LINE: "var(--line)", PAPER: "var(--paper)"}


@dataclass(frozen=True)
class Drawn:
    """A chart with its SVG for the page."""

    chart: Chart
    svg: str


def write_charts(charts: Iterable[Chart], folder: Path) -> list[Drawn]:
    """Write `<name>.png`, `<name>.svg`, `<name>.pdf` and `<name>.csv` of every chart into a folder, each atomically.

    Files of charts that are no longer drawn, and leftovers of a killed writer, are removed; the caller must prevent
    concurrent writers.
    """
    sweep(folder)
    drawn = [_write(chart, folder) for chart in charts]
    kept = {f"{each.chart.name}.{ending}" for each in drawn for ending in (*PICTURES, "csv")}
    for path in folder.glob("*.*"):
        if path.suffix[1:] in (*PICTURES, "csv") and path.name not in kept:
            path.unlink()
    return drawn


def _write(chart: Chart, folder: Path) -> Drawn:
    with chart_style(chart.name):
        of_page, of_files = for_page(), for_pictures()
        figure = figure_of(chart, of_page)
        of_page.restore()
        with lettered(of_page):
            svg = SvgImage(picture(figure, "svg", DPI))
        drawn = svg.add_titles(HINT).as_file()
        if of_files.language != of_page.language or lacks_characters(figure):
            figure = figure_of(chart, of_files)
            if of_files.language != of_page.language:
                drawn = SvgImage(picture(figure, "svg", DPI)).add_titles(HINT).as_file()
        png, pdf = picture(figure, "png", DPI), picture(figure, "pdf", DPI)
    write_bytes(folder / f"{chart.name}.png", png)
    write_bytes(folder / f"{chart.name}.pdf", pdf)
    write_bytes(folder / f"{chart.name}.svg", drawn)
    write_csv(chart.data, folder / f"{chart.name}.csv")
    return Drawn(chart, inline(svg, chart))


def inline(svg: SvgImage, chart: Chart) -> str:
    """Return an SVG with tooltips for embedding in the page.

    Title and background are removed; colours and fonts are the page's, and words are in both languages.
    """
    svg.remove(TITLE, BACKGROUND).crop_top(TITLE_HEIGHT * POINTS_PER_INCH)
    body = svg.as_html(chart.title.en, _in_both_languages)
    for colour, variable in COLOURS.items():
        body = body.replace(colour, variable)
    return body


def _in_both_languages(words: str) -> list[tuple[str, str]]:
    both = drawn_words(words)
    return [] if both is None else [("en", both.en), ("zh", both.zh)]
