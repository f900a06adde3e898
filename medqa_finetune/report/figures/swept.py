"""Draws validation loss and scores against a setting that was swept, such as the learning rate or the rank."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from medqa_finetune.config.labels import method_label, setting_label, value_label
from medqa_finetune.evaluation.metric_registry import headlines
from medqa_finetune.report.figures.base import INK, MARKERS, Chart, ChartInput, Style
from medqa_finetune.report.messages import label, name_of, score_axis, score_title
from medqa_finetune.report.names import two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.choice import choose, is_number

VALIDATION_LOSS = "validation_loss"
# From this ratio of the largest to the smallest value, the axis is logarithmic.
LOGARITHMIC = 8.0
CHOSEN_SIZE, USUAL_SIZE = 11, 6
CHOSEN = "chosen by validation loss"
# Widths of the first and the last line, and their marks' sizes: of equal lines, those below stay visible.
WIDTHS, SIZES = (3.4, 1.0), (1.5, 0.8)


def charts(given: ChartInput) -> Iterator[Chart]:
    """Yield, for every number that was swept, validation loss and headline scores; chosen cells have large marks."""
    choices = choose(given.cells).choices
    cells = {cell.name: cell for cell in given.cells}
    sizes = {cell.train_size for cell in given.cells if cell.trains}
    one_size = len(sizes) == 1
    for key in dict.fromkeys(key for choice in choices for key in choice.keys):
        series = {}
        for choice in choices:
            tried = [cells[each.cell] for each in choice.tries if is_number(cells[each.cell].settings.get(key))]
            if key in choice.keys and len({cell.settings[key] for cell in tried}) > 1:
                size = "" if one_size else _size(tried[0])
                name = " ".join(filter(None, (method_label(tried[0].first.method), size)))
                series[name] = sorted(tried, key=lambda cell: _number(cell, key))
        chosen = {choice.chosen for choice in choices if choice.chosen is not None}
        if series:
            columns = [VALIDATION_LOSS, *(score.name for score in headlines())]
            yield from (_chart(given, key, series, chosen, column) for column in columns if _measured(series, column))


def _size(cell: Cell) -> str:
    return str(cell.label).removeprefix(cell.entry.partition(" ")[0]).strip().partition(" ")[0]


def _number(cell: Cell, key: str) -> float:
    value = cell.settings[key]
    return float(value) if isinstance(value, int | float) else 0.0


def _measured(series: dict[str, list[Cell]], column: str) -> bool:
    return any(_values(cell, column) for line in series.values() for cell in line)


def _values(cell: Cell, column: str) -> list[float]:
    """Return the values of a cell's runs."""
    if column == VALIDATION_LOSS:
        return cell.validation_losses
    return [run.scores[column].value for run in cell.runs if column in run.scores]


def _chart(given: ChartInput, key: str, series: dict[str, list[Cell]], chosen: set[str], column: str) -> Chart:
    setting = name_of(setting_label(key))
    of_loss = column == VALIDATION_LOSS
    title = label("chart.swept.loss", setting=setting)
    if not of_loss:
        title = label("chart.swept", setting=setting, score=score_title(column))
    return Chart(
        name=f"{given.prefix}{column}_by_{key.replace('.', '_')}",
        section="curves",
        title=title,
        caption=label("chart.swept.caption"),
        data=_data(series, key, chosen, column),
        draw=partial(_draw, given=given, key=key, series=series, chosen=chosen, column=column),
        legend=[*series, *([CHOSEN] if _has_chosen(series, chosen) else [])],
        handles=partial(_handles, given, series, chosen),
        height=3.2,
    )


def _data(series: dict[str, list[Cell]], key: str, chosen: set[str], column: str) -> pd.DataFrame:
    rows = []
    for name, line in series.items():
        for cell in line:
            values = pd.Series(_values(cell, column), dtype=float)
            row: dict[str, object] = {"cell": cell.name, "series": name, key: cell.settings[key], "seeds": len(values)}
            row |= {column: values.mean(), f"{column}_sd": values.std(ddof=1), "chosen": cell.name in chosen}
            rows.append(row)
    return pd.DataFrame(rows)


def _draw(
    axes: Axes, *, given: ChartInput, key: str, series: dict[str, list[Cell]], chosen: set[str], column: str
) -> None:
    colours = list(given.palette.values())
    every = sorted({_number(cell, key) for line in series.values() for cell in line})
    for place, (name, line) in enumerate(series.items()):
        points = [(cell, _number(cell, key), values) for cell in line if (values := _values(cell, column))]
        at = [value for _, value, _ in points]
        means = [sum(values) / len(values) for _, _, values in points]
        style, size = _style_of(place, len(series), colours)
        # Where another setting was varied as well, a line would join what differs in more than this one.
        joined = len(set(at)) == len(at) and _alone(line, key)
        width = _between(WIDTHS, place, len(series)) if joined else 0.0
        axes.plot(at, means, label=two_lines(name), linewidth=width, markersize=USUAL_SIZE * size, **style)
        for (cell, value, values), mean in zip(points, means, strict=True):
            if cell.name in chosen:
                axes.plot([value], [mean], markersize=CHOSEN_SIZE * size, **style)
            if len(values) > 1:
                axes.plot([value] * len(values), values, ".", color=style["color"], markersize=3)
            found = given.scores.get((cell.name, column))
            if found:
                bar: Style = {"color": style["color"], "linewidth": 1.6, "alpha": 0.7}
                axes.vlines(value, found.interval.low, found.interval.high, **bar)
    axes.set(xlabel=setting_label(key), ylabel=_axis(column))
    if every[0] > 0 and every[-1] / every[0] >= LOGARITHMIC:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(FixedLocator(_ticks(every)))
    axes.xaxis.set_major_formatter(lambda value, _: value_label(float(value)))


def _style_of(place: int, count: int, colours: Sequence[str]) -> tuple[Style, float]:
    """Return colour and mark of a line, and the size of its marks relative to the usual one."""
    style: Style = {"color": colours[place % len(colours)], "marker": MARKERS[place % len(MARKERS)]}
    return style, _between(SIZES, place, count)


def _between(ends: tuple[float, float], place: int, count: int) -> float:
    first, last = ends
    return first + (last - first) * place / max(1, count - 1)


def _handles(given: ChartInput, series: Mapping[str, Sequence[Cell]], chosen: set[str]) -> list[Artist]:
    colours = list(given.palette.values())
    handles: list[Artist] = []
    for place, name in enumerate(series):
        style, size = _style_of(place, len(series), colours)
        width = _between(WIDTHS, place, len(series))
        line = Line2D([], [], label=two_lines(name), linewidth=width, markersize=USUAL_SIZE * size, **style)
        handles.append(line)
    if _has_chosen(series, chosen):
        large: Style = {"color": INK, "marker": MARKERS[0], "markersize": CHOSEN_SIZE, "linestyle": "none"}
        handles.append(Line2D([], [], label=CHOSEN, **large))
    return handles


def _has_chosen(series: Mapping[str, Sequence[Cell]], chosen: set[str]) -> bool:
    return any(cell.name in chosen for line in series.values() for cell in line)


def _alone(line: Sequence[Cell], key: str) -> bool:
    """Return whether cells differ in one setting alone."""
    others = [
        {name: value for name, value in cell.settings.items() if name != key and name.startswith(("method.", "train."))}
        for cell in line
    ]
    return all(each == others[0] for each in others)


def _axis(column: str) -> str:
    return "Validation loss" if column == VALIDATION_LOSS else score_axis(column).en


def _ticks(values: Sequence[float]) -> list[float]:
    """Return at most eight of the values, evenly spaced in their order."""
    stride = max(1, -(-len(values) // 8))
    return list(values[::stride])
