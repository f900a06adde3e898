"""The same questions to several models, side by side."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from medqa_finetune.chatting.terminal import harmless

# Columns of a terminal that an answer needs to be read well.
ANSWER_COLUMNS = 24


def side_by_side(questions: Sequence[str], answers: Mapping[str, Sequence[str]], width: int) -> RenderableType:
    """Return questions and answers as a table: models beside each other, or below where the terminal is too narrow.

    Args:
        questions: One a row.
        answers: For every model, one to each question.
        width: Columns of the terminal.
    """
    if width // (len(answers) + 1) >= ANSWER_COLUMNS:
        table = _table("question", *answers)
        for number, question in enumerate(questions):
            table.add_row(*map(_text, (question, *(said[number] for said in answers.values()))))
        return table
    blocks: list[RenderableType] = []
    for number, question in enumerate(questions):
        block = Table(box=box.SIMPLE_HEAD, show_lines=True, title=_text(question), title_justify="left")
        block.add_column("model", ratio=1, overflow="fold")
        block.add_column("answer", ratio=3, overflow="fold")
        for name, said in answers.items():
            block.add_row(*map(_text, (name, said[number])))
        blocks.append(block)
    return Group(*blocks)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_lines=True)
    for column in columns:
        table.add_column(_text(column), ratio=1, overflow="fold")
    return table


def _text(text: str) -> Text:
    # Never rich's markup: `[red]` in an answer is text.
    return Text(harmless(text))


def print_table(questions: Sequence[str], answers: Mapping[str, Sequence[str]]) -> None:
    """Print the table on standard output."""
    console = Console(highlight=False)
    console.print(side_by_side(questions, answers, console.width))
