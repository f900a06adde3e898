"""Which questions a demo asks."""

from pathlib import Path

import pytest

from medqa_finetune.chatting.questions import QUESTIONS, read_questions
from medqa_finetune.errors import DataError


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
    ("name", "content", "says"),
    [
        ("q.txt", None, "q.txt: cannot be read"),
        ("q.txt", "", "no question in there"),
        ("q.txt", " \n\n", "no question in there"),
        ("q.txt", "感冒".encode("gb18030"), r"not UTF-8 \(byte 0\); save it as UTF-8"),
        ("q.jsonl", '{"question": "a"}\n{"question"', "q.jsonl:2: not JSON"),
        ("q.jsonl", '{"question": "a"}\n[1]', "q.jsonl:2: .*TEXT.* is wanted, got "),
        ("q.jsonl", '{"frage": "a"}', "q.jsonl:1: "),
        ("q.jsonl", '{"question": " "}', "q.jsonl:1: "),
        ("q.jsonl", '{"question": 7}', "q.jsonl:1: "),
    ],
)
def test_what_cannot_be_used_is_named(name: str, content: str | bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        written(tmp_path, name, content)
    with pytest.raises(DataError, match=says):
        read_questions(tmp_path / name)
