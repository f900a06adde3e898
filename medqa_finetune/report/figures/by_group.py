"""Draws heat maps of scores per group of questions (`corpus.group`): groups as rows, cells as columns."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from medqa_finetune.evaluation.metrics.base import ScoreInfo
from medqa_finetune.report.figures.base import INK, WIDTH, Chart, ChartInput, Style, hint, name_fields, text_colour
from medqa_finetune.report.figures.heatmap import MAP, share_of
from medqa_finetune.report.figures.numbers import Formatter, alike
from medqa_finetune.report.messages import label, score_title
from medqa_finetune.report.names import plain, two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.groups import GroupScore

MOST_GROUPS, MOST_CELLS = 40, 24
ROW_INCHES, COLUMN_INCHES = 0.27, 0.5
# Room for the names of groups, and for those of cells, which stand aslant.
LEFT_INCHES, BELOW_INCHES = 1.9, 1.15
NO_GROUP = "no group"
AXIS = "Group (questions)"


def charts(given: ChartInput) -> Iterator[Chart]:
    """Yield a heat map of every score that was computed per group, with the largest groups."""
    for score in given.measured_scores:
        found = [each for each in given.groups if each.score == score.name]
        if found:
            yield by_group(given.cells, score, found, given.prefix)


def by_group(cells: Sequence[Cell], score: ScoreInfo, found: Sequence[GroupScore], prefix: str = "") -> Chart:
    """Return the heat map of one score; colours span all its fields, so that weak groups are seen at once."""
    known = {each.cell for each in found}
    with_groups = [cell for cell in cells if cell.name in known]
    shown = with_groups[:MOST_CELLS]
    sizes: dict[str, int] = {}
    for each in found:
        sizes[each.group] = max(each.n, sizes.get(each.group, 0))
    # Questions without a group come last.
    every = sorted(sizes, key=lambda group: (group == "", -sizes[group], group))
    groups = every[:MOST_GROUPS]
    values = {(each.group, each.cell): each for each in found}
    caption = label("chart.groups.caption", colour=label("chart.heat.better" if score.sign else "chart.heat.higher"))
    if len(every) > len(groups):
        caption += label("chart.groups.cut", shown=len(groups), count=len(every))
    if len(with_groups) > len(shown):
        caption += label("chart.differences.cut", shown=len(shown), count=len(with_groups))
    return Chart(
        name=f"{prefix}{score.name}_by_group",
        section="groups",
        title=label("chart.groups", score=score_title(score.name)),
        caption=caption,
        data=_data(with_groups, found),
        draw=lambda axes: _draw(axes, shown, {group: sizes[group] for group in groups}, values, score),
        score=score.name,
        height=BELOW_INCHES + ROW_INCHES * max(3, len(groups)),
        width=max(WIDTH, LEFT_INCHES + COLUMN_INCHES * len(shown)),
    )


def _data(cells: Sequence[Cell], found: Sequence[GroupScore]) -> pd.DataFrame:
    labels = {cell.name: cell.label for cell in cells}
    rows = [
        {
            "cell": each.cell,
            "label": labels[each.cell],
            "group": each.group,
            "n": each.n,
            each.score: each.value,
            "low": each.interval.low if each.interval else None,
            "high": each.interval.high if each.interval else None,
        }
        for each in found
        if each.cell in labels
    ]
    return pd.DataFrame(rows)


def _draw(
    axes: Axes,
    cells: Sequence[Cell],
    groups: dict[str, int],
    values: dict[tuple[str, str], GroupScore],
    score: ScoreInfo,
) -> None:
    drawn = [values[group, cell.name].value for group in groups for cell in cells if (group, cell.name) in values]
    known = [value for value in drawn if not math.isnan(value)]
    share = share_of(min(known, default=0.0), max(known, default=1.0), score)
    written = alike(known)
    for row, group in enumerate(groups):
        for column, cell in enumerate(cells):
            each = values.get((group, cell.name))
            what = f"{group or f'({NO_GROUP})'}, {cell.label}"
            if each is None or math.isnan(each.value):
                axes.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color=INK)
            else:
                _field(axes, (column, row), (each, what), (MAP(0.12 + 0.88 * share(each.value)), written))
    axes.set(xlim=(0, len(cells)), ylim=(len(groups), 0), ylabel=AXIS)
    names = [two_lines(cell.label) for cell in cells]
    rows = [f"{two_lines(plain(group)) if group else f'({NO_GROUP})'} ({n:,})" for group, n in groups.items()]
    name_fields(axes, names, rows)


def _field(
    axes: Axes,
    place: tuple[int, int],
    shown: tuple[GroupScore, str],
    style: tuple[tuple[float, float, float, float], Formatter],
) -> None:
    (column, row), (each, what), (colour, written) = place, shown, style
    edge: Style = {"facecolor": colour, "edgecolor": "none"}
    box = Rectangle((column + 0.03, row + 0.04), 0.94, 0.92, **edge)
    axes.add_patch(box)
    bound = each.interval
    span = f" [{written(bound.low)}, {written(bound.high)}]" if bound else ""
    hint(box, f"{what}: {written(each.value)}{span}, n = {each.n:,}")
    words = written(each.value)
    ink: Style = {"color": text_colour(colour), "ha": "center", "va": "center"}
    axes.text(column + 0.5, row + 0.5, words, fontsize=8 if len(words) <= 6 else 48 / len(words), **ink)
