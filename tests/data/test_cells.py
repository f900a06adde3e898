"""Cells as text: what stands for a missing value, and texts made of several columns."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medqa_finetune.errors import DataError
from tests.data.files import read, rejected, written
from tests.faulty import only_fault


def rows(path: Path, *values: dict[str, Any]) -> Path:
    return written(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in values))


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "NULL", "<NA>", "#N/A", " nan "])
def test_words_for_a_missing_value_are_not_joined(tmp_path: Path, word: str) -> None:
    path = rows(tmp_path / "a.jsonl", {"title": "头痛怎么办", "ask": word, "answer": "休息", "system": word, "h": word})
    examples, ledger = read(path, question=["title", "ask"], system="system", history="h")
    assert (examples[0].question, examples[0].system, examples[0].history) == ("头痛怎么办", None, ())
    assert ledger.counts["missing_values"] == 3
    kept, _ = read(path, question=["title", "ask"], missing_words=[])
    assert kept[0].question == f"头痛怎么办\n{word.strip()}"


def test_none_may_be_the_answer_and_nan_is_not(tmp_path: Path) -> None:
    path = rows(
        tmp_path / "a.jsonl", {"question": "返回什么", "answer": "None"}, {"question": "返回什么", "answer": "nan"}
    )
    assert [example.answer for example in read(path, max_reject_share=0.5)[0]] == ["None"]
    assert rejected(path) == [("a.jsonl:2", "empty_answer")]


def test_nan_in_a_column_of_numbers_is_a_missing_value(tmp_path: Path) -> None:
    table = pa.table({"question": ["问题一", "问题二"], "ask": [float("nan")] * 2, "answer": ["甲", "乙"]})
    pq.write_table(table, tmp_path / "a.parquet")
    examples, ledger = read(tmp_path / "a.parquet", question=["question", "ask"])
    assert [example.question for example in examples] == ["问题一", "问题二"]
    assert ledger.counts["missing_values"] == 2


O1 = {"Question": "血压偏高？", "Complex_CoT": "看分级。\n  再看病史。", "Response": "先生活方式干预。"}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("<think>{Complex_CoT}</think>{Response}", "<think>看分级。\n  再看病史。</think>先生活方式干预。"),
        (
            r"<think>\n{Complex_CoT}\n</think>\n\n{Response}",
            "<think>\n看分级。\n  再看病史。\n</think>\n\n先生活方式干预。",
        ),
        (["Complex_CoT", "Response"], "看分级。\n  再看病史。\n先生活方式干预。"),
        ('{{"a": "{Response}"}}', '{"a": "先生活方式干预。"}'),
    ],
)
def test_an_answer_of_several_columns(tmp_path: Path, answer: Any, text: str) -> None:
    path = rows(tmp_path / "a.jsonl", O1)
    assert read(path, question="Question", answer=answer)[0][0].answer == text


def test_a_question_may_be_a_template_too(tmp_path: Path) -> None:
    path = rows(tmp_path / "a.jsonl", {"q": "哪个？", "options": {"A": "甲", "B": "乙"}, "answer": "A"})
    examples, _ = read(path, question=r"{q}\nA. {options.A}\nB. {options.B}")
    assert (examples[0].question, examples[0].answer) == ("哪个？\nA. 甲\nB. 乙", "A")


@pytest.mark.parametrize(
    ("options", "text"),
    [(["甲", "乙"], "甲\n乙"), ({"A": "甲", "B": "乙"}, "A. 甲\nB. 乙"), (["甲"], "甲"), ("甲", "甲")],
)
def test_a_template_lists_all_of_a_cell(tmp_path: Path, options: Any, text: str) -> None:
    path = rows(tmp_path / "a.jsonl", {"q": "哪个？", "options": options, "answer": "A"})
    assert read(path, question=r"{q}\n{options}")[0][0].question == f"哪个？\n{text}"


@pytest.mark.parametrize("text", ['{"A": "甲", "B": ["乙"]}', "{'A': '甲', 'B': ['乙']}"])
def test_columns_inside_a_text_of_a_table(tmp_path: Path, text: str) -> None:
    cell = '"' + text.replace('"', '""') + '"'
    path = written(tmp_path / "a.csv", f"question,options,answer\n哪个？,{cell},A\n没有？,,B\n")
    examples, _ = read(path, question="{question}甲：{options.A}乙：{options.B.0}", max_reject_share=0.5)
    assert [each.question for each in examples] == ["哪个？甲：甲乙：乙"]


def test_an_empty_column_leaves_a_template_unfilled(tmp_path: Path) -> None:
    path = rows(tmp_path / "a.jsonl", O1, O1 | {"Complex_CoT": "nan"}, O1 | {"Complex_CoT": True})
    template = {"question": "Question", "answer": "<think>{Complex_CoT}</think>{Response}"}
    assert [reason for _, reason in rejected(path, **template)] == ["empty_answer", "answer_not_text"]
    assert read(rows(path, O1 | {"Complex_CoT": None}), question="Question", answer=["Complex_CoT", "Response"])[0]


def test_a_column_that_a_template_names_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(rows(tmp_path / "a.jsonl", O1), question="Question", answer="{CoT}{Response}")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("column-missing", "corpus.answer", "CoT")
