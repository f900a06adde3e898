"""What a tracker is told, and what it does with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from transformers import TrainerCallback

PROJECT = "medqa_finetune"
SEED = "seed"

Value = str | bool | int | float


@dataclass(frozen=True)
class Row:
    """One row of a tracker's table: a training with one evaluation of it.

    Attributes:
        id: The same at every restart and every report, different for a training that starts from the beginning.
        name: Name of the run; with that of the evaluation if the training's row has another one.
        cell: Name of the cell: rows that have it in common differ in the seed alone.
        evaluation: Name of the evaluation.
        folder: The run folder.
        outputs: Root of all run folders; contains stores shared by several runs.
        settings: What is known before training: settings, corpus, sizes, device. Every row has the same keys, and no
            value is None.
        results: Scores and costs; what was not measured is left out.
        step: The last optimizer step; 0 without a training.
    """

    id: str
    name: str
    cell: str
    evaluation: str
    folder: Path
    outputs: Path
    settings: Mapping[str, Value] = field(default_factory=dict)
    results: Mapping[str, float] = field(default_factory=dict)
    step: int = 0


class Tracker(Protocol):
    """One open tracker."""

    def curves(self, resumed_from: int | None) -> "TrainerCallback":
        """Return the callback that logs the curves of a training.

        Args:
            resumed_from: Step that it resumes from; None for a new one.
        """

    def report(self, row: Row) -> None:
        """Write settings and results; a later report of the same row replaces them."""
