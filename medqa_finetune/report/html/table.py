"""Builds the page's table of cells."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.messages import label, name_of, score_title
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.outputs.benchmarks import digits_of, main_benchmarks
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import in_order, score_columns

# Column of the table, key of its heading in `messages`, decimal places.
COSTS = (
    ("peak_vram_gib", "vram", 2),
    ("peak_rss_gib", "rss", 2),
    ("train_seconds", "seconds", 0),
    ("train_tokens_per_second", "tokens", 0),
    ("eval_samples_per_second", "answers", 1),
)


@dataclass(frozen=True)
class Value:
    """A figure of the table: its text, small lines below it, and its sort key (empty if not measured)."""

    text: str
    more: tuple[str, ...] = ()
    sort: str = ""


@dataclass(frozen=True)
class Row:
    """A row of the page's table: one cell's label and figures."""

    label: Text
    values: list[Value]


def results_of(cells: Sequence[Cell], analysis: Analysis) -> tuple[list[Text], list[Row]]:
    """Return the headings and one row per cell; columns without a measured value are left out."""
    signed = [run.values.get("signature") for cell in cells for run in cell.runs]
    scores = [score for score in in_order(score_columns(signed)) if _measured(cells, score.name)]
    costs = [cost for cost in COSTS if _measured(cells, cost[0])]
    of_text = any(cell.value("task") == "text" for cell in cells)
    columns = sorted({column for cell in cells for run in cell.runs for column in run.values})
    benchmarks = [column for column in main_benchmarks(columns) if _measured(cells, column)]
    headings = [_heading("cell"), *(score_title(score.name) for score in scores)]
    headings += [*(Text(name, name) for name in benchmarks), _heading("blocks" if of_text else "pairs")]
    headings += [*(_heading(name) for _, name, _ in costs), _heading("seeds")]
    headings.append(_heading("tested_blocks" if of_text else "tested_questions"))
    intervals = {(each.cell, each.score): each.interval for each in analysis.scores}
    rows = []
    for cell in cells:
        values = []
        for score in scores:
            interval, digits = intervals.get((cell.name, score.name)), score.digits
            more = f"[{interval.low:,.{digits}f}, {interval.high:,.{digits}f}]" if interval else ""
            values.append(_value(cell.mean(score.name), digits, more, _deviation(cell.sd(score.name), digits)))
        for name in benchmarks:
            digits = digits_of(name)
            # A mean is shown only if all seeds have a value, so that cells are comparable.
            mean = cell.mean(name) if cell.column(name).notna().all() else math.nan
            values.append(_value(mean, digits, _deviation(cell.sd(name), digits)))
        values.append(_value(float(cell.train_size), 0))
        values += [
            _value(cell.mean(column), digits, _deviation(cell.sd(column), digits)) for column, _, digits in costs
        ]
        values += [_value(float(len(cell.runs)), 0), _value(cell.mean("n_test"), 0)]
        rows.append(Row(name_of(cell.label), values))
    return headings, rows


def groups_of_questions(cells: Sequence[Cell], analysis: Analysis, score: str) -> tuple[list[Text], list[Row]]:
    """Return the headings and one row per group of questions (`corpus.group`), with one score of every cell.

    No rows where the corpus of these cells names no groups.
    """
    found = {(each.group, each.cell): each for each in analysis.groups if each.score == score}
    shown = [cell for cell in cells if any(name == cell.name for _, name in found)]
    rows = []
    for group in dict.fromkeys(each.group for each in found.values() if any(each.cell == cell.name for cell in shown)):
        own = [found.get((group, cell.name)) for cell in shown]
        count = max((each.n for each in own if each is not None), default=0)
        values = [_value(float(count), 0)]
        for each in own:
            bound = each.interval if each is not None else None
            more = f"[{bound.low:.2f}, {bound.high:.2f}]" if bound else ""
            values.append(_value(math.nan if each is None else each.value, 2, more))
        rows.append(Row(Text(group, group) if group else label("report.no_group"), values))
    return [_heading("group"), _heading("tested_questions"), *(name_of(cell.label) for cell in shown)], rows


def _heading(name: str) -> Text:
    return label(f"column.{name}")


def _measured(cells: Sequence[Cell], column: str) -> bool:
    return any(cell.measured(column) for cell in cells)


def _deviation(sd: float, digits: int) -> str:
    return "" if math.isnan(sd) else f"± {sd:,.{digits}f}"


def _value(value: float, digits: int, *more: str) -> Value:
    return Value("–") if math.isnan(value) else Value(f"{value:,.{digits}f}", tuple(filter(None, more)), repr(value))
