"""Asks several models the same questions, ours or those of a file, and shows the answers side by side."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from medqa_finetune.chatting.terminal import escape_controls
from medqa_finetune.errors import DataError, Fault

# Common complaints in the words of patients, written for this package.
QUESTIONS = (
    "感冒发烧三十八度五，需要马上吃退烧药吗？",
    "高血压患者平时饮食上要注意什么？",
    "最近总是失眠，有什么办法可以改善睡眠？",
    "空腹血糖七点二，算不算糖尿病？",
    "孩子腹泻两天了，什么情况下要去医院？",
    "胃经常反酸烧心，可能是什么原因？",
)
BYTE_ORDER_MARK = "\ufeff"
# Least readable width of an answer in a terminal.
ANSWER_COLUMNS = 24


def side_by_side(questions: Sequence[str], answers: Mapping[str, Sequence[str]], width: int) -> RenderableType:
    """Return a table of questions and answers, one column per model, or in a narrow terminal one block per question.

    Args:
        questions: One per row.
        answers: By model, one per question.
        width: Columns of the terminal.
    """
    if width // (len(answers) + 1) >= ANSWER_COLUMNS:
        table = _table("question", *answers)
        for number, question in enumerate(questions):
            table.add_row(*map(_text, (question, *(each[number] for each in answers.values()))))
        return table
    blocks: list[RenderableType] = []
    for number, question in enumerate(questions):
        block = Table(box=box.SIMPLE_HEAD, show_lines=True, title=_text(question), title_justify="left")
        block.add_column("model", ratio=1, overflow="fold")
        block.add_column("answer", ratio=3, overflow="fold")
        for name, given in answers.items():
            block.add_row(*map(_text, (name, given[number])))
        blocks.append(block)
    return Group(*blocks)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_lines=True)
    for column in columns:
        table.add_column(_text(column), ratio=1, overflow="fold")
    return table


def _text(text: str) -> Text:
    # Not parsed as rich's markup: `[red]` in an answer is text.
    return Text(escape_controls(text))


def print_table(questions: Sequence[str], answers: Mapping[str, Sequence[str]]) -> None:
    """Print the table on standard output."""
    console = Console(highlight=False)
    console.print(side_by_side(questions, answers, console.width))


def read_questions(path: Path) -> list[str]:
    """Return the questions of a UTF-8 file: one per line, or JSON Lines of `{"question"}`; empty lines are skipped.

    Raises:
        DataError: the file cannot be read, or has no question.
    """
    try:
        text = path.read_text(encoding="utf-8").removeprefix(BYTE_ORDER_MARK)
    except OSError as error:
        raise _unusable(path, "not-readable", f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise _unusable(path, "not-utf8", f"is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise _unusable(path, "empty", "has no questions", "Write one question a line.")
    if path.suffix in (".jsonl", ".ndjson"):
        return [_question(path, number, line) for number, line in lines]
    return [line for _, line in lines]


def _unusable(path: Path, code: str, problem: str, hint: str = "") -> DataError:
    return DataError(Fault(code, problem, key="questions", got=str(path), hint=hint))


def _question(path: Path, number: int, line: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(Fault("not-json", f"is not JSON ({error})", file=str(path), line_number=number)) from None
    question = row.get("question") if isinstance(row, dict) else None
    if not isinstance(question, str) or not question.strip():
        problem = 'must be an object {"question": TEXT}'
        raise DataError(Fault("wrong-type", problem, got=row, file=str(path), line_number=number))
    return question.strip()
