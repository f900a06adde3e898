"""Benchmarks (`evaluate.zero_shot`, `evaluate.text`): a table of cells for terminal and report.md."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from medqa_finetune.config.command_line import aligned_table
from medqa_finetune.log import visible
from medqa_finetune.record.short_names import shared_settings, short_names, without_settings
from medqa_finetune.report.scores import is_benchmark
from medqa_finetune.report.seeds import cells_table

HEADER = ["cell 格", "benchmark 测试", "value 值", "sd", "seeds 种子"]
NAME_WIDTH = 50


def benchmark_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns of a table that are of benchmarks, in order."""
    return [column for column in columns if is_benchmark(column)]


def main_benchmarks(columns: Iterable[str]) -> list[str]:
    """Return the columns of benchmarks but for those of an benchmark's parts.

    A group of tasks comes with dozens of them (`cmmlu/acc`, `cmmlu_anatomy/acc`, …), which the CSV files have.
    """
    benchmarks = benchmark_columns(columns)
    names = {benchmark.partition("/")[0] for benchmark in benchmarks}
    return [benchmark for benchmark in benchmarks if not any(benchmark.startswith(f"{name}_") for name in names)]


def digits_of(column: str) -> int:
    """Return how many digits behind the point an benchmark is shown with: shares go from 0 to 1."""
    return 2 if "perplexity" in column else 3


def benchmarks_table(frame: pd.DataFrame) -> list[list[str]]:
    """Return one row per cell and benchmark, columns `HEADER`: mean over seeds, standard deviation between them.

    Args:
        frame: As `report.table.results_table` makes it, benchmarks set apart by `seeds.apart`.
    """
    benchmarks = main_benchmarks(frame.columns)
    cells = cells_table(frame).to_dict("records") if benchmarks else []
    return [
        _row(cell, benchmark) for cell in cells for benchmark in benchmarks if not pd.isna(cell[f"{benchmark}_mean"])
    ]


def benchmarks_as_text(frame: pd.DataFrame) -> str:
    """Return that table for a terminal; empty where there are no benchmarks."""
    rows = benchmarks_table(frame)
    if not rows:
        return ""
    header = [name.partition(" ")[0] for name in HEADER]
    names = [row[0] for row in rows]
    # What all of them share, the runs' table above has said.
    shared = shared_settings(names, names) if max(map(len, names)) > NAME_WIDTH else []
    cells = short_names([visible(without_settings(name, shared)) for name in names], NAME_WIDTH)
    benchmarks = short_names([visible(row[1]) for row in rows], NAME_WIDTH)
    shown = [[cell, benchmark, *row[2:]] for cell, benchmark, row in zip(cells, benchmarks, rows, strict=True)]
    return aligned_table(header, shown, left=["cell", "benchmark"])


def _row(cell: dict[Any, Any], benchmark: str) -> list[str]:
    mean, sd = (cell[f"{benchmark}_{kind}"] for kind in ("mean", "sd"))
    digits = digits_of(benchmark)
    return [str(cell["cell"]), benchmark, f"{mean:,.{digits}f}", "–" if pd.isna(sd) else f"{sd:,.{digits}f}",
            str(cell["seeds"])]  # fmt: skip
