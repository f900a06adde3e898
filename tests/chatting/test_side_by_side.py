"""Answers side by side, readable in terminals of any width."""

import io

from rich.console import Console

from medqa_finetune.chatting.side_by_side import side_by_side

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


def test_in_a_narrow_terminal_they_stand_below_each_other() -> None:
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
