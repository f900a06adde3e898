"""A set of pairs in an Arrow file: memory-mapped, so that its size costs no memory, and read like a list."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from medqa_finetune.data.examples import Example, to_row, with_context

BATCH_PAIRS = 8192
# 64-bit offsets: a corpus may hold more than 2 GiB of text.
SCHEMA = pa.schema([("id", pa.large_string()), ("question", pa.large_string()), ("answer", pa.large_string())])
# For a corpus in which some pair has a system prompt or a history: both as JSON, empty for pairs without.
CONTEXT = "context"
SCHEMA_WITH_CONTEXT = SCHEMA.append(pa.field(CONTEXT, pa.large_string()))


class PairTable(Sequence[Example]):
    """Pairs of an Arrow file, or of a stretch of one.

    Slices with step 1 share the file and copy nothing. A table sent to another process reopens the file there.

    Args:
        path: File written by `write_pairs`.
        start: First pair of the stretch.
        stop: The pair after the last one; None for all.

    Raises:
        OSError: when the file cannot be read.
        pyarrow.ArrowInvalid: when it is no Arrow file.
    """

    def __init__(self, path: Path, start: int = 0, stop: int | None = None) -> None:
        self._path = path.resolve()
        reader = pa.ipc.open_file(pa.memory_map(str(self._path)))
        self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        length = sum(batch.num_rows for batch in self._batches)
        self._start, self._stop, _ = slice(start, stop).indices(length)

    def __len__(self) -> int:
        return max(0, self._stop - self._start)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            places = range(len(self))[index]
            return self._stretch(places.start, places.stop) if places.step == 1 else [self[i] for i in places]
        place = self._start + range(len(self))[index]
        batch, offset = self._batches[place // BATCH_PAIRS], place % BATCH_PAIRS
        return _pair(*(column[offset].as_py() for column in batch.columns))

    def __iter__(self) -> Iterator[Example]:
        return (_pair(*row) for row in self._rows())

    def __reduce__(self) -> tuple[Any, ...]:
        return (PairTable, (self._path, self._start, self._stop))

    def prefix(self, n: int) -> "PairTable":
        """Return the first `n` pairs, without copying."""
        return self._stretch(0, min(n, len(self)))

    @cached_property
    def sha256(self) -> str:
        """The sha256 over the pairs in order, each as one line of JSON with sorted keys, as hexadecimal text."""
        total = hashlib.sha256()
        for pair in self:
            row = json.dumps(to_row(pair), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
            total.update((row + "\n").encode())
        return total.hexdigest()

    def _rows(self) -> Iterator[tuple[str, ...]]:
        first = self._start // BATCH_PAIRS
        for number, batch in enumerate(self._batches[first:], start=first):
            low = max(0, self._start - number * BATCH_PAIRS)
            high = min(batch.num_rows, self._stop - number * BATCH_PAIRS)
            if high <= low:
                return
            part = batch.slice(low, high - low)
            yield from zip(*(column.to_pylist() for column in part.columns), strict=True)

    def _stretch(self, start: int, stop: int) -> "PairTable":
        # Not through __init__, which would read the file's footer again.
        stretch = PairTable.__new__(PairTable)
        stretch._path, stretch._batches = self._path, self._batches
        stretch._start, stretch._stop = self._start + start, self._start + max(start, stop)
        return stretch


def _pair(identity: str, question: str, answer: str, context: str = "") -> Example:
    return (
        with_context(identity, question, answer, json.loads(context))
        if context
        else Example(identity, question, answer)
    )


def write_pairs(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema = SCHEMA) -> None:
    """Write record batches of `SCHEMA`, or of it with a context, as an Arrow file; all but the last are full."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
