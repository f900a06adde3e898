"""Sets of encoded examples: memory-mapped by `datasets`, and tokenized once for all runs with the same training data.

Importing `datasets` takes a second; transformers' Trainer imports it too, so training loses no time.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol, TypedDict, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from medqa_finetune.data.examples import Encoded, EncodingCounts
from medqa_finetune.data.prepare import locked
from medqa_finetune.record.checksums import damages, stamp_of
from medqa_finetune.record.files import replace_folder, sha256_of_text, sweep, write_json
from medqa_finetune.record.schema import FileStamp

logger = logging.getLogger(__name__)

TOKENS, MANIFEST = "tokens.arrow", "manifest.json"
SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("answer_start", pa.int32()),
        ("cut", pa.bool_()),
        # Start and end of each earlier answer that is trained on, alternating.
        ("earlier", pa.list_(pa.int32())),
        *((name, pa.int32()) for name in ("untrained", "marks", "thoughts")),
    ]
)
BATCH_ROWS = 1000

Item = dict[str, list[int]]


class _Row(TypedDict):
    input_ids: list[int]
    answer_start: int
    cut: bool
    earlier: list[int]
    untrained: int
    marks: int
    thoughts: int


class EncodedSet(Sequence[Item]):
    """A sequence of encoded examples, memory-mapped if they come from a file.

    As a map-style dataset of torch: an item is `{"input_ids", "labels"}`, lists of equally many ints.

    Args:
        encoded: The examples; they are kept in memory, at four bytes per token.
    """

    def __init__(self, encoded: Iterable[Encoded] = ()) -> None:
        # With an explicit fingerprint: `datasets` would otherwise hash the whole table.
        self._rows = Dataset(pa.Table.from_batches(_batches(encoded), SCHEMA), fingerprint="in-memory")

    @classmethod
    def _of(cls, rows: Dataset) -> "EncodedSet":
        fresh = cls.__new__(cls)
        fresh._rows = rows
        return fresh

    @classmethod
    def open(cls, path: Path) -> "EncodedSet":
        """Map the file of a set into memory.

        Raises:
            OSError: the file cannot be read.
            pyarrow.ArrowInvalid: it is not the file of a set.
        """
        return cls._of(Dataset.from_file(str(path)))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        """Return one item, or those of a slice; -1 is the last one, as in a list."""
        if isinstance(index, slice):
            return self.__getitems__(range(len(self))[index])
        return _item(self.encoded(index))

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Return several items. torch's DataLoader calls this for a whole batch, which is four times faster."""
        return [_item(_encoded(row)) for row in _rows_of(self._rows[list(indices)])]

    def __iter__(self) -> Iterator[Item]:
        for batch in self._rows.iter(BATCH_ROWS):
            yield from (_item(_encoded(row)) for row in _rows_of(batch))

    def encoded(self, index: int) -> Encoded:
        """Return one example as it was added.

        Raises:
            IndexError: there is no such example.
        """
        return _encoded(self._rows[index])

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of tokens of each example, of shape (examples,)."""
        return cast(
            "npt.NDArray[np.int64]", pc.list_value_length(self._column("input_ids")).to_numpy().astype(np.int64)
        )

    @property
    def tokens(self) -> int:
        """Number of tokens of all examples."""
        return int(self.lengths.sum())

    @cached_property
    def counts(self) -> EncodingCounts:
        """What was changed to encode the set."""
        names = ("cut", "untrained", "marks", "thoughts")
        return EncodingCounts(len(self), *(int(pc.sum(self._column(name)).as_py() or 0) for name in names))

    @property
    def cut(self) -> int:
        """Number of examples cut to fit `train.max_length`."""
        return self.counts.cut

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal sha256 of all tokens (int32), then of where each example ends (int64)."""
        total = hashlib.sha256()
        for chunk in self._column("input_ids").chunks:
            total.update(chunk.flatten().to_numpy().tobytes())
        total.update(np.cumsum(self.lengths, dtype=np.int64).tobytes())
        return total.hexdigest()

    def prefix(self, n: int) -> "EncodedSet":
        """Return the first `n` examples, or all if there are fewer, without copying."""
        return self._of(self._rows.select(range(min(n, len(self)))))

    def _column(self, name: str) -> pa.ChunkedArray:
        return self._rows.with_format("arrow")[:][name]


def _batches(encoded: Iterable[Encoded]) -> Iterator[pa.RecordBatch]:
    waiting = iter(encoded)
    while batch := list(islice(waiting, BATCH_ROWS)):
        columns = (
            [each.input_ids for each in batch],
            [each.answer_start for each in batch],
            [each.cut for each in batch],
            [[place for span in each.earlier for place in span] for each in batch],
            [each.untrained for each in batch],
            [each.marks for each in batch],
            [each.thoughts for each in batch],
        )
        yield pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def _rows_of(batch: dict[str, list[object]]) -> Iterator[_Row]:
    return (cast("_Row", dict(zip(batch, values, strict=True))) for values in zip(*batch.values(), strict=True))


def _encoded(row: _Row) -> Encoded:
    bounds = row["earlier"]
    spans = tuple(zip(bounds[::2], bounds[1::2], strict=True))
    changes = (row["untrained"], row["marks"], row["thoughts"])
    return Encoded(row["input_ids"], row["answer_start"], row["cut"], spans, *changes)


def _item(encoded: Encoded) -> Item:
    return {"input_ids": encoded.input_ids, "labels": encoded.labels}


class Hashed(Protocol):
    """A set of examples or a text, identified by its content."""

    @property
    def sha256(self) -> str:
        """Hexadecimal hash of the whole content."""


Content_contra = TypeVar("Content_contra", bound=Hashed, contravariant=True)


class SetEncoder(Protocol[Content_contra]):
    """Encodes a whole set of examples, or a text, as token ids."""

    @property
    def fingerprint(self) -> str | None:
        """A hash of everything that determines the ids; None if there is no such hash."""

    def encode(self, content: Content_contra, /) -> Iterable[Encoded]:
        """Yield the encoded items of the set, in order."""

    def report(self, counts: EncodingCounts) -> None:
        """Log what was changed to encode the items, if anything was."""


def encode_once(encoder: SetEncoder[Content_contra], content: Content_contra, cache: Path) -> EncodedSet:
    """Return a set encoded: from the cache if it is there and undamaged, else encoded now and added to it.

    Two processes that need the same set tokenize it once: the second waits for the first.

    Args:
        encoder: Encodes the set; without a fingerprint, in memory and each time again.
        content: The set to encode.
        cache: Folder of encoded sets; created if missing.

    Raises:
        OSError: the cache cannot be written.
    """
    if encoder.fingerprint is None:
        return EncodedSet(encoder.encode(content))
    key = sha256_of_text(json.dumps([content.sha256, encoder.fingerprint]))
    folder = cache / f"encoded-{key[:16]}"
    with locked(cache / f".{folder.name}.lock"):
        sweep(cache, folder.name)
        found = read_encoded(folder, key)
        if found is not None:
            encoder.report(found.counts)
            return found
        return write_encoded(folder, key, encoder.encode(content))


def write_encoded(folder: Path, key: str, encoded: Iterable[Encoded]) -> EncodedSet:
    """Write a set in bounded memory, atomically, and return it memory-mapped."""

    def fill(fresh: Path) -> None:
        with pa.OSFile(str(fresh / TOKENS), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
            for batch in _batches(encoded):
                writer.write_batch(batch)
        stamp = stamp_of(fresh / TOKENS)
        write_json(fresh / MANIFEST, {"key": key, "size": stamp.size, "sha256": stamp.sha256})

    replace_folder(folder, fill)
    return EncodedSet.open(folder / TOKENS)


def read_encoded(folder: Path, key: str) -> EncodedSet | None:
    """Return the set in a folder, memory-mapped; None if it is missing, damaged or of another key."""
    if not folder.exists():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        stamp = FileStamp(manifest["size"], manifest["sha256"])
        faults = ["it is another set"] if manifest["key"] != key else damages(folder, {TOKENS: stamp})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        faults = [f"{MANIFEST}: {type(error).__name__}"]
    if not faults:
        return EncodedSet.open(folder / TOKENS)
    logger.warning("%s is damaged (%s); it is tokenized again.", folder, faults[0])
    return None
