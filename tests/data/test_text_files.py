"""Rows of files of running text, as they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.parts import part_of
from medqa_finetune.data.readers import text_format_of
from medqa_finetune.data.rows import Ledger
from medqa_finetune.data.text import text_rows
from medqa_finetune.errors import DataError
from scripts.reader_checks import check_message
from tests.data.files import written
from tests.data.test_any_bytes import ENCODINGS, modestly
from tests.faulty import only_fault

CONTENT = " = Title = \n\n First line , \n second line . \n \n\nThird ."


def rows(path: Path, **changes: Any) -> tuple[list[str], Ledger]:
    ledger = Ledger()
    corpus = CorpusConfig(**({"name": "t", "task": "text", "source": "file", "path": str(path)} | changes))
    return list(text_rows(path, path.name, corpus, ledger)), ledger


def test_blank_lines_separate_rows(tmp_path: Path) -> None:
    found, ledger = rows(written(tmp_path / "a.txt", CONTENT.replace("\n", "\r\n")))
    assert found == [" = Title = ", " First line , \n second line . ", "Third ."]
    assert ledger.counts["rows"] == 3


def test_by_line_rows_are_those_of_wikitext_on_the_hub(tmp_path: Path) -> None:
    """As Hugging Face's loading script of wikitext makes them: the line, or nothing where it is blank."""
    path = written(tmp_path / "wiki.test.raw", CONTENT)
    with path.open(encoding="utf-8") as file:
        expected = [line if line.strip() else "" for line in file]
    assert rows(path, by_line=True)[0] == expected


def parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": ["一", "", " 二 \n"]}), path)


def json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("一", "", " 二 \n")), "utf-8")


@pytest.mark.parametrize(("name", "write"), [("a.parquet", parquet), ("a.jsonl", json_lines)])
def test_cells_are_taken_as_they_are(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    assert rows(tmp_path / name)[0] == ["一", "", " 二 \n"]


def test_broken_rows_are_counted_by_reason(tmp_path: Path) -> None:
    lines = ['{"text": "好"}', '{"text": 1}', '{"title": "好"}', "{", '{"text": "\\ud83d"}']
    found, ledger = rows(written(tmp_path / "a.jsonl", "\n".join(lines) + "\n"))
    assert found == ["好"]
    assert dict(ledger.counts) == {
        "rows": 5, "rejected_text_not_text": 1, "rejected_missing_column": 1, "rejected_broken_json": 1,
        "rejected_lone_surrogate": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("wiki.train.raw", "train"), ("wiki.valid.tokens", "validation"), ("test.txt", "test"),
        ("wikitext-2-raw-v1/validation-00000-of-00001.parquet", "validation"), ("dev.jsonl.gz", "validation"),
        ("latest.txt", None), ("train_and_test.txt", None), ("a.txt", None), ("train/a.txt", "train"),
    ],
)  # fmt: skip
def test_the_part_by_its_name(name: str, part: str | None) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.txt", "text"), ("a.raw.zst", "text"), ("A.TXT.gz", "text"), ("a.parquet", "parquet"), ("a.pdf", None)],
)
def test_the_format_by_its_name(name: str, kind: str | None) -> None:
    assert text_format_of(name) == kind


def test_a_file_of_no_known_format_is_refused_unless_it_is_said_to_be_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.log", "一\n")
    with pytest.raises(DataError) as caught:
        rows(path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got, fault.file) == ("unknown-format", "corpus.format", "auto", str(path))
    assert "jsonl" in fault.allowed
    assert rows(path, format="text")[0] == ["一"]


@given(content=st.binary(max_size=200), encoding=st.sampled_from(ENCODINGS), by_line=st.booleans(),
       name=st.sampled_from(["a.txt", "a.txt.gz", "a.jsonl", "a.parquet"]))  # fmt: skip
@modestly
def test_any_bytes_are_text_or_one_honest_error(
    tmp_path: Path, content: bytes, encoding: str, by_line: bool, name: str
) -> None:
    path = written(tmp_path / name, content)
    try:
        found, ledger = rows(path, encoding=encoding, by_line=by_line)
    except DataError as error:
        check_message(error)
        return
    assert all(row.encode() or not row for row in found)
    assert ledger.counts["rows"] == len(found) + ledger.broken
