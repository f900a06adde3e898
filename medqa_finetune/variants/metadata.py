"""Reads and writes `metadata.json` of an exported model: variant, origin, settings, files, size and measurements."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from medqa_finetune.compat.pydantic import fault_of
from medqa_finetune.errors import DataError
from medqa_finetune.record.files import write_json
from medqa_finetune.record.schema import Environment, FileStamp, Score

METADATA_NAME = "metadata.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Needed:
    """The base model required to load an adapter: its folder and its size in bytes.

    Attributes:
        variant: The variant equal to the base as quantized in training; None if there is none.
    """

    variant: str | None
    folder: str
    size_bytes: int


@dataclass(frozen=True)
class Measured:
    """Measurements of a variant, loaded in its own process. What was not measured is None, never 0.

    Attributes:
        questions_sha256: SHA-256 over ids, questions and references, in order.
        max_samples: Value of `export.max_samples`.
        n: Number of questions; every score counts all of them.
        seconds: Duration of generation alone.
        samples_per_second: Questions per second, in the run's batches.
        tokens_per_second: Generated tokens per second, without padding.
        peak_vram_bytes: Peak GPU memory held by tensors; None without CUDA.
        peak_vram_reserved_bytes: Peak GPU memory held by the allocator; None without CUDA.
        peak_rss_bytes: Peak resident memory of the process.
        start_rss_bytes: Resident memory before the model was loaded: Python and its libraries.
    """

    questions_sha256: str
    max_samples: int | None
    n: int
    scores: dict[str, Score]
    seconds: float
    samples_per_second: float
    tokens_per_second: float
    peak_vram_bytes: int | None
    peak_vram_reserved_bytes: int | None
    peak_rss_bytes: int
    start_rss_bytes: int
    environment: Environment


@dataclass(frozen=True)
class Metadata:
    """The metadata of an exported model.

    Attributes:
        variant: Name of the variant.
        what: Description of the variant.
        made_from: The run (name, identity, method, data, model, seed), the base's fingerprint, the trained weights'
            SHA-256, and their locations.
        settings: Further settings that determine the weights: quantization and precision.
        files: Every file of the folder but this one.
        size_bytes: Total size of these files.
        needs: The base required to load it; None for all but adapters.
        measured: Its measurements; None before they are made.
        differences: Each figure minus that of `base`, and minus that of `lora` (the cost of merging and quantizing).
        environment: Environment of the process that built it.
    """

    variant: str
    what: str
    made_from: dict[str, Any]
    settings: dict[str, Any]
    files: dict[str, FileStamp]
    size_bytes: int
    environment: Environment
    finished: str
    needs: Needed | None = None
    measured: Measured | None = None
    differences: dict[str, dict[str, float]] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def total_bytes(self) -> int:
        """Bytes on disk required to load it, including an adapter's base."""
        return self.size_bytes + (self.needs.size_bytes if self.needs is not None else 0)


def read_metadata(folder: Path) -> Metadata | None:
    """Return the metadata of an exported model; None if the folder has none.

    Raises:
        DataError: the file is torn, has another schema, or holds a value of the wrong type.
    """
    path = folder / METADATA_NAME
    if not path.is_file():
        return None
    try:
        return TypeAdapter(Metadata).validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        hint = f"Move {folder} away, or give overwrite=true, which does that."
        raise DataError(fault_of(error).but(file=str(path), hint=hint)) from None


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Write `metadata.json`, unless its content is unchanged."""
    path = folder / METADATA_NAME
    content = dataclasses.asdict(metadata)
    if not path.is_file() or json.loads(path.read_bytes()) != json.loads(json.dumps(content)):
        write_json(path, content)


def changes(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return one `key: old -> new` per entry that differs between two mappings."""
    keys = sorted(old.keys() | new.keys())
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys if old.get(key) != new.get(key)]
