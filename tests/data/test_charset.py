"""Encodings, byte-order marks and line ends."""

import json
from pathlib import Path

import pytest

from medqa_finetune.data import charset
from medqa_finetune.data.examples import Example
from medqa_finetune.errors import DataError
from tests.data.files import ANSWER, GOOD_LINE, QUESTION, read, written
from tests.faulty import only_fault


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "big5"]
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_encodings_and_byte_order_marks(tmp_path: Path, encoding: str, mark: str) -> None:
    row = json.dumps({"question": "感冒怎麼辦", "answer": "多喝水"}, ensure_ascii=False)
    mark = "" if encoding == "big5" else mark  # which cannot write one
    path = written(tmp_path / "a.jsonl", f"{mark}{row}\n{row}\n".encode(encoding))
    assert [p.question for p in read(path, encoding=encoding)[0]] == ["感冒怎麼辦"] * 2


@pytest.mark.parametrize(
    ("real", "given", "guess"),
    [
        ("gb18030", "utf-8", "gb18030"),
        ("utf-16-le", "utf-8", "utf-16-le"),
        ("utf-16-be", "utf-8", "utf-16-be"),
        ("utf-8", "gb18030", "utf-8"),
        ("utf-8", "utf-16", "utf-8"),
        ("utf-8", "latin-1", "utf-8"),
        ("utf-16-le", "gb18030", "utf-16-le"),
    ],
)
def test_wrong_encoding_is_refused_with_a_guess(tmp_path: Path, real: str, given: str, guess: str) -> None:
    path = written(tmp_path / "a.jsonl", (GOOD_LINE + "\n").encode(real) * 3)
    with pytest.raises(DataError) as caught:
        read(path, encoding=given)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("wrong-encoding", "corpus.encoding", given)
    assert (fault.file, fault.line_number) == (str(path), 1)
    assert fault.allowed == (guess,)
    assert f"corpus.encoding={guess}." in fault.hint


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path / "a.jsonl", (GOOD_LINE + "\n").encode(encoding))
    assert [example.answer for example in read(path)[0]] == [ANSWER]


def test_bytes_that_are_no_text_are_refused_without_a_guess(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", b"\xff\x81\x30\xff" * 10)
    with pytest.raises(DataError) as caught:
        read(path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.allowed) == ("wrong-encoding", "corpus.encoding", ())
    assert "text file" in fault.hint


def test_the_failing_byte_and_line_are_exact(tmp_path: Path) -> None:
    line = (GOOD_LINE + "\n").encode()
    n = charset.CHUNK_BYTES // len(line) + 5
    path = written(tmp_path / "a.jsonl", line * n + b'{"question": "\xff"}\n')
    with pytest.raises(DataError) as caught:
        read(path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("damaged-text", "corpus.encoding", "utf-8")
    assert (fault.file, fault.line_number) == (str(path), n + 1)
    assert f"byte {len(line) * n + 14:,} " in fault.problem


def test_a_character_across_two_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charset, "CHUNK_BYTES", 7)
    for encoding in ("utf-8", "gb18030", "utf-16-le"):
        path = written(tmp_path / "a.jsonl", (GOOD_LINE + "\n").encode(encoding))
        assert read(path, encoding=encoding)[0] == [Example("a.jsonl:1", QUESTION, ANSWER)]
        with pytest.raises(DataError) as caught:
            read(
                written(path, path.read_bytes()[:-4] + b"\xff\xff\xff"),
                encoding=encoding if encoding != "utf-16-le" else "utf-8",
            )
        assert only_fault(caught).key == "corpus.encoding"


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "zip", "", "undefined"])
def test_unknown_encoding(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.jsonl", GOOD_LINE), encoding=encoding)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("unknown-encoding", "corpus.encoding", encoding)
    assert "corpus.encoding=utf-8" in fault.hint


def test_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charset, "MAX_ROW_CHARS", 1000)
    path = written(tmp_path / "a.jsonl", "{}\n" + "x" * 2000)
    with pytest.raises(DataError) as caught:
        read(path)
    fault = only_fault(caught)
    assert (fault.code, fault.file, fault.line_number) == ("row-too-long", str(path), 2)
    assert "1,000" in fault.problem
