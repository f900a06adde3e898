"""Cells of a row as text: missing values, lists, and texts made of several columns."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.messages import Broken
from medqa_finetune.data.notation import python_value, value_of
from medqa_finetune.data.rows import Ledger

ABSENT = object()
LIST_TEXT_SEPARATOR = "、"
# Words for a missing value that may be the answer to a question all the same.
MAY_BE_SAID = ("None", "NULL", "null")
# What databases write into a table for a missing value.
OF_DATABASES = ("NULL", "\\N")
# A name in braces, or a doubled brace, which stands for itself.
FIELD = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


class NotText(Exception):  # noqa: N818 - it names a reason
    """The cell is a truth value, an object, or a list of those or of numbers."""


def cell_of(values: Mapping[str, object], name: str) -> object:
    """Return the cell of a column, or ABSENT; `a.0.b` indexes into lists and objects if no column has that name.

    A table holds lists and objects as text, in JSON or Python's notation.
    """
    if name in values:
        return values[name]
    cell: object = values
    for part in name.split(".") if "." in name else ():
        if isinstance(cell, str) and cell.lstrip()[:1] in ("{", "["):
            cell = value_of(cell)
        if isinstance(cell, dict) and part in cell:
            cell = cell[part]
        elif isinstance(cell, list) and part.isdecimal() and len(part) < 10 and int(part) < len(cell):
            cell = cell[int(part)]
        else:
            return ABSENT
    return cell if "." in name else ABSENT


class CellReader:
    """Reads cells as text.

    Args:
        corpus: Its empty values and words for missing ones.
        ledger: Counts what was done to the cells.
    """

    def __init__(self, corpus: CorpusConfig, ledger: Ledger) -> None:
        self._empty = frozenset(corpus.empty_values)
        self._missing = frozenset(corpus.missing_words)
        self._ledger = ledger

    def text(self, cell: object, *, alone: bool = False) -> str:
        """Return a cell's text, empty for a value that stands for a missing one.

        Args:
            cell: The cell.
            alone: Whether nothing else can be the answer, so that `None`, or an empty value of other columns, may be
                meant.

        Raises:
            NotText: the cell is not text.
        """
        if isinstance(cell, list):
            cell = self._of_list(cell)
            if _is_number(cell):
                raise NotText
        if _is_number(cell):
            self._ledger.count("numbers_as_text")
            return str(cell)
        if cell is None or self.is_missing(cell, alone=alone):
            return ""
        if not isinstance(cell, str):
            raise NotText
        # Python's notation only: a list in double quotes may be part of an answer about programming.
        if cell.startswith("['") and cell.endswith("]"):
            cell = self._of_list_text(cell)
        if cell.strip() in self._empty:
            if not alone:
                return ""
            self._ledger.count("answers_like_empty_values")
        return cell

    def listed(self, cell: object) -> str:
        """Return a cell's text; of several texts all, one a line, and of an object each with its key: `A. 甲`.

        Raises:
            NotText: something in the cell is not text.
        """
        if isinstance(cell, dict):
            lines = [f"{key}. {text}" for key, value in cell.items() if (text := self.text(value))]
        elif isinstance(cell, list) and len(cell) > 1:
            lines = [text for value in cell if (text := self.text(value))]
        else:
            return self.text(cell)
        return "\n".join(lines)

    def is_missing(self, cell: object, *, alone: bool = False) -> bool:
        """Return whether a cell is what programs write for a missing value; counted."""
        if isinstance(cell, str):
            bare = cell.strip()
            missing = bare in self._missing and not (alone and bare in MAY_BE_SAID)
        else:
            missing = isinstance(cell, float) and math.isnan(cell)
        if missing:
            self._ledger.count("missing_values")
        return missing

    def of_table(self, values: Mapping[str, object], names: Iterable[str]) -> Mapping[str, object]:
        """Return a table's row in which cells that databases write for a missing value are None; counted."""
        if not self._missing:
            return values
        missing = {
            name: None for name in names if isinstance(cell := values.get(name), str) and cell.strip() in OF_DATABASES
        }
        if missing:
            self._ledger.count("missing_values", len(missing))
        return {**values, **missing} if missing else values

    def joined(self, cells: Sequence[object]) -> str:
        """Return the texts of cells joined with line breaks, without empty and repeated ones.

        Raises:
            NotText: a cell is not text.
        """
        parts: list[str] = []
        for cell in cells:
            text = _bare(self.text(cell))
            if text and text not in parts:
                parts.append(text)
        return "\n".join(parts)

    def _of_list(self, cell: object) -> object:
        while isinstance(cell, list) and len(cell) == 1:
            cell = cell[0]
        if not isinstance(cell, list):
            return cell
        self._ledger.count("lists_of_several")
        full = (item for item in cell if not (item is None or item in ("", []) or str(item).isspace()))
        first = next(full, None)
        while isinstance(first, list) and first:
            first = first[0]
        return first

    def _of_list_text(self, text: str) -> str:
        """Join the items of a Python list of strings, printed as text: some published files contain such cells."""
        items = python_value(text)
        if not (isinstance(items, list) and all(isinstance(item, str) for item in items)):
            return text
        self._ledger.count("python_list_texts")
        return LIST_TEXT_SEPARATOR.join(item for item in items if item.strip())


class Columns:
    """The columns that make one text: one, several that are joined, or a template with names in braces.

    Args:
        choice: A name, a list of names, or a template: `"<think>{Complex_CoT}</think>{Response}"`.
        what: `question` or `answer`, for reasons.
        cells: Reads the cells.

    Attributes:
        names: The columns.
        template: Whether all of them must be filled.
    """

    def __init__(self, choice: str | Sequence[str], what: str, cells: CellReader) -> None:
        self._what = what
        self._cells = cells
        self._choice = choice
        listed = [choice] if isinstance(choice, str) else list(choice)
        self.template = isinstance(choice, str) and bool(fields_of(choice))
        self.names = fields_of(str(choice)) if self.template else listed

    def cell(self, values: Mapping[str, object]) -> object:
        """Return the only column's cell, ABSENT if there are several columns or it is absent."""
        return cell_of(values, self.names[0]) if len(self.names) == 1 and not self.template else ABSENT

    def text(self, values: Mapping[str, object]) -> str:
        """Return the text of a row.

        Raises:
            Broken: the columns are missing, or not text; a column of a template is empty.
        """
        if self.template:
            return self._filled(values)
        found = [cell for cell in (cell_of(values, name) for name in self.names) if cell is not ABSENT]
        if not found:
            raise Broken("missing_column")
        try:
            if len(self.names) > 1:
                return self._cells.joined(found)
            return self._cells.text(found[0], alone=self._what == "answer")
        except NotText:
            raise Broken(f"{self._what}_not_text") from None

    def _filled(self, values: Mapping[str, object]) -> str:
        def part(field: re.Match[str]) -> str:
            if field[1] is None:
                return field[0][0]
            return texts[field[1]]

        texts = {}
        for name in self.names:
            cell = cell_of(values, name)
            if cell is ABSENT:
                raise Broken("missing_column")
            try:
                texts[name] = _bare(self._cells.listed(cell))
            except NotText:
                raise Broken(f"{self._what}_not_text") from None
            if not texts[name]:
                raise Broken(f"empty_{self._what}", f"no {name}")
        return FIELD.sub(part, str(self._choice).replace("\\n", "\n"))


def _is_number(cell: object) -> bool:
    if isinstance(cell, float):
        return math.isfinite(cell)
    return isinstance(cell, int) and not isinstance(cell, bool)


def _bare(text: str) -> str:
    """Return a text without blanks at its ends; of several lines the first keeps its indentation."""
    stripped = text.strip()
    return text.strip("\r\n").rstrip() if "\n" in stripped else stripped


def fields_of(template: str) -> list[str]:
    """Return the columns that a template names, each once."""
    return list(dict.fromkeys(_fields(template)))


def _fields(template: str) -> Iterator[str]:
    return (field[1] for field in FIELD.finditer(template) if field[1] is not None)


def columns_of(corpus: CorpusConfig) -> tuple[str, ...]:
    """Return the columns in which a corpus's examples, or its text, are looked for; of `a.0.b` the first part too."""
    if corpus.task == "text":
        return (corpus.text,)
    names = [corpus.messages] if corpus.messages is not None else []
    for choice in () if names else (corpus.question, corpus.answer):
        for name in [choice] if isinstance(choice, str) else choice:
            names += fields_of(name) or [name]
    return tuple(dict.fromkeys(part for name in names for part in (name, name.partition(".")[0])))
