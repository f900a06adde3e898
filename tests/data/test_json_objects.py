"""Files that are one JSON object, with the rows somewhere in it."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.errors import DataError
from tests.data.files import GOOD, read, rejected, written
from tests.faulty import only_fault

ROWS = [GOOD, GOOD | {"question": "发烧怎么办？"}]
KEYED = {"x1": ROWS[0], "x2": ROWS[1]}
FOUND = [
    ({"data": ROWS}, "data"),
    ({"version": "1.0", "meta": {"n": 2}, "rows": ROWS, "tags": ["a"]}, "rows"),
    ({"result": {"items": ROWS}}, "result.items"),
    ({"labels": [{"name": "a"}], "data": ROWS}, "data"),
    (KEYED, "."),
    ({"info": {"name": "a"}, "data": KEYED}, "data"),
    ({name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in GOOD}, "."),
    ({name: [row[name] for row in ROWS] for name in GOOD}, "."),
    ({"columns": list(GOOD), "index": [0, 1], "data": [list(row.values()) for row in ROWS]}, "."),
]


@pytest.mark.parametrize(("value", "where"), FOUND)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_rows_in_one_place_are_found_and_said(
    tmp_path: Path, value: Any, where: str, indent: int | None, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / name, json.dumps(value, indent=indent, ensure_ascii=False))
    with caplog.at_level(logging.INFO):
        examples, _ = read(path)
    assert [each.question for each in examples] == [row["question"] for row in ROWS]
    assert f"corpus.rows={where}" in caplog.text


@pytest.mark.parametrize(("value", "where"), FOUND[:6])
def test_rows_may_be_named(tmp_path: Path, value: Any, where: str) -> None:
    assert len(read(written(tmp_path / "a.json", json.dumps(value)), rows=where)[0]) == 2


def test_places_are_numbers_or_keys(tmp_path: Path) -> None:
    assert [each.id for each in read(written(tmp_path / "a.json", json.dumps({"d": ROWS})))[0]] == [
        "a.json[0]",
        "a.json[1]",
    ]
    path = written(tmp_path / "a.json", json.dumps(KEYED | {"x3": {"question": "问题"}}))
    assert [each.id for each in read(path, max_reject_share=0.5)[0]] == ["a.json[x1]", "a.json[x2]"]
    assert rejected(path) == [("a.json[x3]", "missing_column")]


@pytest.mark.parametrize("rows", [None, "dev", "train.0"])
def test_rows_in_several_places_are_named(tmp_path: Path, rows: str | None) -> None:
    path = written(tmp_path / "a.json", json.dumps({"train": ROWS, "test": ROWS}))
    with pytest.raises(DataError) as caught:
        read(path, rows=rows)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("rows-not-found", "corpus.rows", rows)
    assert fault.allowed == ("train", "test")
    assert "corpus.rows=" in fault.hint
    assert len(read(path, rows="train")[0]) == 2


@pytest.mark.parametrize("text", [f"[{json.dumps(GOOD)}]", json.dumps(GOOD) + "\n" + json.dumps(GOOD)])
def test_a_place_is_refused_where_rows_have_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.json", text), rows="data")
    assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "corpus.rows")


def test_a_single_row_is_no_table(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
    path = written(tmp_path / "a.jsonl", json.dumps({"messages": messages}))
    assert read(path, messages="messages")[0][0].turns == (("问", "答"),)
    path = written(tmp_path / "a.jsonl", json.dumps(GOOD | {"history": [["一", "二"]], "more": [{"a": 1}]}))
    assert len(read(path, history="history")[0][0].turns) == 2


def test_a_key_twice_costs_its_row_alone(tmp_path: Path) -> None:
    good = json.dumps(GOOD)
    path = written(tmp_path / "a.json", f'{{"data": [{good}, {{"question": "问", "question": "题"}}, 7]}}')
    assert rejected(path) == [("a.json[1]", "duplicate_key"), ("a.json[2]", "not_an_object")]


def test_other_columns_are_said_to_be_missing(tmp_path: Path) -> None:
    for text in (json.dumps({"data": [{"q": "问", "a": "答"}]}), json.dumps({"q": "问", "a": "答"})):
        with pytest.raises(DataError) as caught:
            read(written(tmp_path / "a.json", text))
        fault = next(each for each in caught.value.faults if each.key == "corpus.question")
        assert (fault.code, fault.allowed) == ("column-missing", ("q", "a"))
