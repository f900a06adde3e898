"""Cells that a matrix has composed and checked, given to the processes that run them.

Hydra composes a cell again in the process that runs it, from the files as they are then, which may be hours later. What
a file says by then is for the next command: a cell runs as its matrix was checked.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from medqa_finetune.errors import ConfigError, Fault

if TYPE_CHECKING:
    # The launcher also serves Hydra programs other than this one.
    from medqa_finetune.cell import Cell

# Environment variable that names the file with the cell of this process, which our launcher writes.
PLANNED_VARIABLE = "MEDQA_PLANNED_CELL"
# Name of a run and of its evaluation, which tell the cells of a matrix apart.
Names = tuple[str, str]

_planned: ContextVar[Mapping[Names, "Cell"]] = ContextVar("_planned")
FILES = {"corpus": "corpus", "parts": "corpus", "model": "model", "text": "evaluate.text"}


def by_names(cells: Sequence["Cell"]) -> dict[Names, "Cell"]:
    """Return cells by the names that the processes which run them are given."""
    return {(cell.config.run_name, cell.config.evaluation_name): cell for cell in cells}


@contextmanager
def planning(cells: Mapping[Names, "Cell"]) -> Iterator[None]:
    """Let `planned_cell` find cells within the block."""
    before = _planned.set(cells)
    try:
        yield
    finally:
        _planned.reset(before)


def as_text(cell: "Cell") -> str:
    """Return a cell as JSON."""
    from pydantic import TypeAdapter

    from medqa_finetune.cell import Cell

    # As ASCII: names of files may not be UTF-8.
    return json.dumps(TypeAdapter(Cell).dump_python(cell, mode="json"))


def planned_cell(composed: DictConfig) -> "Cell | None":
    """Return the cell that a matrix gave this process to run; None where no matrix did.

    Args:
        composed: What Hydra composed here and now, for the names.

    Raises:
        MedQAError: a file of the cell has changed since it was checked, or cannot be read.
    """
    if path := os.environ.get(PLANNED_VARIABLE):
        from pydantic import TypeAdapter

        from medqa_finetune.cell import Cell

        given = TypeAdapter(Cell).validate_python(json.loads(Path(path).read_bytes()))
        _check_files(given)
        return given
    names = str(composed.get("run_name", "")), str(composed.get("evaluation_name", ""))
    cell = _planned.get({}).get(names)
    if cell is not None:
        _check_files(cell)
    return cell


def _check_files(cell: "Cell") -> None:
    from medqa_finetune.cell import fingerprints_of
    from medqa_finetune.model.locate import locate_model

    found = fingerprints_of(cell.config, locate_model(cell.config.model))
    changed = {key: name for name, key in FILES.items() if getattr(found, name) != getattr(cell.fingerprints, name)}
    if changed:
        hint = "Put the files back and type the command again, or begin anew: study=NAME."
        problem = "its files have changed since the matrix was checked"
        raise ConfigError(*(Fault("files-changed", problem, key=key, hint=hint) for key in changed))
