"""In which order the cells of a matrix start: the longest first, so that none runs alone at the end."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from medqa_finetune.architecture.size import ModelSize, read_size
from medqa_finetune.errors import MedQAError
from medqa_finetune.methods.base import ModelMethod
from medqa_finetune.methods.registry import method_of

if TYPE_CHECKING:
    # The launcher also serves Hydra programs other than this one.
    from medqa_finetune.cell import Cell
    from medqa_finetune.config.schema import Config


def longest_first(cells: "Sequence[Cell]") -> list[int]:
    """Return the places of cells in the order of their training's work, most first; equal ones stay in their order.

    Work is what multiplies: examples, passes over them, and operations per token of method and model. How long a cell
    answers is left out: it is alike in the cells of most matrices, and unknown before the model has learnt to stop.
    Cells that share a run have the same work, so that the first of them still trains it.
    """
    sizes = [_size_of(cell.model) for cell in cells]
    known = all(size is not None for size in sizes)
    works = [_work_of(cell.config, size if known else None) for cell, size in zip(cells, sizes, strict=True)]
    return sorted(range(len(cells)), key=lambda place: -works[place])


def _work_of(config: "Config", size: ModelSize | None) -> float:
    method = method_of(config.method)
    if not isinstance(method, ModelMethod) or not method.trains_weights:
        return 0.0
    train = config.train
    # All of a corpus is more than any part of it.
    seen = (float("inf") if config.train_size is None else config.train_size) * train.epochs
    if train.max_steps is not None:
        seen = min(seen, train.max_steps * train.batch_size)
    return seen * (1 if size is None else method.training_flops(size).per_token)


@cache
def _size_of(model: Path) -> ModelSize | None:
    try:
        return read_size(model)
    except (MedQAError, OSError):
        return None
