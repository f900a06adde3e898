"""Tables written as text: what stands between cells, Excel's files, and quotes that are none."""

import json
import logging
from pathlib import Path

import pytest

from medqa_finetune.errors import DataError
from tests.data.files import read, rejected, written
from tests.faulty import only_fault


def table(delimiter: str) -> str:
    return f"question{delimiter}answer\n发烧怎么办{delimiter}多喝水\n"


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.tsv", "\t"), ("a.tab", "\t"), ("a.csv", "\t"), ("a.csv", ";"), ("a.csv", "|")]
)
def test_the_delimiter_is_found_and_said(
    tmp_path: Path, name: str, delimiter: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / name, table(delimiter))
    with caplog.at_level(logging.INFO):
        assert [(each.question, each.answer) for each in read(path)[0]] == [("发烧怎么办", "多喝水")]
    assert "corpus.delimiter" in caplog.text


def test_columns_tell_a_delimiter_from_punctuation(tmp_path: Path) -> None:
    text = "id;question, long;answer, long\n" + "".join(f"{n};头痛, 怎么办;多喝水, 多休息\n" for n in range(5))
    path = written(tmp_path / "a.csv", text)
    examples, _ = read(path, question="question, long", answer="answer, long")
    assert examples[0].answer == "多喝水, 多休息"
    path = written(tmp_path / "b.csv", "question,answer\n头痛;三天;发烧,休息;喝水\n")
    assert read(path)[0][0].answer == "休息;喝水"


@pytest.mark.parametrize(("given", "character"), [("tab", "\t"), ("semicolon", ";"), ("^", "^"), (r"\t", "\t")])
def test_a_delimiter_may_be_given(tmp_path: Path, given: str, character: str) -> None:
    path = written(tmp_path / "a.csv", table(character))
    assert len(read(path, delimiter=given)[0]) == 1


def test_a_delimiter_means_nothing_in_json(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.jsonl", '{"question": "问", "answer": "答"}'), delimiter="tab")
    assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "corpus.delimiter")


def test_a_missing_column_says_the_delimiter(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.csv", table("^")))
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("column-missing", "corpus.question")
    assert "corpus.delimiter=" in fault.hint


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_unicode_text_of_excel_is_read(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, table("\t").replace("\n", "\r\n").encode("utf-16"))
    assert [each.answer for each in read(path)[0]] == ["多喝水"]


def test_excel_names_its_delimiter_in_the_first_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "sep=;\r\n" + table(";"))
    assert [each.id for each in read(path)[0]] == ["a.csv:3"]


def test_quotes_in_a_table_with_tabs_may_be_text(tmp_path: Path) -> None:
    rows = ['"头痛"怎么办\t休息', '"没有结束\t多喝水', '"两行\n问题"\t"说了""是"""', "最后\t一行"]
    path = written(tmp_path / "a.tsv", "question\tanswer\n" + "\n".join(rows) + "\n")
    examples, ledger = read(path)
    assert [(each.question, each.answer) for each in examples] == [
        ('"头痛"怎么办', "休息"),
        ('"没有结束', "多喝水"),
        ("两行\n问题", '说了"是"'),
        ("最后", "一行"),
    ]
    assert [each.id for each in examples] == ["a.tsv:2", "a.tsv:3", "a.tsv:4", "a.tsv:6"]
    assert ledger.broken == 0


def test_an_open_quote_in_a_table_with_tabs_loses_no_rows(tmp_path: Path) -> None:
    rows = ['"没有结束\t多喝水', *("问题\t答案" for _ in range(300)), "只有一格"]
    path = written(tmp_path / "a.tsv", "question\tanswer\n" + "\n".join(rows) + "\n")
    assert len(read(path)[0]) == 301
    assert rejected(path) == [("a.tsv:303", "wrong_number_of_cells")]


def test_cells_hold_lists_as_text(tmp_path: Path) -> None:
    messages = json.dumps([{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}])
    cell = '"' + messages.replace('"', '""') + '"'
    path = written(tmp_path / "a.csv", f"id,messages\n1,{cell}\n2,[]\n")
    examples, ledger = read(path, messages="messages", max_reject_share=0.5)
    assert [each.turns for each in examples] == [(("问", "答"),)]
    assert ledger.counts["rejected_empty_conversation"] == 1


def test_broken_json_in_a_cell_is_no_list(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'question,answer,history\n问题,答案,"[[""问"""\n问题,答案,\n')
    assert rejected(path, history="history") == [("a.csv:2", "history_not_turns")]


def numbered(n: int, **others: str) -> str:
    """Return a table of `n` rows, some of them others: `_3` is the third."""
    rows = [others.get(f"_{number}", f"问题{number},回答{number}") for number in range(1, n + 1)]
    return "question,answer\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("rows", "lost"),
    [
        ({"_10": '问题10,"回答10', "_15": '问题15,回答15"'}, range(11, 17)),
        ({"_10": '"问题10,回答10', "_15": '问题15",回答15'}, range(11, 17)),
        ({"_10": '"问, 题","回答10', "_15": '问题15,回答15"'}, range(11, 17)),
        ({"_10": '问题10,"回答10', "_15": '问题15,"回答15"'}, range(11, 17)),
        ({"_35": '问题35,"回答35'}, range(36, 42)),
        ({"_10": '问题10,"回答"10'}, range(11, 12)),
    ],
)
def test_each_line_behind_a_stray_quote_is_rejected(tmp_path: Path, rows: dict[str, str], lost: range) -> None:
    path = written(tmp_path / "a.csv", numbered(40, **rows))
    assert rejected(path) == [(f"a.csv:{line}", "broken_csv") for line in lost]
    with pytest.raises(DataError) as caught:
        read(path)
    assert only_fault(caught).code == "too-many-rejects"


@pytest.mark.parametrize(
    "cell", ["一\n二\n\n三", "First, do x\nSecond, do y\nThird, z", "表\na,1\nb,2\n完", "一, 二\n三"]
)
def test_real_cells_of_several_lines_are_read(tmp_path: Path, cell: str) -> None:
    examples, ledger = read(written(tmp_path / "a.csv", numbered(3, _2=f'问题2,"{cell}"')))
    assert [each.answer for each in examples] == ["回答1", cell, "回答3"]
    assert ledger.broken == 0


def test_rows_between_stray_quotes_in_a_table_with_tabs_are_read(tmp_path: Path) -> None:
    text = numbered(9, _3='问题3,"回答3', _6='问题6,回答6"').replace(",", "\t")
    assert len(read(written(tmp_path / "a.tsv", text))[0]) == 9


def test_lines_may_end_as_on_old_macs(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", numbered(3).replace("\n", "\r"))
    assert [each.id for each in read(path)[0]] == ["a.csv:2", "a.csv:3", "a.csv:4"]


def test_what_databases_write_for_nothing_is_missing(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", numbered(4, _2="问题,NULL", _3="问题,\\N", _4="问题,null"))
    assert rejected(path) == [("a.csv:3", "empty_answer"), ("a.csv:4", "empty_answer")]


def test_why_no_row_gives_an_example_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(written(tmp_path / "a.csv", numbered(2, _1="问,", _2="题,")), max_reject_share=1)
    fault = only_fault(caught)
    assert fault.code == "no-pairs"
    assert "empty_answer 2" in fault.problem
    assert "a.csv:2" in fault.problem
