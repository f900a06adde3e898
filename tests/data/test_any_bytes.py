"""Whatever bytes a corpus file holds, reading it gives clean examples and rejects, or one honest error."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medqa_finetune.data import charset
from scripts.reader_checks import check_reading
from tests.data.files import GOOD_LINE, written

# The folder of a test is the same for all of its examples, and each overwrites the file of the one before.
modestly = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
NAMES = [
    "a.jsonl",
    "a.json",
    "a.csv",
    "a.tsv",
    "a.txt",
    "a.arrow",
    "a.parquet",
    "a.csv.gz",
    "a.jsonl.gz",
    "a.json.zst",
    "a.jsonl.zst",
]
ENCODINGS = ["utf-8", "gb18030", "utf-16", "latin-1", "utf-7", "utf-8-sig", "cp037"]
PIECES = [
    *'{}[]",:\n\\ 12', "null", '"question"', '"answer"', GOOD_LINE, "\ud83d", "\\ud83d", "\u2028", "\r\n", "\ufeff",
    "NaN", "1e999", "<|im_end|>", "&lt;", "\0", "question,answer\n", '"""',
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def in_parquet(rows: int = 50, **options: Any) -> bytes:
    """Return a whole file with a question and an answer in every row."""
    buffer = io.BytesIO()
    table = pa.table({"question": [f"问题{n}" for n in range(rows)], "answer": ["多喝水。"] * rows})
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


@given(content=st.binary(max_size=400), name=st.sampled_from(NAMES), encoding=st.sampled_from(ENCODINGS))
@modestly
def test_any_bytes_under_any_name(tmp_path: Path, content: bytes, name: str, encoding: str) -> None:
    check_reading(written(tmp_path / name, content), encoding=encoding)


@given(content=st.binary(max_size=400), name=st.sampled_from(["a.jsonl", "a.json", "a.csv"]), share=st.floats(0, 1))
@modestly
def test_any_bytes_packed(tmp_path: Path, content: bytes, name: str, share: float) -> None:
    for suffix, packed in ((".gz", gzip.compress(content)), (".zst", zstandard.compress(content))):
        for cut in (packed, packed[: int(share * len(packed))], packed + packed):
            check_reading(written(tmp_path / (name + suffix), cut), max_reject_share=1.0)


@given(text=texts, name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt"]), chunk=st.integers(1, 30))
@modestly
def test_any_text_of_the_kind(tmp_path: Path, text: str, name: str, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charset, "CHUNK_BYTES", chunk)
        check_reading(written(tmp_path / name, text.encode("utf-8", "surrogatepass")), max_reject_share=1.0)


@given(place=st.integers(0, 5000), value=st.integers(0, 255), codec=st.sampled_from(["none", "snappy", "zstd"]))
@modestly
def test_a_parquet_file_with_one_byte_changed(tmp_path: Path, place: int, value: int, codec: str) -> None:
    content = bytearray(in_parquet(compression=codec))
    content[place % len(content)] = value
    check_reading(written(tmp_path / "a.parquet", bytes(content)), max_reject_share=1.0)


@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["question", "answer", "id", "a", "a.0", ""]), values, max_size=4), max_size=6
    ),
    question=st.sampled_from(["question", "a.0.b", "a", ["question", "a"], ["a.0", "a.b.c", "question"]]),
    answer=st.sampled_from(["answer", "a.1", "question"]),
)
@modestly
def test_any_values_in_any_columns(tmp_path: Path, rows: list[dict[str, Any]], question: Any, answer: str) -> None:
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    check_reading(path, question=question, answer=answer, id="id", empty_values=["无"], max_reject_share=1.0)
