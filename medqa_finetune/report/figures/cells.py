"""The cells of a group: runs that differ in their seed only, with the mean over their seeds."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from medqa_finetune.report.figures.panels import colours
from medqa_finetune.report.groups import Group, plain


@dataclass(frozen=True)
class Cell:
    """One method at one data size.

    Attributes:
        name: As the column `cell` of the table has it.
        entry: Method with the settings that set it apart; what the legend says.
        size: Training pairs; 0 where nothing was trained.
        runs: Rows of the done runs, one per seed, by seed.
        label: What charts and the page call it: short, and its own within the group.
    """

    name: str
    entry: str
    size: int
    runs: pd.DataFrame
    label: str

    def mean(self, column: str) -> float:
        """Return the mean over seeds, NaN where none was measured."""
        return float(self.runs[column].astype(float).mean())

    def measured(self, column: str) -> bool:
        """Say whether any run has a value in a column."""
        return bool(self.runs[column].notna().any())

    def sd(self, column: str) -> float:
        """Return the standard deviation over seeds (n - 1), NaN for fewer than two."""
        return float(self.runs[column].astype(float).std())


def cells_of(group: Group) -> list[Cell]:
    """Return the done cells of a group: baselines first, then method by method, each by data size."""
    rows = pd.concat([group.base, group.tuned])
    cells = []
    for name, runs in rows.groupby("cell", sort=False):
        first = runs.iloc[0]
        size = int(first["train_size"])
        entry = str(first["entry"]) if size else baseline_name(str(first["method"]))
        label = f"{entry} {plain(str(first['data']))}" if size else entry
        cells.append(Cell(str(name), entry, size, runs.sort_values("seed"), label))
    labels = Counter(cell.label for cell in cells)
    cells = [cell if labels[cell.label] == 1 else replace(cell, label=plain(cell.name)) for cell in cells]
    return sorted(cells, key=lambda cell: (cell.size > 0, cell.entry, cell.size, cell.name))


def baseline_name(method: str) -> str:
    """Return what a method that trains nothing is called."""
    return "untuned base" if method == "none" else method


def entry_colours(group: Group) -> dict[str, Any]:
    """Return a colour per method as hexadecimal text, the same in every chart; baselines are grey."""
    from matplotlib.colors import to_hex

    return {entry: to_hex(colour) for entry, colour in colours(group).items()}


def table_of(cells: list[Cell], columns: list[str]) -> pd.DataFrame:
    """Return one row per cell with mean, and standard deviation over seeds, of each column."""
    rows = []
    for cell in cells:
        row: dict[str, Any] = {"cell": cell.name, "method": cell.entry, "train_size": cell.size,
                               "seeds": len(cell.runs)}  # fmt: skip
        for column in columns:
            row |= {column: cell.mean(column), f"{column}_sd": cell.sd(column)}
        rows.append(row)
    return pd.DataFrame(rows)
