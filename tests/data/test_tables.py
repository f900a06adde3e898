"""A set of examples on disk behaves like a list of them."""

import hashlib
import json
import pickle
import random
from pathlib import Path

import pyarrow as pa
import pytest

from medqa_finetune.data.tables import BATCH_ROWS, SCHEMA, ExampleTable, write_examples


def table_of(path: Path, n: int) -> ExampleTable:
    rng = random.Random(0)  # noqa: S311
    columns = [[f"{name}{i} {rng.random()}" for i in range(n)] for name in SCHEMA.names]
    cuts = range(0, n, BATCH_ROWS)
    write_examples(
        path, (pa.record_batch([column[c : c + BATCH_ROWS] for column in columns], schema=SCHEMA) for c in cuts)
    )
    return ExampleTable(path)


def test_table_is_a_sequence(tmp_path: Path) -> None:
    n = BATCH_ROWS + 100
    pool = table_of(tmp_path / "a.arrow", n)
    examples = list(pool)
    assert len(pool) == len(examples) == n
    assert pool[0] == examples[0]
    assert pool[-1] == examples[-1]
    assert pool[BATCH_ROWS] == examples[BATCH_ROWS]
    for cut in (
        slice(5),
        slice(3, 9),
        slice(BATCH_ROWS - 2, BATCH_ROWS + 2),
        slice(-3, None),
        slice(9, 3),
        slice(n, n + 9),
    ):
        assert list(pool[cut]) == examples[cut]
        assert len(pool[cut]) == len(examples[cut])
    assert list(pool[::-1000]) == examples[::-1000]
    assert list(pool[100:][5:7]) == examples[105:107]
    assert pool[100:][3] == examples[103]
    for place in (n, -n - 1):
        with pytest.raises(IndexError):
            pool[place]
    with pytest.raises(IndexError):
        pool[:5][5]
    assert examples[7] in pool
    assert pool.index(examples[7]) == 7


def test_table_survives_the_way_to_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pool = table_of(Path("a.arrow"), 50)
    packed = pickle.dumps(pool.prefix(9)[2:])
    monkeypatch.chdir("/")
    assert list(pickle.loads(packed)) == list(pool)[2:9]  # noqa: S301 - our own
    assert len(packed) < 500


def test_sha256_is_over_the_pairs_in_order(tmp_path: Path) -> None:
    pool = table_of(tmp_path / "a.arrow", 100)
    lines = [json.dumps({"answer": p.answer, "id": p.id, "question": p.question}, ensure_ascii=False,
                        separators=(",", ":")) + "\n" for p in list(pool)[:50]]  # fmt: skip
    assert pool.prefix(50).sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert isinstance(pool[:50], ExampleTable)
    assert pool.prefix(1000).sha256 == pool.sha256
