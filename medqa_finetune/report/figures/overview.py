"""Draws two overview pictures, one row of panels per group, composed of the page's charts.

`data_scale_comparison` shows the headline scores against data size, `method_comparison` scores, memory, time and
throughput as bars, each as PNG, SVG and PDF. matplotlib's global state is not changed.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text as Drawing

from medqa_finetune.compat.fonts import fonts, picture_language
from medqa_finetune.compat.pictures import PICTURES, picture
from medqa_finetune.config.labels import with_size
from medqa_finetune.languages.help_page import wrap
from medqa_finetune.record.files import write_bytes
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures.base import INK, STYLE, ChartInput, Style, chart_input
from medqa_finetune.report.figures.costs import (
    BAR_HEIGHT,
    MISSING,
    Bar,
    Measure,
    bar_marks,
    draw_bars,
    mark_handles,
    measures_of,
    row_inches,
)
from medqa_finetune.report.figures.lettering import (
    Lettering,
    for_pictures,
    lacks_characters,
    lettered,
    placeholders,
)
from medqa_finetune.report.figures.numbers import amount
from medqa_finetune.report.figures.score_vs_size import score_against_size
from medqa_finetune.report.grouping import Group, first_groups
from medqa_finetune.report.messages import label, panel_title
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.names import columns_of, size_word, two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import headline_columns
from medqa_finetune.report.stats.intervals import Interval

DATA_SCALE = "data_scale_comparison"
METHODS = "method_comparison"
DPI = 180
GREY = "0.35"
# Height, as a share of the panel's, of the strip below the scores that marks one method's missing cells.
MISSING_ROW = 0.075
# More make a picture that nobody can read, and that takes minutes and a gigabyte.
MOST_GROUPS, MOST_CELLS = 6, 60
METHOD_WIDTH = 12.6
TITLE_INCHES, CAPTION_INCHES = 0.85, 0.55
BAR_INCHES, LABEL_INCHES = 0.24, 0.075
# The legend needs the height of so many bars; an axis with its label, and two panels, are so far apart.
LEAST_ROWS, AXIS_INCHES, BETWEEN_INCHES = 6, 0.45, 1.05
# Points between a panel and its title: the baseline's number stands there.
NUMBER_PAD = 15
BASELINE_LABEL = "untuned base"
GroupInput = tuple[Group, ChartInput]


def pictured(groups: Sequence[Group]) -> list[Group]:
    """Return what of groups the pictures show; captions say what they leave out."""
    return first_groups(groups, MOST_GROUPS, MOST_CELLS)


def write_overview(groups: Sequence[Group], analysis: Analysis, folder: Path) -> list[Path]:
    """Write both pictures into a folder, each atomically; return their paths, none without a group.

    A picture without runs to show is removed, since it would be outdated.
    """
    files = {name: [folder / f"{name}.{ending}" for ending in PICTURES] for name in (DATA_SCALE, METHODS)}
    if not groups:
        for path in itertools.chain(*files.values()):
            path.unlink(missing_ok=True)
        return []
    given = [(group, chart_input(group, group.cells, analysis)) for group in groups]
    for (name, paths), draw in zip(files.items(), (data_scale_figure, method_figure), strict=True):
        with _style(name):
            _write(draw, given, paths)
    return list(itertools.chain(*files.values()))


def _write(draw: Callable[..., Figure], given: Sequence[GroupInput], paths: Sequence[Path]) -> None:
    """Write one picture; the SVG keeps the characters that no font has here, since its reader's fonts may have them."""
    lettering = Lettering(picture_language(), placeholders)
    characters = draw(given, lettering)
    if lettering.stands_in:
        characters.draw_without_rendering()
    lettering.restore()
    letters = draw(given) if lacks_characters(characters) else characters
    with lettered(lettering), mpl.rc_context({"pdf.fonttype": _font_type(letters)}):
        for path in paths:
            figure = characters if path.suffix == ".svg" else letters
            write_bytes(path, picture(figure, path.suffix[1:], DPI))


def _font_type(figure: Figure) -> int:
    """Return how a PDF holds its fonts: as TrueType, which publishers want, unless they are Chinese.

    matplotlib would embed a Chinese OpenType font under a wrong type. TrueType takes half a second a picture, which is
    too much for the many charts in `figures/`.
    """
    texts = (text.get_text() for text in figure.findobj(Drawing))
    return 3 if any(columns_of(text) > len(text) for text in texts) else 42


def data_scale_figure(groups: Sequence[GroupInput], lettering: Lettering | None = None) -> Figure:
    """Draw the headline scores against the number of training examples or blocks, a row of panels per group."""
    lettering = lettering or for_pictures()
    heights = [4.7] * len(groups)
    figure = Figure(figsize=(9.6, sum(heights)))
    for (group, given), part in zip(groups, _parts(figure, heights), strict=True):
        part.subplots_adjust(left=0.075, right=0.985, top=0.84, bottom=0.3, wspace=0.2)
        axes = list(part.subplots(1, len(group.scores), squeeze=False).flat)
        for ax, score in zip(axes, group.scores, strict=True):
            score_against_size(given, score).draw(ax)
            ax.set(title=lettering.text(panel_title(score.name)), ylabel="Score")
            _mark_missing(ax, group, given, score.name)
        handles = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
        if any(_missing(group, given, score.name) for score in group.scores):
            handles[MISSING] = Line2D([], [], color=INK, marker="x", markersize=7, linestyle="none")
        part.legend(
            handles.values(), handles.keys(), loc="lower center", bbox_to_anchor=(0.5, 0.1), ncols=min(5, len(handles))
        )
        title = label("overview.sizes", group=group.names.title)
        _title(part, lettering.text(title), lettering.text(group.names.caption + _bands(given)), 150)
    lettering.apply(figure)
    return figure


def _bands(given: ChartInput) -> Text:
    """Return the explanation of bars and thin curves."""
    headlines = [score for score in given.scores if score[1] in headline_columns()]
    curves = any(fit.curve for fit in given.fits)
    intervals = label("chart.size.intervals" if headlines else "chart.size.no_intervals")
    said = Text(f"{intervals.en}.", f"{intervals.zh}。")
    return said + label("chart.size.fitted") if curves else said


def _missing(group: Group, given: ChartInput, column: str) -> list[tuple[str, int]]:
    if group.of_cells:
        return []
    known = {(cell.entry, cell.train_size) for cell in given.cells if cell.measured(column)}
    return [(entry, size) for entry in group.entries for size in group.sizes if (entry, size) not in known]


def _mark_missing(axes: Axes, group: Group, given: ChartInput, column: str) -> None:
    """Mark cells without a score in a separate strip below the scores, where × cannot be mistaken for a score."""
    missing = _missing(group, given, column)
    if not missing or not axes.get_xticks().size:
        return
    rows = list(dict.fromkeys(entry for entry, _ in missing))
    share = MISSING_ROW * len(rows)
    low, high = axes.get_ylim()
    axes.set_ylim(low - (high - low) * share / (1 - share), high)
    strip: Style = {"facecolor": "0.93", "edgecolor": "none", "zorder": 1.5}
    axes.add_patch(Rectangle((0, 0), 1, share, transform=axes.transAxes, **strip))
    axes.text(0.012, share / 2, "missing", transform=axes.transAxes, va="center", fontsize=8, color=GREY)
    for entry, size in missing:
        at = (float(size), MISSING_ROW * (rows.index(entry) + 0.5))
        style: Style = {"marker": "x", "markersize": 7, "markeredgewidth": 2}
        axes.plot(*at, color=given.palette[entry], transform=axes.get_xaxis_transform(), **style)


def method_figure(groups: Sequence[GroupInput], lettering: Lettering | None = None) -> Figure:
    """Draw scores, memory, time and throughput as a bar per method and data size, two rows of panels per group."""
    lettering = lettering or for_pictures()
    bars = [_bars(group, given) for group, given in groups]
    around = TITLE_INCHES + CAPTION_INCHES
    panel_heights = [max(BAR_INCHES * LEAST_ROWS, row_inches(BAR_INCHES, each) * len(each)) for each in bars]
    heights = [around + AXIS_INCHES + 2 * panel + BETWEEN_INCHES for panel in panel_heights]
    figure = Figure(figsize=(METHOD_WIDTH, sum(heights)))
    for (group, given), own, part, panel, height in zip(
        groups, bars, _parts(figure, heights), panel_heights, heights, strict=True
    ):
        margin = LABEL_INCHES * max(
            (columns_of(line) for bar in own for line in two_lines(bar.label).split("\n")), default=0
        )
        left, wide = (0.2 + margin) / METHOD_WIDTH, 1 - (0.2 + 3 * margin) / METHOD_WIDTH
        top, bottom = 1 - TITLE_INCHES / height, (CAPTION_INCHES + AXIS_INCHES) / height
        wspace = 3 * (margin + 0.3) / METHOD_WIDTH / wide
        part.subplots_adjust(
            left=left, right=0.985, top=top, bottom=bottom, wspace=wspace, hspace=BETWEEN_INCHES / panel
        )
        axes = list(part.subplots(2, 3).flat)
        trained = [bar.cell for bar in own if bar.cell is not None]
        panels = [(Measure(score.name, "Score"), panel_title(score.name)) for score in group.scores]
        panels += [(each, label(f"chart.{each.column}")) for each in measures_of(trained)]
        for ax, (measure, title) in zip(axes, panels, strict=False):
            draw_bars(ax, own, measure, _intervals(given, measure))
            ax.set_title(lettering.text(title), pad=NUMBER_PAD)
            _add_seeds(ax, own, measure)
            if measure.column in headline_columns():
                _add_baseline(ax, given.cells, measure, len(own))
        for ax in axes[len(panels) :]:
            ax.axis("off")
        marks = bar_marks(own, [measure for measure, _ in panels])
        handles = [*_legend(given, [measure for measure, _ in panels]), *mark_handles(marks)]
        axes[-1].legend(handles=handles, loc="center", title="Method", fontsize=9.5, title_fontsize=10)
        title = label("overview.methods", group=group.names.title)
        _title(part, lettering.text(title), lettering.text(group.names.caption), 200)
    lettering.apply(figure)
    return figure


def _bars(group: Group, given: ChartInput) -> list[Bar]:
    """Return one bar per entry and training size of a group, including missing cells unless some were left out."""
    cells: dict[tuple[str, int], list[Cell]] = {}
    for cell in given.cells:
        cells.setdefault((cell.entry, cell.train_size), []).append(cell)
    bars = []
    for entry in group.entries:
        for size in group.sizes:
            colour = given.palette[entry]
            known = cells.get((entry, size), [])
            absent = [] if group.of_cells else [Bar(with_size(entry, size_word(size)), colour, None)]
            bars += [Bar(cell.label, colour, cell) for cell in known] or absent
    return bars


def _add_seeds(axes: Axes, bars: Sequence[Bar], measure: Measure) -> None:
    for place, bar in enumerate(bars):
        if bar.cell is not None and len(bar.cell.runs) > 1:
            values = bar.cell.column(measure.column) / measure.unit
            axes.scatter(values, [place] * len(values), s=12, color="0.15", zorder=3)


def _intervals(given: ChartInput, measure: Measure) -> dict[str, Interval]:
    """Return the confidence intervals of a score, by cell; none of a cost."""
    return {cell: found.interval for (cell, score), found in given.scores.items() if score == measure.column}


def _add_baseline(axes: Axes, cells: Sequence[Cell], measure: Measure, rows: int) -> None:
    """Draw a dash between each two bars, so that it crosses neither a bar nor its number, and a number above."""
    baselines = [cell.column(measure.column) for cell in cells if not cell.train_size]
    value = pd.concat(baselines).mean() / measure.unit if baselines else math.nan
    if math.isnan(value):
        return
    low, high = axes.get_xlim()
    room = 0.05 * (high - low)
    axes.set_xlim(min(low, value - room) if value < 0 else low, max(high, value + room))
    half = BAR_HEIGHT / 2 + 0.03
    starts = [-0.6, *(row + half for row in range(rows))]
    ends = [-half, *(row + 1 - half for row in range(rows - 1)), rows - 0.4]
    axes.vlines([value] * len(starts), starts, ends, color=GREY, linewidth=1.5)
    style: Style = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8}
    axes.annotate(amount(value), (value, 1), xycoords=axes.get_xaxis_transform(), color=GREY, **style)


def _legend(given: ChartInput, measures: Sequence[Measure]) -> Iterator[Artist]:
    for entry, colour in given.palette.items():
        yield Patch(color=colour, label=two_lines(entry))
    if any(not cell.train_size for cell in given.cells):
        yield Line2D([], [], color=GREY, linestyle=(0, (1.2, 1)), linewidth=1.5, label=BASELINE_LABEL)
    line: Style = {"color": "#000000", "linewidth": 1}
    if any(_intervals(given, each) for each in measures):
        yield Line2D([], [], label="confidence interval (scores)", **line)
    if any(len(cell.runs) > 1 for cell in given.cells):
        yield Line2D([], [], label="one standard deviation (costs)", **line)
        yield Line2D([], [], color="0.15", marker="o", markersize=3, linestyle="none", label="one seed")


def _parts(figure: Figure, heights: Sequence[float]) -> list[SubFigure]:
    return list(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).flat)


def _title(part: SubFigure, title: str, caption: str, width: int) -> None:
    style: Style = {"va": "top", "fontsize": 12, "fontweight": "bold", "color": INK}
    # A tenth of an inch below the edge, however high the picture is.
    part.suptitle(_filled(title, width // 2), x=0.5, y=1 - 0.1 * part.dpi / part.bbox.height, **style)
    part.text(0.5, 0.012, _filled(caption, width), ha="center", va="bottom", fontsize=7.5, color="0.3")


def _filled(text: str, width: int) -> str:
    return "\n".join(wrap(text, width))


@contextmanager
def _style(name: str) -> Iterator[None]:
    style: Any = STYLE | {"font.family": fonts(), "svg.hashsalt": name, "axes.titlesize": 10.5}
    with mpl.rc_context(style):
        yield
