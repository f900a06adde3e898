"""In which order the cells of a matrix start."""

from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.cell import Cell
from medqa_finetune.launch.order import longest_first
from tests.cells import cell_in


def cells(root: Path, *values: dict[str, Any]) -> list[Cell]:
    return [cell_in(root, **each) for each in values]


@pytest.mark.parametrize(
    ("values", "order"),
    [
        ([{"data__train_size": size} for size in (20, 100, 50, 100)], [1, 3, 2, 0]),
        # Of all examples of a corpus, and of none.
        ([{"data__train_size": 100}, {"method__trains": "nothing"}, {"data__train_size": None}], [2, 0, 1]),
        ([{"train__epochs": epochs} for epochs in (1.0, 3.0)], [1, 0]),
        ([{"train__max_steps": 1}, {}], [1, 0]),
        ([{"seed": seed} for seed in range(3)], [0, 1, 2]),
    ],
)
def test_longest_training_comes_first(values: list[dict[str, Any]], order: list[int], tmp_path: Path) -> None:
    assert longest_first(cells(tmp_path, *values)) == order
