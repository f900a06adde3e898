"""Questions from a file, and answers side by side in terminals of any width."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from medqa_finetune.chatting.side_by_side import QUESTIONS as DEFAULT_QUESTIONS
from medqa_finetune.chatting.side_by_side import read_questions, side_by_side
from medqa_finetune.errors import DataError
from tests.faulty import only_fault

QUESTIONS = ["感冒了怎么办？", "头痛"]
ANSWERS = {"lora_20k": ["多喝水，多休息。" * 5, "[red]休息[/red]"], "qlora_20k": ["\x1b[2J", "就医。"]}


def rendered(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(side_by_side(QUESTIONS, ANSWERS, width))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_models_stand_beside_each_other() -> None:
    header = next(line for line in rendered(120).splitlines() if "question" in line)
    assert header.split() == ["question", "lora_20k", "qlora_20k"]


def test_narrow_terminals_show_blocks() -> None:
    rows = [line.split() for line in rendered(60).splitlines()]
    assert not any({"lora_20k", "qlora_20k"} <= set(row) for row in rows)
    assert sum("qlora_20k" in row for row in rows) == 2


def test_every_line_fits_and_no_sign_is_lost() -> None:
    for width in (60, 120):
        text = rendered(width)
        assert all(len(line.encode("gb18030")) <= width + line.count("─") * 2 for line in text.splitlines())
        assert text.count("多") >= 10


def test_answers_are_text() -> None:
    for width in (60, 120):
        assert "[red]休息[/red]" in rendered(width)
        assert "\\x1b[2J" in rendered(width)
        assert "\x1b" not in rendered(width)


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_our_own_are_questions() -> None:
    assert len(set(DEFAULT_QUESTIONS)) >= 5
    assert all(question.endswith("？") for question in DEFAULT_QUESTIONS)


def test_a_text_file_has_one_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, "问题.txt", "\ufeff感冒怎么办？\r\n\n  头痛？ \n")
    assert read_questions(path) == ["感冒怎么办？", "头痛？"]


def test_json_lines_have_one_in_each(tmp_path: Path) -> None:
    path = written(tmp_path, "q.jsonl", '{"question": "感冒怎么办？", "answer": "休息"}\n\n{"question": "头痛？"}')
    assert read_questions(path) == ["感冒怎么办？", "头痛？"]


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "not-readable"), ("", "empty"), (" \n\n", "empty"), ("感冒".encode("gb18030"), "not-utf8")],
)
def test_a_file_that_cannot_be_used_is_named(content: str | bytes | None, code: str, tmp_path: Path) -> None:
    if content is not None:
        written(tmp_path, "q.txt", content)
    with pytest.raises(DataError) as caught:
        read_questions(tmp_path / "q.txt")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, "questions", str(tmp_path / "q.txt"))


@pytest.mark.parametrize(
    ("content", "code", "line_number"),
    [
        ('{"question": "a"}\n{"question"', "not-json", 2),
        ('{"question": "a"}\n[1]', "wrong-type", 2),
        ('{"frage": "a"}', "wrong-type", 1),
        ('{"question": " "}', "wrong-type", 1),
        ('{"question": 7}', "wrong-type", 1),
    ],
)
def test_a_line_that_cannot_be_used_is_named(content: str, code: str, line_number: int, tmp_path: Path) -> None:
    path = written(tmp_path, "q.jsonl", content)
    with pytest.raises(DataError) as caught:
        read_questions(path)
    fault = only_fault(caught)
    assert (fault.code, fault.file, fault.line_number) == (code, str(path), line_number)
    if code == "wrong-type":
        assert fault.got == json.loads(content.splitlines()[-1])
