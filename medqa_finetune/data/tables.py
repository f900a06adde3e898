"""Stores examples in Arrow files: a memory-mapped sequence, and the store that examples pass through before division.

pyarrow is used directly: importing `datasets` takes seconds, and iterating its rows takes ten times as long.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medqa_finetune.data.examples import Example, context_of, to_row, with_context
from medqa_finetune.data.identifying import (
    AUTO,
    NONE,
    Frames,
    OpeningKeys,
    Openings,
    compared_text,
    followers,
    frames_of,
    text_at,
)
from medqa_finetune.data.splits import ExampleKeys, Keys, Rows, key_of, normalised_question

BATCH_ROWS = 8192
# 64-bit offsets: a corpus may hold more than 2 GiB of text.
SCHEMA = pa.schema([("id", pa.large_string()), ("question", pa.large_string()), ("answer", pa.large_string())])
# For a corpus in which some example has a system prompt or a history: both as JSON, empty for examples without.
CONTEXT = "context"
SCHEMA_WITH_CONTEXT = SCHEMA.append(pa.field(CONTEXT, pa.large_string()))


class ExampleTable(Sequence[Example]):
    """Examples of an Arrow file, or of a stretch of one.

    Slices with step 1 share the file and copy nothing. A table sent to another process reopens the file there.

    Args:
        path: File written by `write_examples`.
        start: First example of the stretch.
        stop: The example after the last one; None for all.

    Raises:
        OSError: the file cannot be read.
        pyarrow.ArrowInvalid: it is not an Arrow file.
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
        batch, offset = self._batches[place // BATCH_ROWS], place % BATCH_ROWS
        return _example(*(column[offset].as_py() for column in batch.columns))

    def __iter__(self) -> Iterator[Example]:
        return (_example(*row) for row in self._rows())

    def __reduce__(self) -> tuple[type["ExampleTable"], tuple[Path, int, int]]:
        return (ExampleTable, (self._path, self._start, self._stop))

    def prefix(self, n: int) -> "ExampleTable":
        """Return the first `n` examples, without copying."""
        return self._stretch(0, min(n, len(self)))

    @cached_property
    def sha256(self) -> str:
        """The sha256 over the examples in order, each as one line of JSON with sorted keys, as hexadecimal text."""
        total = hashlib.sha256()
        for example in self:
            row = json.dumps(to_row(example), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
            total.update((row + "\n").encode())
        return total.hexdigest()

    def _rows(self) -> Iterator[tuple[str, ...]]:
        first = self._start // BATCH_ROWS
        for number, batch in enumerate(self._batches[first:], start=first):
            low = max(0, self._start - number * BATCH_ROWS)
            high = min(batch.num_rows, self._stop - number * BATCH_ROWS)
            if high <= low:
                return
            part = batch.slice(low, high - low)
            yield from zip(*(column.to_pylist() for column in part.columns), strict=True)

    def _stretch(self, start: int, stop: int) -> "ExampleTable":
        # Not through __init__, which would read the file's footer again.
        stretch = ExampleTable.__new__(ExampleTable)
        stretch._path, stretch._batches = self._path, self._batches
        stretch._start, stretch._stop = self._start + start, self._start + max(start, stop)
        return stretch


def _example(identity: str, question: str, answer: str, context: str = "") -> Example:
    return (
        with_context(identity, question, answer, json.loads(context))
        if context
        else Example(identity, question, answer)
    )


def write_examples(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema = SCHEMA) -> None:
    """Write record batches of `SCHEMA`, or of it with a context, as an Arrow file; all but the last are full."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


STORE_BATCH_ROWS = 16_384
# Texts among which constant instructions are looked for.
SAMPLED = 5000
STORE_SCHEMA = SCHEMA_WITH_CONTEXT.append(pa.field("normalised", pa.large_string()))


class ExampleStore:
    """Writes a stream of examples to disk, keeps their hashes in memory, and reads back the texts of any rows.

    Args:
        path: File for the texts; the caller removes it.
        identified_by: `corpus.identified_by`.

    Attributes:
        counts: What `finish` found out about what identifies the examples.
    """

    def __init__(self, path: Path, identified_by: str = AUTO) -> None:
        self._path = path
        self._identified_by = identified_by
        self._seed = 0
        self.counts = Counter[str]()
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, STORE_SCHEMA)
        self._waiting: list[tuple[str, ...]] = []
        self._has_context = False
        self._question, self._pair, self._answer = array("Q"), array("Q"), array("Q")
        self._system, self._second = array("Q"), array("Q")
        # Row to which of its texts identifies it, where it is not its first question.
        self._places: dict[int, int] = {}
        self._frames = Frames()
        self._batches: list[pa.RecordBatch] | None = None

    def __enter__(self) -> "ExampleStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._batches = None

    def add(self, example: Example, seed: int) -> None:
        """Add an example; `seed` keys the hash by which questions are ordered.

        A dialogue is identified by its first question, unless `finish` finds that many begin alike: corpora may contain
        it several times, once per later turn, and all of these must go to the same set. Only dialogues that are equal
        as a whole are duplicates.
        """
        self._seed = seed
        normalised = compared_text(example, self._identified_by)
        context_fields = context_of(example)
        context = json.dumps(context_fields, ensure_ascii=False) if context_fields else ""
        self._has_context |= bool(context_fields)
        self._question.append(key_of(normalised, seed))
        # The group says nothing about what is asked: a pair in two groups is a duplicate.
        asked = {name: value for name, value in context_fields.items() if name != "group"}
        before = json.dumps(asked, ensure_ascii=False)
        whole = f"{normalised}\0{example.answer}" + (f"\0{example.question}\0{before}" if asked else "")
        self._pair.append(key_of(whole))
        self._answer.append(key_of(example.answer))
        for keys, text in zip((self._system, self._second), followers(example), strict=True):
            keys.append(NONE if text is None else key_of(normalised_question(text), seed))
        self._waiting.append((example.id, example.question, example.answer, context, normalised))
        if len(self._waiting) == STORE_BATCH_ROWS:
            self._write()

    @property
    def schema(self) -> pa.Schema:
        """Schema of `batch`; with a column for contexts only if an example has one."""
        return SCHEMA_WITH_CONTEXT if self._has_context else SCHEMA

    def finish(self) -> ExampleKeys:
        """Close the file and return the hashes of all examples, in the order of `add`."""
        self._write()
        self._close()
        reader = pa.ipc.open_file(pa.memory_map(str(self._path)))
        self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        question, pair, answer, system, second = (
            np.frombuffer(keys, np.uint64)
            for keys in (self._question, self._pair, self._answer, self._system, self._second)
        )
        alone = None
        if self._identified_by == AUTO:
            question, alone = self._told_apart(OpeningKeys(question, system, second, answer))
        return ExampleKeys(question, pair, answer, alone)

    def _told_apart(self, texts: OpeningKeys) -> tuple[Keys, npt.NDArray[np.bool_] | None]:
        """Return what identifies each example, and which are for training alone, where many begin alike."""
        found = Openings(texts, self._examples, self._seed).resolve()
        rows = np.flatnonzero(found.place)
        self._places = dict(zip(rows.tolist(), found.place[rows].tolist(), strict=True))
        sample: Rows = np.unique(np.linspace(0, max(0, len(texts.first) - 1), SAMPLED).astype(np.int64))
        self._frames = frames_of(self.normalised(sample)) if len(texts.first) else Frames()
        keys = found.keys
        if self._frames:
            every: Rows = np.arange(len(keys))
            bare = (
                text for start in every[::BATCH_ROWS] for text in self.normalised(every[start : start + BATCH_ROWS])
            )
            keys = np.fromiter((key_of(text, self._seed) for text in bare), np.uint64, len(keys))
        counts = {
            "examples_that_begin_alike": sum(found.openings.values()),
            "examples_for_training_alone": int(found.training_alone.sum()),
            "constant_instructions": len(self._frames.before) + len(self._frames.behind),
        }
        self.counts.update({name: n for name, n in counts.items() if n})
        return keys, found.training_alone if found.training_alone.any() else None

    def _examples(self, rows: Rows) -> Iterator[Example]:
        for start in range(0, len(rows), BATCH_ROWS):
            table = self._rows(rows[start : start + BATCH_ROWS], SCHEMA_WITH_CONTEXT.names)
            for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                yield _example(*row)

    def normalised(self, rows: Rows) -> Sequence[str]:
        """Return the normalised texts that identify rows, questions for most, in the order of `rows`."""
        texts: list[str] = self._rows(rows, ["normalised"]).column(0).to_pylist()
        if self._places:
            others = [(number, self._places[row]) for number, row in enumerate(rows.tolist()) if row in self._places]
            examples = self._examples(rows[[number for number, _ in others]])
            for (number, place), example in zip(others, examples, strict=True):
                texts[number] = text_at(example, place)
        return [self._frames.without(text) for text in texts] if self._frames else texts

    def batch(self, rows: Rows) -> pa.RecordBatch:
        """Return the examples of rows as one record batch of `schema`, in the order of `rows`."""
        return self._rows(rows, self.schema.names).combine_chunks().to_batches()[0]

    def _rows(self, rows: Rows, columns: list[str]) -> pa.Table:
        if self._batches is None:
            raise RuntimeError("ExampleStore.finish() comes before its texts are asked for")
        # Takes the rows of each batch, then restores the requested order: Arrow's own `take` from several batches would
        # first join all of them in memory.
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], np.arange(len(self._batches) + 1) * STORE_BATCH_ROWS)
        parts = [
            batch.select(columns).take(pa.array(rows[order[low:high]] - number * STORE_BATCH_ROWS))
            for number, (batch, (low, high)) in enumerate(zip(self._batches, pairwise(bounds), strict=True))
            if low < high
        ]
        fields = [STORE_SCHEMA.field(column) for column in columns]
        return pa.Table.from_batches(parts, pa.schema(fields)).combine_chunks().take(pa.array(np.argsort(order)))

    def _write(self) -> None:
        if self._waiting:
            columns = [pa.array(column, pa.large_string()) for column in zip(*self._waiting, strict=True)]
            self._writer.write_batch(pa.record_batch(columns, schema=STORE_SCHEMA))
            self._waiting.clear()

    def _close(self) -> None:
        if not self._sink.closed:
            self._writer.close()
            self._sink.close()
