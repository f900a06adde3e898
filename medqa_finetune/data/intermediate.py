"""Pairs between reading and dividing: the texts on disk, only hashes in memory."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from medqa_finetune.data.pairs import Pair
from medqa_finetune.data.splits import PairKeys, Rows, key_of, normalised_question
from medqa_finetune.data.tables import SCHEMA

WRITE_PAIRS = 4096
STORE_SCHEMA = pa.schema([*SCHEMA, pa.field("normalised", pa.large_string())])


class PairStore:
    """Takes a stream of pairs, then gives hashes of all and texts of any.

    Args:
        path: File that the texts go to; removed by the caller.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, STORE_SCHEMA)
        self._waiting: list[tuple[str, str, str, str]] = []
        self._question, self._pair, self._answer = array("Q"), array("Q"), array("Q")
        self._table: pa.Table | None = None

    def __enter__(self) -> "PairStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._table = None

    def add(self, pair: Pair, seed: int) -> None:
        """Take a pair; `seed` keys the hash by which questions are ordered."""
        normalised = normalised_question(pair.question)
        self._question.append(key_of(normalised, seed))
        self._pair.append(key_of(f"{normalised}\0{pair.answer}"))
        self._answer.append(key_of(pair.answer))
        self._waiting.append((pair.id, pair.question, pair.answer, normalised))
        if len(self._waiting) == WRITE_PAIRS:
            self._write()

    def finish(self) -> PairKeys:
        """End the writing and return the hashes of all pairs, in the order they came."""
        self._write()
        self._close()
        with pa.memory_map(str(self._path)) as source:
            # One chunk, or every `take` would join all chunks anew.
            self._table = pa.ipc.open_file(source).read_all().combine_chunks()
        return PairKeys(*(np.frombuffer(keys, np.uint64) for keys in (self._question, self._pair, self._answer)))

    def normalised(self, rows: Rows) -> Sequence[str]:
        """Return the normalised questions of rows."""
        texts: list[str] = self._rows(rows, ["normalised"]).column(0).to_pylist()
        return texts

    def batch(self, rows: Rows) -> pa.RecordBatch:
        """Return the pairs of rows as one record batch."""
        return self._rows(rows, SCHEMA.names).combine_chunks().to_batches()[0]

    def _rows(self, rows: Rows, columns: list[str]) -> pa.Table:
        if self._table is None:
            raise RuntimeError("PairStore.finish() comes before its texts are asked for")
        return self._table.select(columns).take(pa.array(rows))

    def _write(self) -> None:
        if self._waiting:
            columns = [pa.array(column, pa.large_string()) for column in zip(*self._waiting, strict=True)]
            self._writer.write_batch(pa.record_batch(columns, schema=STORE_SCHEMA))
            self._waiting.clear()

    def _close(self) -> None:
        if not self._sink.closed:
            self._writer.close()
            self._sink.close()
