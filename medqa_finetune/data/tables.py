"""A set of pairs in an Arrow file: memory-mapped, so that its size costs no memory, and read like a list."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from medqa_finetune.data.pairs import Pair

BATCH_PAIRS = 8192
# 64-bit offsets: a corpus may hold more than 2 GiB of text.
SCHEMA = pa.schema([("id", pa.large_string()), ("question", pa.large_string()), ("answer", pa.large_string())])


class PairTable(Sequence[Pair]):
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
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | Sequence[Pair]:
        if isinstance(index, slice):
            places = range(len(self))[index]
            return self._stretch(places.start, places.stop) if places.step == 1 else [self[i] for i in places]
        place = self._start + range(len(self))[index]
        batch, offset = self._batches[place // BATCH_PAIRS], place % BATCH_PAIRS
        return Pair(*(batch.column(i)[offset].as_py() for i in range(3)))

    def __iter__(self) -> Iterator[Pair]:
        for identity, question, answer in self._rows():
            yield Pair(identity, question, answer)

    def __reduce__(self) -> tuple[Any, ...]:
        return (PairTable, (self._path, self._start, self._stop))

    def prefix(self, n: int) -> "PairTable":
        """Return the first `n` pairs, without copying."""
        return self._stretch(0, min(n, len(self)))

    @cached_property
    def sha256(self) -> str:
        """The sha256 over the pairs in order, each as one line of JSON with sorted keys, as hexadecimal text."""
        total = hashlib.sha256()
        for identity, question, answer in self._rows():
            row = {"answer": answer, "id": identity, "question": question}
            total.update((json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
        return total.hexdigest()

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        first = self._start // BATCH_PAIRS
        for number, batch in enumerate(self._batches[first:], start=first):
            low = max(0, self._start - number * BATCH_PAIRS)
            high = min(batch.num_rows, self._stop - number * BATCH_PAIRS)
            if high <= low:
                return
            part = batch.slice(low, high - low)
            yield from zip(*(part.column(i).to_pylist() for i in range(3)), strict=True)

    def _stretch(self, start: int, stop: int) -> "PairTable":
        # Not through __init__, which would read the file's footer again.
        stretch = PairTable.__new__(PairTable)
        stretch._path, stretch._batches = self._path, self._batches
        stretch._start, stretch._stop = self._start + start, self._start + max(start, stop)
        return stretch


def write_pairs(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Write record batches of `SCHEMA` as an Arrow file; all but the last hold `BATCH_PAIRS` pairs."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
