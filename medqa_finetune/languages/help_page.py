"""Translates the page that `--help` prints, as it is printed: what stands in which column stays there.

A page has paragraphs, which begin at the left, and entries, which are indented: a form (`outputs=DIR`, a command) and
behind at least two blanks, or in deeper lines below, what it means. Forms stay as they are.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from medqa_finetune.languages.choice import chosen
from medqa_finetune.languages.translate import Kind, translation

# Columns, of which a Chinese character takes two.
WIDTH = 118
ENTRY = re.compile(r"(?P<form>(?P<indent> +)\S.*?)(?P<gap> {2,}(?=\S))(?P<text>.+)")
DEFAULT = re.compile(r"(?P<text>.*) \(default (?P<value>.+)\)", re.DOTALL)
USAGE = "usage: "
# What is not torn apart at the end of a line, and what does not begin one.
PIECE = re.compile(r" |[“（《「]*(?:[!-~…]+|[^“（《「 ])|.", re.DOTALL)
CLOSING = "，。；：）、！？"


def help_page(page: str) -> str:
    """Return a page in the chosen language; parts without a translation in English."""
    if chosen() == "en":
        return page
    return "\n".join(line for block in _blocks(page.split("\n")) for line in _translated(block))


def texts_of(page: str) -> list[str]:
    """Return the texts of a page that need a translation."""
    return [text for block in _blocks(page.split("\n")) if (text := _text_of(block))]


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield a page's paragraphs and entries with their lines; an empty line is one of its own."""
    block: list[str] = []
    for line in lines:
        if block and not _continues(block, line):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _continues(block: Sequence[str], line: str) -> bool:
    first, indent = block[0], _indent(line)
    if not first.strip() or not line.strip() or first.startswith(USAGE):
        return False
    if _indent(first) == 0:
        return indent == 0 and not block[-1].endswith(":")
    if len(block) == 1:
        # An entry of its own may stand a little deeper than the one before.
        return indent > _indent(first) and ENTRY.fullmatch(line) is None
    return indent == _indent(block[-1])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _parts(block: Sequence[str]) -> tuple[str, int, str]:
    """Return the form of a block, the column of its text, and its text in one line; no text where it has none."""
    first, *others = block
    if _indent(first) == 0:
        return "", 0, " ".join(block)
    found = ENTRY.fullmatch(first)
    form, text = (first, "") if found is None else (found["form"], found["text"])
    column = _indent(others[0]) if others else len(first) - len(text)
    return form, column, " ".join([text, *(line.strip() for line in others)]).strip()


def _text_of(block: Sequence[str]) -> str:
    form, _, text = _parts(block)
    if text.startswith(USAGE):
        return ""
    found = DEFAULT.fullmatch(text)
    text = found["text"] if found else text
    # Several forms in a line, as `train` lists its keys, are no words.
    is_words = " " in text and not re.fullmatch(r"(\S*=.*)|(\S+)", text)
    return text if is_words or (not form and text) else ""


def _translated(block: Sequence[str]) -> list[str]:
    form, column, text = _parts(block)
    if text.startswith(USAGE):
        return [f"用法：{text.removeprefix(USAGE)}"]
    found = DEFAULT.fullmatch(text)
    text, default = (found["text"], f"（默认 {found['value']}）") if found else (text, "")
    words = translation(text, Kind.HELP) if text else None
    if words is None and not default:
        return [*block]
    lines = wrap((words or text) + default, WIDTH - column)
    if not form:
        return lines
    if len(form) + 2 > column:
        return [form, *(" " * column + line for line in lines)]
    return [form.ljust(column) + lines[0], *(" " * column + line for line in lines[1:])]


def columns(text: str) -> int:
    """Return the columns that a text takes in a terminal."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def wrap(text: str, width: int) -> list[str]:
    """Return a text in lines of at most so many columns; a longer word has a line of its own."""
    lines, line = [], ""
    # Room for two closing marks, which do not begin a line.
    room = width if text.isascii() else width - 4
    for piece in PIECE.findall(text):
        if line and columns(line + piece) > room and piece not in CLOSING:
            lines.append(line.rstrip())
            line = ""
        line += piece if line or piece != " " else ""
    return [*lines, line.rstrip()]
