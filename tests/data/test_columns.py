"""Which cells are the example, and what odd cells mean."""

import json
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.errors import DataError
from tests.data.files import GOOD, GOOD_LINE, read, written
from tests.faulty import only_fault


@pytest.mark.parametrize(
    ("cell", "text", "count"),
    [
        (["答案"], "答案", None),
        ([["答案"]], "答案", None),
        (["", None, "答案", "别的"], "答案", "lists_of_several"),
        ([["答案", "别的"], ["三"]], "答案", "lists_of_several"),
        ("['多喝水', '多休息']", "多喝水、多休息", "python_list_texts"),
        ("['多喝水']", "多喝水", "python_list_texts"),
        ("[{'a': ['b']}]", "[{'a': ['b']}]", None),
        ("['没有结束]", "['没有结束]", None),
        ("['\\d', 1]", "['\\d', 1]", None),
        ('["a", "b"]', '["a", "b"]', None),
        ("好<|im_end|>的", "好<| im_end |>的", "chat_tokens_neutralised"),
    ],
)
def test_odd_cells(tmp_path: Path, cell: Any, text: str, count: str | None) -> None:
    path = written(tmp_path / "a.jsonl", json.dumps({"question": "问题", "answer": cell}) + "\n")
    examples, ledger = read(path)
    assert [example.answer for example in examples] == [text]
    assert {name for name in ledger.counts if name not in ("rows", "pairs")} == ({count} if count else set())


def test_several_columns_empty_values_prefixes_and_suffixes(tmp_path: Path) -> None:
    rows = [
        {"title": "问题：标题", "ask": "正文\n回答: ", "answer": "答：答案"},
        {"title": "只有标题", "ask": "无", "answer": "答案"},
        {"title": "一样的", "ask": "一样的", "answer": "答案"},
        {"ask": "没有标题", "answer": "答案"},
        {"title": "标题", "ask": "正文", "answer": " 无 "},
    ]
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    changes = {
        "question": ["title", "ask"],
        "empty_values": ["无"],
        "question_prefix": "问题[：:]",
        "question_suffix": r"\n回答[：:]\s*",
        "answer_prefix": "答：",
    }
    examples, ledger = read(path, **changes)
    assert [example.question for example in examples] == ["标题\n正文", "只有标题", "一样的", "没有标题", "标题\n正文"]
    assert examples[0].answer == "答案"
    # The only answer may be just that.
    assert examples[-1].answer == "无"
    assert ledger.counts["answers_like_empty_values"] == 1


def test_columns_inside_lists_and_objects(tmp_path: Path) -> None:
    row = {"conversations": [{"value": "问题"}, {"value": "答案"}], "a.b": "点"}
    path = written(tmp_path / "a.jsonl", json.dumps(row) + "\n" + '{"conversations": []}\n')
    examples, _ = read(path, question="conversations.0.value", answer="conversations.1.value", max_reject_share=0.5)
    assert [(p.question, p.answer) for p in examples] == [("问题", "答案")]


def test_ids_are_unique(tmp_path: Path) -> None:
    ids: list[Any] = ["x", 7, "x", None, "", [1], True, "a\nb", "7"]
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(GOOD | {"id": i}) + "\n" for i in ids) + GOOD_LINE)
    examples, ledger = read(path, id="id")
    assert [p.id for p in examples] == ["x", "7", *(f"a.jsonl:{n}" for n in range(3, 11))]
    assert ledger.counts["rows_named_after_their_place"] == 7


@pytest.mark.parametrize("key", ["question_prefix", "question_suffix", "answer_prefix"])
def test_not_a_regular_expression(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.jsonl", GOOD_LINE), **{key: "("})
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-a-pattern", f"corpus.{key}", "(")


@pytest.mark.parametrize("question", [None, [], [1], ""])
def test_not_the_name_of_a_column(tmp_path: Path, question: Any) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.jsonl", GOOD_LINE), question=question)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("wrong-type", "corpus.question", question)


def test_a_column_of_another_case_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.jsonl", '{"Question": "问题", "answer": "答案"}\n'))
    assert only_fault(caught).hint == "Give corpus.question=Question."


@pytest.mark.parametrize("column", ["conversations", "messages", "instruction"])
def test_well_known_columns_name_what_reads_them(tmp_path: Path, column: str) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.jsonl", json.dumps({column: "问题"}) + "\n"))
    assert f"reads {column}" in only_fault(caught).hint


def test_very_many_very_long_columns_are_not_all_listed(tmp_path: Path) -> None:
    row = {"\ud83d": "问题", **{f"{n}" * 100: "问题" for n in range(30)}}
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.jsonl", json.dumps(row) + "\n"))
    fault = caught.value.faults[0]
    assert (fault.code, len(fault.allowed)) == ("column-missing", 20)
    assert "31" in fault.problem
    assert fault.allowed[0].encode()
    assert max(map(len, fault.allowed)) == 40


ROLES = ("user", "assistant")


def test_a_number_as_answer_is_text(tmp_path: Path) -> None:
    rows = [{"question": "几个？", "answer": n} for n in (42, 1.5)]
    examples, ledger = read(written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert [each.answer for each in examples] == ["42", "1.5"]
    assert ledger.counts["numbers_as_text"] == 2


@pytest.mark.parametrize(("column", "changes"), [("system", {}), ("history", {}), ("system", {"messages": "m"})])
def test_context_that_is_not_read_is_said_once(
    tmp_path: Path, column: str, changes: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    said = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
    row = {"question": "问", "answer": "答", "m": said, column: "以前"}
    path = written(tmp_path / "a.jsonl", (json.dumps(row) + "\n") * 3)
    read(path, **changes)
    assert [f"corpus.{column}={column}" in each.message for each in caplog.records] == [True]
    caplog.clear()
    read(path, max_reject_share=1, **changes, **{column: column}) if column == "system" else None
    assert not caplog.records


def test_an_empty_last_answer_is_a_short_one(tmp_path: Path) -> None:
    turns = [["问", "很好的答案"], ["再问", ""]]
    said = [{"role": role, "content": text} for turn in turns for role, text in zip(ROLES, turn, strict=True)]
    path = written(tmp_path / "a.jsonl", json.dumps({"m": said}))
    examples, ledger = read(path, messages="m", min_answer_characters=2)
    assert [each.answer for each in examples] == ["很好的答案"]
    assert ledger.counts["short_last_turns_dropped"] == 1
