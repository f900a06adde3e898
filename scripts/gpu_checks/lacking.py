"""Lets the package's training and answering load where some of its dependencies are missing."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

# Packages, by the name that is imported, that a machine with a GPU may lack, and what does not run without them.
MAY_LACK = {
    "bitsandbytes": "QLoRA and 8-bit optimizers",
    "hydra": "the commands",
    "omegaconf": "the commands",
    "antlr4": "the commands",
    "rouge_score": "ROUGE",
    "rensa": "preparation of a corpus",
    "jieba": "LLaMA-Factory's metrics",
    "datasets": "sets of tokens on the disk",
}


def lacking() -> list[str]:
    """Return the packages that are missing here, by the name that is imported."""
    return [name for name in MAY_LACK if find_spec(name) is None]


class Rows:
    """A table in memory, with what `data/token_sets.py` asks of a `datasets.Dataset`."""

    def __init__(self, table: Any, fingerprint: str) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, rows: int | list[int]) -> dict[str, Any]:
        """Return one row, or the columns of several."""
        if isinstance(rows, int):
            row: dict[str, Any] = self._table.slice(range(len(self))[rows], 1).to_pylist()[0]
            return row
        columns: dict[str, Any] = self._table.take(rows).to_pydict()
        return columns

    def iter(self, size: int) -> Iterator[dict[str, Any]]:
        """Yield the columns of `size` rows at a time."""
        for begin in range(0, len(self), size):
            yield self._table.slice(begin, size).to_pydict()

    def with_format(self, form: str) -> Any:
        """Return the table itself, of which a slice gives whole columns."""
        return self._table


class _Stand(ModuleType):
    """A module in the place of a missing one: it has any name, and none of them does anything."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _unusable(f"{self.__name__}.{name}")


def _unusable(name: str) -> type:
    def fail(self: object, *arguments: object, **options: object) -> None:
        raise ModuleNotFoundError(f"{name} is used, and its package is missing")

    return type(name.rpartition(".")[2], (), {"__init__": fail})


def stand_in(missing: list[str]) -> None:
    """Put stand-ins in the place of packages that are missing, since the package imports them with what is checked.

    Those for settings and sets of tokens hold what training and answering use; any other use fails.
    """
    held: dict[str, dict[str, object]] = {"omegaconf": {"MISSING": "???"}, "datasets": {"Dataset": Rows}}
    for name in missing:
        if name != "bitsandbytes":  # its absence is asked for
            module = _Stand(name)
            module.__dict__.update(held.get(name, {}))
            sys.modules[name] = module
