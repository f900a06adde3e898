"""From a raw row to a pair: which cells are the question and the answer, and what odd cells mean."""

import ast
import re
import warnings
from collections.abc import Iterable
from typing import Any

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.clean import clean
from medqa_finetune.data.ledger import Ledger, Reject
from medqa_finetune.data.pairs import Pair
from medqa_finetune.data.row import Row
from medqa_finetune.errors import DataError

ABSENT = object()
# Rows looked at before a column that none of them has is called missing.
ROWS_TO_FIND_COLUMNS = 1000
LIST_TEXT_CHARS = 100_000
LIST_TEXT_SEPARATOR = "、"
MAX_ID_CHARS = 200
COLUMNS_SHOWN = 20
COLUMN_CHARS_SHOWN = 40


class _NotText(Exception):  # noqa: N818 - never leaves this file
    """The cell holds a number, an object, or a list of such."""


class PairBuilder:
    """Makes pairs of rows, as the corpus's configuration says.

    Args:
        corpus: Which columns, prefixes and empty values.
        ledger: Takes counts of what was done to the cells.

    Raises:
        DataError: when a setting cannot be used.
    """

    def __init__(self, corpus: CorpusConfig, ledger: Ledger) -> None:
        self._question = _columns(corpus.question)
        self._answer = corpus.answer
        self._id = corpus.id
        self._empty = frozenset(corpus.empty_values)
        self._question_prefix = _pattern("question_prefix", corpus.question_prefix, r"\A(?:{})")
        self._question_suffix = _pattern("question_suffix", corpus.question_suffix, r"(?:{})\Z")
        self._answer_prefix = _pattern("answer_prefix", corpus.answer_prefix, r"\A(?:{})")
        self._ledger = ledger
        self._ids: set[str] = set()
        self._found_answer = False
        self._unseen_questions = set(self._question)
        self._columns: dict[str, None] = {}
        self._rows = 0

    def build(self, row: Row) -> Pair | Reject:
        """Return the row's pair, cleaned, or why there is none.

        Raises:
            DataError: when many rows have been seen and none had the column asked for.
        """
        self._note(row)
        parts = [part for part in (_cell(row.values, name) for name in self._question) if part is not ABSENT]
        answer_cell = _cell(row.values, self._answer)
        if not parts or answer_cell is ABSENT:
            return Reject(row.place, "missing_column", str(list(row.values)))
        name = "question"
        try:
            question = self._joined(parts)
            name = "answer"
            answer = self._text(answer_cell)
        except _NotText:
            return Reject(row.place, f"{name}_not_text", repr(row.values))
        try:
            question.encode()
            answer.encode()
        except UnicodeEncodeError:
            return Reject(row.place, "lone_surrogate", question + answer)
        question = self._question_suffix.sub("", self._question_prefix.sub("", question))
        return self._cleaned(row, question, self._answer_prefix.sub("", answer))

    def check_columns(self, where: str, *, every: bool = True) -> None:
        """Refuse a corpus of which no row had a column asked for.

        Args:
            where: Place for the message.
            every: Whether all rows have been seen; before that, one of several question columns is enough, since the
                others may be rare.

        Raises:
            DataError: naming the key, the column and the columns found.
        """
        questions = sorted(self._unseen_questions)
        unseen = {
            "question": questions if every or len(questions) == len(self._question) else [],
            "answer": [] if self._found_answer else [self._answer],
        }
        for key, names in unseen.items():
            if self._rows and names:
                wanted, columns = " or ".join(map(repr, names)), _listed(self._columns)
                raise DataError(f"{where}: no column {wanted}; found: {columns}.\nGive corpus.{key}=COLUMN.")

    def _note(self, row: Row) -> None:
        self._rows += 1
        if not self._unseen_questions and self._found_answer:
            return
        self._columns.update(dict.fromkeys(row.values))
        self._unseen_questions = {name for name in self._unseen_questions if _cell(row.values, name) is ABSENT}
        self._found_answer |= _cell(row.values, self._answer) is not ABSENT
        if self._rows == ROWS_TO_FIND_COLUMNS:
            self.check_columns(row.place, every=False)

    def _cleaned(self, row: Row, question: str, answer: str) -> Pair | Reject:
        texts = []
        for name, raw in (("question", question), ("answer", answer)):
            text, tokens = clean(raw)
            if len(text) < 2:
                reason = f"one_character_{name}" if text else f"empty_{name}"
                return Reject(row.place, reason, f"{question}\t{answer}")
            if tokens:
                self._ledger.count("chat_tokens_neutralised", tokens)
            texts.append(text)
        return Pair(self._name(row), *texts)

    def _name(self, row: Row) -> str:
        """Return the row's own id where it has a usable one that is new, else its place."""
        if self._id is None:
            return row.place
        value = _cell(row.values, self._id)
        if value is ABSENT:
            return row.place
        if isinstance(value, int | str) and not isinstance(value, bool):
            name = str(value).strip()
            if name and len(name) <= MAX_ID_CHARS and name.isprintable() and name not in self._ids:
                self._ids.add(name)
                return name
        self._ledger.count("rows_named_after_their_place")
        return row.place

    def _joined(self, cells: list[Any]) -> str:
        """Join the question's cells with line breaks; a cell that says nothing new is left out."""
        parts: list[str] = []
        for cell in cells:
            text = self._text(cell).strip()
            if text and text not in parts:
                parts.append(text)
        return "\n".join(parts)

    def _text(self, cell: Any) -> str:
        """Return a cell's text; empty where the cell means "nothing here".

        Raises:
            _NotText: when it holds something else than text.
        """
        if isinstance(cell, list):
            cell = self._of_list(cell)
        if cell is None:
            return ""
        if not isinstance(cell, str):
            raise _NotText
        # As Python prints it: a list in double quotes may well be what an answer about programming says.
        if cell.startswith("['") and cell.endswith("]"):
            cell = self._of_list_text(cell)
        return "" if cell.strip() in self._empty else cell

    def _of_list(self, cell: list[Any]) -> Any:
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
        """Turn the text of a Python list of strings, as some published files hold, into one sentence."""
        if len(text) > LIST_TEXT_CHARS:
            return text
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                items = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
        if not (isinstance(items, list) and all(isinstance(item, str) for item in items)):
            return text
        self._ledger.count("python_list_texts")
        return LIST_TEXT_SEPARATOR.join(item for item in items if item.strip())


def _columns(question: Any) -> list[str]:
    names = [question] if isinstance(question, str) else list(question or [])
    if not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"corpus.question={question!r}: a column name or a list of them is wanted.")
    return names


def _listed(columns: Iterable[str]) -> str:
    """Return column names for a message: a damaged file may have very many, very long or unprintable ones."""
    names = [ascii(name)[1:-1] if not name.isprintable() else name for name in columns]
    shown = ", ".join(name[:COLUMN_CHARS_SHOWN] for name in names[:COLUMNS_SHOWN]) or "none"
    return f"{shown}, … ({len(names):,} in all)" if len(names) > COLUMNS_SHOWN else shown


def _pattern(key: str, pattern: str | None, frame: str) -> re.Pattern[str]:
    try:
        # Without a pattern, one that matches nothing.
        return re.compile(frame.format(pattern)) if pattern else re.compile(r"(?!)")
    except re.error as error:
        raise DataError(f"corpus.{key}={pattern!r}: not a regular expression ({error}).") from None


def _cell(values: dict[str, Any], name: str) -> Any:
    """Return the cell of a column, or ABSENT; `a.0.b` goes into lists and objects where no column has that name."""
    if name in values:
        return values[name]
    cell: Any = values
    for part in name.split(".") if "." in name else ():
        if isinstance(cell, dict) and part in cell:
            cell = cell[part]
        elif isinstance(cell, list) and part.isdecimal() and len(part) < 10 and int(part) < len(cell):
            cell = cell[int(part)]
        else:
            return ABSENT
    return cell if "." in name else ABSENT
