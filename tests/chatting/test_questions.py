"""Which questions a demo asks."""

import json
from pathlib import Path

import pytest

from medqa_finetune.chatting.questions import QUESTIONS, read_questions
from medqa_finetune.errors import DataError
from tests.faulty import only_fault


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_our_own_are_questions() -> None:
    assert len(set(QUESTIONS)) >= 5
    assert all(question.endswith("？") for question in QUESTIONS)


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
