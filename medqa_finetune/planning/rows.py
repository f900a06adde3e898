"""A plan as JSON."""

from collections.abc import Sequence
from typing import TypedDict


class CellRow(TypedDict):
    """One cell in a plan; times in seconds.

    Attributes:
        label: Its short name among the cells of the plan.
        price: Rounded to cents; None where no price per hour is given.
        trained_by: Name of the cell whose training it evaluates; None for its own.
        batches: Micro-batch and gradient checkpointing, and why (`planning/batches.py`).
        examples_cut: Share of the training examples that is cut to fit `train.max_length`, in [0, 1].
        questions_cut: Share of the test questions that is cut, or whose reference is, likewise.
        validations: Number of validations; 0 without training of its own.
        validation_samples: Examples of each.
        fits: Whether the peak of memory is less than the card has; null without `gpu`, as are the next two.
        training_limit: What decides training's time: `products`, `memory` or `launches`; null without training, too.
        training_utilization: Model FLOPs utilization of training, of the data sheet's rate; null likewise.
        training_parts: Seconds of training by kind of operator, and those of all launches, which overlap with the rest;
            empty likewise.
        gpus: Number of GPUs that train it, one process on each; memory is that of each.
        batch_size: Examples of a step, over all of them; null without training of its own.
        exchanged_bytes: Bytes that each of several GPUs sends to others in a step; the time of that is not included.
    """

    name: str
    label: str
    seconds: float
    start_seconds: float
    train_seconds: float
    validation_seconds: float
    evaluation_seconds: float
    peak_memory_bytes: int
    training_memory_bytes: int
    disk_bytes: int
    price: float | None
    trained_by: str | None
    batches: dict[str, object]
    examples_cut: float
    questions_cut: float
    validations: int
    validation_samples: int
    fits: bool | None
    training_limit: str | None
    training_utilization: float | None
    training_parts: dict[str, float]
    gpus: int
    batch_size: int | None
    exchanged_bytes: int


class Totals(TypedDict):
    """Sums over all cells, run one after the other; memory is the maximum. GPU-hours are hours times GPUs of a cell."""

    hours: float
    gpu_hours: float
    peak_memory_bytes: int
    disk_bytes: int
    price: float | None


class Content(TypedDict):
    """A plan as JSON: its cells, and what the figures are based on."""

    cells: Sequence[CellRow]
    sum: Totals
    basis: str
    gpu: str | None
    random_weights: list[str]
    machine: dict[str, object]
    matrix_flops_per_second: dict[str, float]
    copied_bytes_per_second: float
