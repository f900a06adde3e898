"""Exams beside the answers (`evaluate.zero_shot`, `evaluate.text`), as tables of cells for terminal and report.md."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from medqa_finetune.config.command_line import aligned_table
from medqa_finetune.log import visible
from medqa_finetune.record.short_names import short_names
from medqa_finetune.report.scores import is_exam, score_name
from medqa_finetune.report.seeds import cells_table

NAME_WIDTH = 40


def exam_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns of a table that are of exams, in order."""
    return [column for column in columns if is_exam(column)]


def exams_as_text(frame: pd.DataFrame) -> str:
    """Return the exams of each cell for a terminal; empty where there are none.

    Args:
        frame: As `report.table.results_table` makes it, exams set apart by `seeds.apart`.
    """
    header, rows = exams_table(frame)
    if not rows:
        return ""
    names = short_names([visible(row[0]) for row in rows], NAME_WIDTH)
    return aligned_table(header, [[name, *row[1:]] for name, row in zip(names, rows, strict=True)], left=["cell"])


def digits_of(column: str) -> int:
    """Return how many digits behind the point an exam is shown with: shares go from 0 to 1."""
    return 2 if score_name(column).of_tokens else 3


def exams_table(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return header and one row per cell that was examined: mean over its seeds, and standard deviation.

    Args:
        frame: As `report.table.results_table` makes it, exams set apart by `seeds.apart`.
    """
    exams = exam_columns(frame.columns)
    cells = cells_table(frame).to_dict("records") if exams else []
    examined = [cell for cell in cells if any(not pd.isna(cell[f"{exam}_mean"]) for exam in exams)]
    return ["cell", *exams], [[str(cell["cell"]), *(_figure(cell, exam) for exam in exams)] for cell in examined]


def _figure(cell: dict[Any, Any], exam: str) -> str:
    mean, sd = cell[f"{exam}_mean"], cell[f"{exam}_sd"]
    if pd.isna(mean):
        return "-"
    digits = digits_of(exam)
    return f"{mean:,.{digits}f}" + ("" if pd.isna(sd) else f" ± {sd:,.{digits}f}")
