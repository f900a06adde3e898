"""Every form a corpus file may come in, and every damage: rows, rejects with a place, or one honest error."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medqa_finetune.data import charset, json_rows
from medqa_finetune.data.examples import Example
from medqa_finetune.data.json_rows import read_json_array
from medqa_finetune.data.readers import format_of
from medqa_finetune.data.rows import Row
from medqa_finetune.errors import DataError
from tests.data.files import ANSWER, GOOD, GOOD_LINE, QUESTION, read, rejected, written
from tests.faulty import only_fault


def test_json_lines_with_places_as_names(tmp_path: Path) -> None:
    examples, ledger = read(written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n\n{GOOD_LINE}\n"))
    assert examples == [Example("a.jsonl:1", QUESTION, ANSWER), Example("a.jsonl:3", QUESTION, ANSWER)]
    assert ledger.counts["rows"] == ledger.counts["pairs"] == 2


@pytest.mark.parametrize("indent", [None, 2])
def test_array_by_either_name(tmp_path: Path, indent: int | None, caplog: pytest.LogCaptureFixture) -> None:
    text = json.dumps([GOOD, GOOD], ensure_ascii=False, indent=indent)
    assert [p.id for p in read(written(tmp_path / "a.json", text))[0]] == ["a.json[0]", "a.json[1]"]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert [p.id for p in read(written(tmp_path / "b.jsonl", text))[0]] == ["b.jsonl[0]", "b.jsonl[1]"]
    assert "is a JSON array, not JSON Lines" in caplog.text


def test_json_lines_called_json(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(read(written(tmp_path / "a.json", f"{GOOD_LINE}\n{GOOD_LINE}"))[0]) == 2
    assert "is JSON Lines, not a JSON array" in caplog.text


def test_csv_with_line_breaks_in_quotes_keeps_line_numbers(tmp_path: Path) -> None:
    text = 'question,answer\r\n"头痛\n怎么办","休息\r\n多喝水"\r\n\r\n感冒怎么办,多喝水\r\n'
    examples, _ = read(written(tmp_path / "a.csv", text))
    assert examples == [Example("a.csv:2", "头痛\n怎么办", "休息\n多喝水"), Example("a.csv:6", "感冒怎么办", "多喝水")]


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["问题一", None], "answer": ["答案一", "答案二"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", max_reject_share=0.5)[0] == [Example("a.parquet[0]", "问题一", "答案一")]
    assert rejected(tmp_path / "a.parquet") == [("a.parquet[1]", "empty_question")]


def test_not_parquet(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", "nothing of the kind")
    with pytest.raises(DataError) as caught:
        read(path)
    assert (only_fault(caught).code, only_fault(caught).file) == ("not-parquet", str(path))


@pytest.mark.parametrize("name", ["a.arrow", "a.feather"])
def test_arrow_as_file_and_as_stream(tmp_path: Path, name: str) -> None:
    table = pa.table({"question": ["问题一", "问题二"], "answer": ["答案一", "答案二"]})
    for writer in (pa.ipc.new_file, pa.ipc.new_stream):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, writer(sink, table.schema) as file:
            file.write_table(table)
        assert [each.id for each in read(tmp_path / name)[0]] == [f"{name}[0]", f"{name}[1]"]
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / name, "nothing of the kind"))
    assert (only_fault(caught).code, only_fault(caught).file) == ("not-arrow", str(tmp_path / name))


def test_a_workbook_is_to_be_saved_as_text(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.xlsx", "PK"))
    fault = only_fault(caught)
    assert (fault.code, fault.key, "CSV" in fault.hint) == ("unknown-format", "corpus.format", True)


def test_compressed_files_give_the_same_pairs(tmp_path: Path) -> None:
    data = (GOOD_LINE + "\n").encode() * 3000
    frames = zstandard.ZstdCompressor().compress(data[: len(data) // 2]) + zstandard.compress(data[len(data) // 2 :])
    for name, content in (("a.jsonl", data), ("a.jsonl.gz", gzip.compress(data)), ("a.jsonl.zst", frames)):
        examples, _ = read(written(tmp_path / name, content))
        assert len(examples) == 3000
        assert examples[-1] == Example(f"{name}:3000", QUESTION, ANSWER)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_data_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    data = "".join(json.dumps(GOOD | {"id": i, "salt": hash((i, "s"))}) + "\n" for i in range(2000)).encode()
    packed = gzip.compress(data) if suffix == "gz" else zstandard.compress(data)
    for cut in (packed[:-1], packed[: len(packed) // 2], packed[:5], b"no such thing" + packed):
        path = written(tmp_path / f"a.jsonl.{suffix}", cut)
        with pytest.raises(DataError) as caught:
            read(path)
        fault = only_fault(caught)
        assert (fault.code, fault.key, fault.file) == ("not-readable", "corpus.path", str(path))


def test_folder_means_its_known_files_sorted(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "notes.txt"):
        written(tmp_path / name, GOOD_LINE + "\n")
    assert [example.id for example in read(tmp_path)[0]] == ["a.jsonl:1", "b.jsonl:1"]


def test_format_by_name() -> None:
    names = ("a.CSV.gz", "a.jsonl.zst", "b.parquet", "b.parquet.gz", "a.pkl", "a.py", "a.bin")
    assert list(map(format_of, names)) == ["csv", "jsonl", "parquet", None, None, None, None]


def test_u2028_inside_a_text_survives(tmp_path: Path) -> None:
    lines = (GOOD_LINE.replace("感冒", f"感{mark}冒") for mark in ("\u2028", "\u2029"))
    examples, _ = read(written(tmp_path / "a.jsonl", "\n".join(lines)))
    assert [example.question for example in examples] == ["感\u2028冒了怎么办？", "感\u2029冒了怎么办？"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"question": "问题", "ans', "broken_json"),
        ("[]", "not_an_object"),
        ("42", "not_an_object"),
        ("null", "not_an_object"),
        ('{"question": "问题"}', "missing_column"),
        ('{"question": "问题", "answer": null}', "empty_answer"),
        ('{"question": "问题", "answer": ""}', "empty_answer"),
        ('{"question": " \\u3000\\n", "answer": "答案"}', "empty_question"),
        ('{"question": "\\u200b", "answer": "答案"}', "empty_question"),
        ('{"question": "问题", "answer": true}', "answer_not_text"),
        ('{"question": {"a": "b"}, "answer": "答案"}', "question_not_text"),
        ('{"question": "问题", "answer": [1, 2]}', "answer_not_text"),
        ('{"question": "问题", "answer": []}', "empty_answer"),
        ('{"question": "问题", "answer": NaN}', "empty_answer"),
        ('{"question": "问题", "answer": -Infinity}', "answer_not_text"),
        ('{"question": "问题", "answer": "答案", "answer": "另一个"}', "duplicate_key"),
        ('{"question": "问题\\ud83d", "answer": "答案"}', "lone_surrogate"),
        ('{"question": "问题", "answer": "答案", "n": ' + "9" * 5000 + "}", "number_too_long"),
        ('{"question": "问题", "answer": "答案", "n": ' + "[" * 100_000 + "]" * 100_000 + "}", "too_deep"),
    ],
)
def test_rejected_row_has_line_and_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n{line}\n{GOOD_LINE}\n")
    assert rejected(path) == [("a.jsonl:2", reason)]
    array = written(tmp_path / "a.json", f"[{GOOD_LINE},\n{line}\n,{GOOD_LINE}]") if reason != "broken_json" else None
    assert array is None or rejected(array) == [("a.json:2", reason)]


def test_torn_last_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n" * 3 + GOOD_LINE[:-9])
    assert rejected(path) == [("a.jsonl:4", "torn_last_line")]
    path = written(tmp_path / "a.json", "[" + f"{GOOD_LINE},\n" * 3 + GOOD_LINE[:-9])
    assert rejected(path) == [("a.json:4", "torn_last_line")]


def test_rows_of_an_array_are_named_by_number_and_found_by_line(tmp_path: Path) -> None:
    """Also where rows have several lines, blank ones lie between them, and the array begins late."""
    pretty = json.dumps(json.loads(GOOD_LINE), ensure_ascii=False, indent=2)
    lines = [
        "",
        "",
        "[",
        *pretty.split("\n"),
        ",",
        "",
        '{"question": "broken',
        '"}',
        ",",
        '{"question": "问"}',
        ",",
        pretty,
    ]
    array = "\n".join(lines)
    broken, lacking = (1 + lines.index(text) for text in ('{"question": "broken', '{"question": "问"}'))
    found = rejected(written(tmp_path / "a.json", array + "]"))
    assert found == [(f"a.json:{broken}", "broken_json"), (f"a.json:{lacking}", "missing_column")]
    examples, _ = read(written(tmp_path / "b.json", f"[{GOOD_LINE},\n{GOOD_LINE}]"))
    assert [example.id for example in examples] == ["b.json[0]", "b.json[1]"]
    torn = rejected(written(tmp_path / "c.json", array[: -len(pretty) // 2]))
    assert torn[-1] == (f"c.json:{len(lines)}", "torn_last_line")


def test_array_that_cannot_be_divided_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "TORN_CHARS", 100)
    lost_quote = "[" + GOOD_LINE.replace('。"', "。") + f",{GOOD_LINE}" * 50
    for text, line, part in (
        (lost_quote + "]", 1, "quote"),
        (f"[{GOOD_LINE},\n{GOOD_LINE}}}, {GOOD_LINE}]", 2, "}"),
        (f"[{GOOD_LINE}]\n{GOOD_LINE}", 1, "'{'"),
        (f"[{GOOD_LINE}] and more", 1, "'and more'"),
    ):
        path = written(tmp_path / "a.json", text)
        with pytest.raises(DataError) as caught:
            rejected(path)
        fault = only_fault(caught)
        assert (fault.code, fault.file, fault.line_number) == ("not-json", str(path), line)
        assert part in fault.problem


def test_broken_element_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charset, "CHUNK_BYTES", 5)
    path = written(tmp_path / "a.json", f'[{GOOD_LINE},{{"a" "]}}\\"["}}, 7,{GOOD_LINE},]')
    assert rejected(path) == [("a.json:1", "broken_json"), ("a.json:1", "not_an_object")]


def test_csv_rows_that_cannot_be_used(tmp_path: Path) -> None:
    text = 'question,answer\n问题一,答案一\n只有一格\n一,二,三\n"错"引号,答案\n问题二,答案二\n"没有结束,答案\n'
    path = written(tmp_path / "a.csv", text)
    assert rejected(path) == [
        ("a.csv:3", "wrong_number_of_cells"),
        ("a.csv:4", "wrong_number_of_cells"),
        ("a.csv:5", "broken_csv"),
        ("a.csv:7", "broken_csv"),
    ]
    path = written(tmp_path / "a.csv", 'question,answer\n"从这里,开始\n' + "问题,答案\n" * 500)
    with pytest.raises(DataError) as caught:
        read(path)
    fault = only_fault(caught)
    assert (fault.code, fault.file, fault.line_number) == ("not-csv", str(path), 2)


ROWS = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.none(), max_size=4))


@given(rows=ROWS, indent=st.sampled_from([None, 1]), chunk=st.integers(1, 30))  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_array_scanner_agrees_with_json(tmp_path: Path, rows: list[Any], indent: int | None, chunk: int) -> None:
    path = written(tmp_path / "a.json", json.dumps(rows, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charset, "CHUNK_BYTES", chunk)
        found = list(read_json_array(path, "a", "utf-8"))
    assert [row.values for row in found if isinstance(row, Row)] == rows
