"""Tabulates benchmarks, measured in addition to the predictions (`evaluate.zero_shot`, `evaluate.text`), by cell."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from medqa_finetune.report.outputs.csv import cells_table
from medqa_finetune.report.scores import is_benchmark

HEADER = ["cell 格", "benchmark 基准测试", "value 值", "sd", "seeds 种子"]


def main_benchmarks(columns: Iterable[str]) -> list[str]:
    """Return the columns of benchmarks, in order, without those of a benchmark's subtasks.

    A group of tasks has dozens of them (`cmmlu/acc`, `cmmlu_anatomy/acc`, …), which only the CSV files list.
    """
    found = [column for column in columns if is_benchmark(column)]
    names = {column.partition("/")[0] for column in found}
    return [column for column in found if not any(column.startswith(f"{name}_") for name in names)]


def digits_of(column: str) -> int:
    """Return the decimal places of a benchmark column: 2 for a perplexity, 3 for a share in [0, 1]."""
    return 2 if "perplexity" in column else 3


def benchmarks_table(frame: pd.DataFrame) -> list[list[str]]:
    """Return one row per cell and benchmark, with the columns `HEADER`: mean and standard deviation over seeds.

    Args:
        frame: Table from `report.table.results_table`.
    """
    columns = main_benchmarks(frame.columns)
    cells = cells_table(frame).to_dict("records") if columns else []
    return [_row(cell, column) for cell in cells for column in columns if not pd.isna(cell[f"{column}_mean"])]


def _row(cell: Mapping[Hashable, Any], column: str) -> list[str]:
    mean, sd = (cell[f"{column}_{kind}"] for kind in ("mean", "sd"))
    digits = digits_of(column)
    deviation = "–" if pd.isna(sd) else f"{sd:,.{digits}f}"
    return [str(cell["cell"]), column, f"{mean:,.{digits}f}", deviation, str(cell["seeds"])]
