"""Checks a matrix as a whole before its first cell starts; nothing is written before every check has passed."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from medqa_finetune.cell import Cell
from medqa_finetune.config.labels import labels_of
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError, Fault, RunError, distinct, noting
from medqa_finetune.evaluation.benchmarks import check_benchmarks
from medqa_finetune.languages.labels import joined, spoken_label
from medqa_finetune.languages.translate import Kind, say, translated
from medqa_finetune.objectives import task_of
from medqa_finetune.preflight import check_packages, preflight_matrix
from medqa_finetune.run_state.claim import ensure_records
from medqa_finetune.run_state.resume import earlier_record, fetched, warn_of_changed_files

TRAIN_SIZE = "data.train_size"
Item = TypeVar("Item")
Result = TypeVar("Result")


def check_matrix(cells: Sequence[Cell], *, here: bool = True) -> list[Cell]:
    """Return the cells to launch, after writing their records; the faults of all cells are reported together.

    Args:
        cells: The cells of the matrix.
        here: Whether they run on this machine, which is checked then; others check themselves at each start.

    Raises:
        MedQAError: a cell cannot run; no record has been written.
    """
    cells = check_all(distinct_cells(cells), fetched)
    records = check_all(cells, earlier_record)
    open_cells = []
    for cell, record in zip(cells, records, strict=True):
        if record is not None and record.status == "done":
            warn_of_changed_files(cell)
        else:
            open_cells.append(cell)
    check_all(open_cells, lambda cell: check_packages(cell.config))
    # Every corpus is prepared up front, so that a matrix whose last cell asks for too many examples never starts.
    counts = check_all(open_cells, lambda cell: task_of(cell.config).look(cell.config))
    check_all(open_cells, lambda cell: check_benchmarks(cell.config))
    if open_cells:
        preflight_matrix([cell.config for cell in open_cells], counts, here=here)
    for cell in open_cells:
        _write_records(cell)
    return cells


def check_all(items: Sequence[Item], check: Callable[[Item], Result]) -> list[Result]:
    """Apply `check` to every item; raise the faults of all items together, each fault once.

    Raises:
        ConfigError: `check` refused at least one item.
    """
    results: list[Result] = []
    faults: list[Fault] = []
    for item in items:
        with noting(faults):
            results.append(check(item))
    if faults:
        raise ConfigError(*distinct(faults))
    return results


def distinct_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Drop cells that repeat another's training and evaluation, and print which were dropped.

    Raises:
        ConfigError: two different trainings, or evaluations, would share a folder.
    """
    trainings: dict[Path, Cell] = {}
    kept: dict[Path, Cell] = {}
    repeated: dict[Path, list[Cell]] = {}
    for cell in cells:
        first = trainings.setdefault(cell.run.path, cell)
        if first.identity != cell.identity:
            raise _two_in_one(cell.run.path, first, cell)
        first = kept.setdefault(cell.evaluation.path, cell)
        if first is cell:
            continue
        if first.evaluation_identity != cell.evaluation_identity:
            raise _two_in_one(cell.evaluation.path, first, cell)
        repeated.setdefault(cell.evaluation.path, []).append(cell)
    typed = dict.fromkeys(filter(None, (scaled_size(cell.config, cell.overrides) for cell in cells)))
    for text in typed:
        print(translated(text, Kind.SAID), file=sys.stderr)
    if repeated:
        labels = dict(zip(kept, labels_of([cell.config for cell in kept.values()]), strict=True))
        alike: dict[str, list[str]] = {}
        for path, others in repeated.items():
            alike.setdefault(_run_once(kept[path], others), []).append(labels[path])
        for said, names in alike.items():
            print(say("{names}: {said}", names=joined(map(spoken_label, names)), said=said), file=sys.stderr)
    return list(kept.values())


def _run_once(first: Cell, others: Sequence[Cell]) -> str:
    """Return how many cells of a sweep are one, and the settings without effect on it."""
    values: dict[str, set[str]] = {}
    for cell in (first, *others):
        for key, _, value in (each.partition("=") for each in cell.overrides):
            values.setdefault(key.lstrip("+"), set()).add(value)
    keys = say(" or ").join(key for key, own in values.items() if len(own) > 1)
    count = 1 + len(others)
    if not keys:
        return say("{count} cells of the sweep are one, run once", count=count)
    return say("{count} cells of the sweep are one, run once; no {keys} changes it", count=count, keys=keys)


def scaled_size(config: Config, overrides: Sequence[str]) -> str | None:
    """Return what `data.scale` of a profile makes of a training size that was typed; None where it changes nothing."""
    typed = {key.lstrip("+"): value for key, _, value in (each.partition("=") for each in overrides)}
    size = typed.get(TRAIN_SIZE)
    if size is None or "data.scale" in typed or config.data.scale == 1.0 or config.train_size is None:
        return None
    return (
        f"{TRAIN_SIZE}={size} is {config.train_size:,} here, by data.scale={config.data.scale:g} of the profile; "
        "data.scale=1 takes sizes as they are typed"
    )


def _two_in_one(folder: Path, first: Cell, second: Cell) -> ConfigError:
    both = f"{' '.join(first.overrides)} and {' '.join(second.overrides)}"
    return ConfigError(Fault("two-runs-one-folder", f"would hold two different runs: {both}", file=str(folder)))


def _write_records(cell: Cell) -> None:
    """Write a cell's record, unless another process works on it; a cell that overwrites does so itself."""
    if cell.config.overwrite:
        return
    try:
        with cell.run.lock():
            ensure_records(cell)
    except RunError:
        if not cell.run.is_locked():
            raise
