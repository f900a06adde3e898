"""Scores per prediction, so that a report can resample predictions without scoring them again."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medqa_finetune.record.files import write_bytes

IDS, PREDICTIONS_SHA256 = "ids", "predictions_sha256"
VALUE, COUNT = "value.", "count."


@dataclass(frozen=True)
class ItemScores:
    """Scores of n predictions, in the order of `predictions.jsonl`.

    Attributes:
        predictions_sha256: sha256 of the scored file of predictions.
        ids: Ids of the predictions, shape (n,).
        values: For each score that is a mean over predictions (`rougeL`): their own scores in float64, shape (n,).
        counts: For each score that is an aggregate (`bleu`), by what is counted: float64 or int64, shape (n,).
    """

    predictions_sha256: str
    ids: npt.NDArray[np.str_]
    values: Mapping[str, npt.NDArray[np.float64]]
    counts: Mapping[str, Mapping[str, npt.NDArray[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arrays = [*self.values.values(), *(array for columns in self.counts.values() for array in columns.values())]
        if any(array.shape != self.ids.shape for array in arrays):
            raise ValueError(f"item scores: not every column has {len(self.ids)} rows")


def to_bytes(scores: ItemScores) -> bytes:
    """Return the content of an `.npz` file; equal scores give equal bytes."""
    arrays: dict[str, npt.NDArray[Any]] = {IDS: scores.ids, PREDICTIONS_SHA256: np.array(scores.predictions_sha256)}
    arrays |= {VALUE + name: array for name, array in scores.values.items()}
    for name, columns in scores.counts.items():
        arrays |= {f"{COUNT}{name}.{column}": array for column, array in columns.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def write_item_scores(path: Path, scores: ItemScores) -> None:
    """Write the scores atomically."""
    write_bytes(path, to_bytes(scores))


def read_item_scores(path: Path) -> ItemScores | None:
    """Return the scores in a file; None where it is missing or damaged, since they can be recomputed."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return _from_arrays({name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> ItemScores:
    counts: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for name in arrays:
        if name.startswith(COUNT):
            score, _, column = name.removeprefix(COUNT).partition(".")
            counts.setdefault(score, {})[column] = arrays[name]
    values = {name.removeprefix(VALUE): array for name, array in arrays.items() if name.startswith(VALUE)}
    return ItemScores(str(arrays[PREDICTIONS_SHA256]), arrays[IDS], values, counts)
