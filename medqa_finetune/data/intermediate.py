"""Pairs between reading and dividing: the texts on disk, only hashes in memory."""

import json
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from medqa_finetune.data.examples import Example, context_of
from medqa_finetune.data.splits import PairKeys, Rows, key_of, normalised_question
from medqa_finetune.data.tables import SCHEMA, SCHEMA_WITH_CONTEXT

WRITE_PAIRS = 16_384
STORE_SCHEMA = SCHEMA_WITH_CONTEXT.append(pa.field("normalised", pa.large_string()))


class PairStore:
    """Takes a stream of pairs, then gives hashes of all and texts of any.

    Args:
        path: File that the texts go to; removed by the caller.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, STORE_SCHEMA)
        self._waiting: list[tuple[str, ...]] = []
        self._has_context = False
        self._question, self._pair, self._answer = array("Q"), array("Q"), array("Q")
        self._batches: list[pa.RecordBatch] | None = None

    def __enter__(self) -> "PairStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._batches = None

    def add(self, pair: Example, seed: int) -> None:
        """Take a pair; `seed` keys the hash by which questions are ordered.

        A dialogue goes by what the user said first: corpora hold one several times, once for each of its later turns,
        and those must not be divided over training and test set. It is a duplicate only where all of it is the same.
        """
        normalised = normalised_question(pair.opening)
        beside = context_of(pair)
        context = json.dumps(beside, ensure_ascii=False) if beside else ""
        self._has_context |= bool(beside)
        self._question.append(key_of(normalised, seed))
        whole = f"{normalised}\0{pair.answer}" + (f"\0{pair.question}\0{context}" if beside else "")
        self._pair.append(key_of(whole))
        self._answer.append(key_of(pair.answer))
        self._waiting.append((pair.id, pair.question, pair.answer, context, normalised))
        if len(self._waiting) == WRITE_PAIRS:
            self._write()

    @property
    def schema(self) -> pa.Schema:
        """What `batch` gives: no column for contexts where no pair has one."""
        return SCHEMA_WITH_CONTEXT if self._has_context else SCHEMA

    def finish(self) -> PairKeys:
        """End the writing and return the hashes of all pairs, in the order they came."""
        self._write()
        self._close()
        reader = pa.ipc.open_file(pa.memory_map(str(self._path)))
        self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        return PairKeys(*(np.frombuffer(keys, np.uint64) for keys in (self._question, self._pair, self._answer)))

    def normalised(self, rows: Rows) -> Sequence[str]:
        """Return the normalised questions of rows."""
        texts: list[str] = self._rows(rows, ["normalised"]).column(0).to_pylist()
        return texts

    def batch(self, rows: Rows) -> pa.RecordBatch:
        """Return the pairs of rows as one record batch."""
        return self._rows(rows, self.schema.names).combine_chunks().to_batches()[0]

    def _rows(self, rows: Rows, columns: list[str]) -> pa.Table:
        if self._batches is None:
            raise RuntimeError("PairStore.finish() comes before its texts are asked for")
        # From each batch what it has of them, then into the order asked for: Arrow's own `take` from several batches
        # would join all of them in memory first.
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], np.arange(len(self._batches) + 1) * WRITE_PAIRS)
        parts = [
            batch.select(columns).take(pa.array(rows[order[low:high]] - number * WRITE_PAIRS))
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
