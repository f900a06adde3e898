"""The table of cells as the page shows it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures.cells import Cell
from medqa_finetune.report.messages import drawn, label, score_title
from medqa_finetune.report.outputs.benchmarks import digits_of, main_benchmarks
from medqa_finetune.report.scores import in_order, score_columns
from medqa_finetune.report.words import Text

# Column of the table, what its heading is called in `messages`, digits behind the point.
COSTS = (
    ("peak_vram_gib", "vram", 2),
    ("peak_rss_gib", "rss", 2),
    ("train_seconds", "seconds", 0),
    ("train_tokens_per_second", "tokens", 0),
    ("eval_samples_per_second", "answers", 1),
)


@dataclass(frozen=True)
class Value:
    """A figure of the table: its text, lines small below it, and what it is sorted by (empty if not measured)."""

    text: str
    more: tuple[str, ...] = ()
    sort: str = ""


@dataclass(frozen=True)
class Row:
    """One cell."""

    label: Text
    values: list[Value]


def results_of(cells: Sequence[Cell], analysis: Analysis) -> tuple[list[Text], list[Row]]:
    """Return the headings and one row per cell; columns in which nothing was measured are left out."""
    signed = [signature for cell in cells for signature in cell.runs["signature"]]
    scores = [score for score in in_order(score_columns(signed)) if _measured(cells, score.name)]
    costs = [cost for cost in COSTS if _measured(cells, cost[0])]
    of_text = any(cell.runs["task"].eq("text").any() for cell in cells)
    benchmarks = (
        [column for column in main_benchmarks(cells[0].runs.columns) if _measured(cells, column)] if cells else []
    )
    headings = [_heading("cell"), *(score_title(score.name) for score in scores)]
    headings += [*(Text(benchmark, benchmark) for benchmark in benchmarks), _heading("blocks" if of_text else "pairs")]
    headings += [*(_heading(name) for _, name, _ in costs), _heading("seeds")]
    headings.append(_heading("tested_blocks" if of_text else "tested_questions"))
    intervals = {(each.cell, each.score): each.interval for each in analysis.scores}
    rows = []
    for cell in cells:
        values = []
        for score in scores:
            interval = intervals.get((cell.name, score.name))
            more = f"[{interval.low:.{score.digits}f}, {interval.high:.{score.digits}f}]" if interval else ""
            deviation = _deviation(cell.sd(score.name), score.digits)
            values.append(_value(cell.mean(score.name), score.digits, more, deviation))
        for benchmark in benchmarks:
            digits = digits_of(benchmark)
            # A mean over some of the seeds would stand in the row of all of them.
            mean = cell.mean(benchmark) if cell.runs[benchmark].notna().all() else math.nan
            values.append(_value(mean, digits, _deviation(cell.sd(benchmark), digits)))
        values.append(_value(float(cell.size), 0))
        values += [
            _value(cell.mean(column), digits, _deviation(cell.sd(column), digits)) for column, _, digits in costs
        ]
        values += [_value(float(len(cell.runs)), 0), _value(cell.mean("n_test"), 0)]
        rows.append(Row(drawn(cell.label) or Text(cell.label, cell.label), values))
    return headings, rows


def _heading(name: str) -> Text:
    return label(f"column.{name}")


def _measured(cells: Sequence[Cell], column: str) -> bool:
    return any(cell.measured(column) for cell in cells)


def _deviation(sd: float, digits: int) -> str:
    return "" if math.isnan(sd) else f"± {sd:,.{digits}f}"


def _value(value: float, digits: int, *more: str) -> Value:
    return Value("–") if math.isnan(value) else Value(f"{value:,.{digits}f}", tuple(filter(None, more)), repr(value))
