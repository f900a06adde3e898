"""Converts raw rows to examples: finds question, answer, system prompt and history, and interprets odd cells."""

import ast
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.clean import clean
from medqa_finetune.data.examples import Example, Turn
from medqa_finetune.data.rows import Ledger, Reject, Row
from medqa_finetune.errors import DataError, Fault

ABSENT = object()
# Number of rows after which a column that none of them has counts as missing.
ROWS_TO_FIND_COLUMNS = 1000
LIST_TEXT_CHARS = 100_000
LIST_TEXT_SEPARATOR = "、"
MAX_ID_CHARS = 200
COLUMNS_SHOWN = 20
COLUMN_CHARS_SHOWN = 40
# Rows may lack these columns, which the configuration names by default; a column that the user names must exist.
OPTIONAL = {"system": "system", "history": "history"}
USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
# Role names of OpenAI's and ShareGPT's formats.
SPEAKERS = {"user": USER, "human": USER, "assistant": ASSISTANT, "gpt": ASSISTANT, "system": SYSTEM}
FORMS = (("role", "content"), ("from", "value"))


class Broken(Exception):  # noqa: N818 - it names a reason
    """The cells do not form a dialogue.

    Attributes:
        reason: Short name for the ledger.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Dialogue:
    """At least one question with its answer, and the system prompt if there is one; not cleaned yet."""

    system: str | None
    turns: tuple[Turn, ...]


def read_messages(cell: object) -> Dialogue:
    """Return the dialogue in a list of messages, `{"role", "content"}` or `{"from", "value"}`.

    Raises:
        Broken: not such a list, an unknown role, a system prompt that is not first, a dialogue that the user does not
            begin or the assistant does not end, or two messages of one role in succession.
    """
    if not isinstance(cell, list):
        raise Broken("messages_not_a_list")
    if not cell:
        raise Broken("empty_conversation")
    messages = [_message(message) for message in cell]
    system = messages.pop(0)[1] if messages[0][0] == SYSTEM else None
    speakers = [speaker for speaker, _ in messages]
    if SYSTEM in speakers:
        raise Broken("system_prompt_not_first")
    if not messages:
        raise Broken("empty_conversation")
    if speakers[0] != USER:
        raise Broken("user_does_not_begin")
    if any(one == other for one, other in pairwise(speakers)):
        raise Broken("one_speaks_twice_running")
    if speakers[-1] != ASSISTANT:
        raise Broken("user_has_the_last_word")
    texts = [text for _, text in messages]
    return Dialogue(system, tuple(zip(texts[::2], texts[1::2], strict=True)))


def read_history(cell: object) -> tuple[Turn, ...]:
    """Return the earlier turns in a list of `[question, answer]`; none for an empty cell.

    Raises:
        Broken: not such a list.
    """
    if cell is None or cell in ("", []):
        return ()
    if not isinstance(cell, list):
        raise Broken("history_not_turns")
    return tuple(_turn(turn) for turn in cell)


def _turn(turn: object) -> Turn:
    if not (isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
        raise Broken("history_not_turns")
    return turn[0], turn[1]


def _message(message: object) -> tuple[str, str]:
    if isinstance(message, dict):
        for speaker_key, text_key in FORMS:
            if speaker_key in message and text_key in message:
                return _speaker(message[speaker_key]), _text(message[text_key])
    raise Broken("not_a_message")


def _speaker(name: object) -> str:
    known = SPEAKERS.get(name.strip().lower()) if isinstance(name, str) else None
    if known is None:
        raise Broken("unknown_speaker")
    return known


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise Broken("message_not_text")
    return text


class _NotText(Exception):  # noqa: N818 - never leaves this file
    """The cell is a number, an object, or a list of those."""


class ExampleBuilder:
    """Builds examples from rows according to the configuration of the corpus.

    Args:
        corpus: Configuration: columns, prefixes, empty values.
        ledger: Counts what was done to the cells.
        file: File or folder of the corpus, for faults; None for the embedded one.

    Raises:
        DataError: a setting cannot be used.
    """

    def __init__(self, corpus: CorpusConfig, ledger: Ledger, file: str | None = None) -> None:
        self._file = file
        self._question = _columns(corpus.question)
        self._answer = corpus.answer
        self._before = {key: name for key in OPTIONAL if (name := getattr(corpus, key)) is not None}
        self._messages = corpus.messages
        self._id = corpus.id
        self._empty = frozenset(corpus.empty_values)
        self._question_prefix = _pattern("question_prefix", corpus.question_prefix, r"\A(?:{})")
        self._question_suffix = _pattern("question_suffix", corpus.question_suffix, r"(?:{})\Z")
        self._answer_prefix = _pattern("answer_prefix", corpus.answer_prefix, r"\A(?:{})")
        self._ledger = ledger
        self._ids: set[str] = set()
        named = {key: {name} for key, name in self._before.items() if name != OPTIONAL[key]}
        required = {"question": set(self._question), "answer": {self._answer}}
        self._unseen = ({"messages": {self._messages}} if self._messages is not None else required) | named
        self._columns: dict[str, None] = {}
        self._rows = 0

    def build(self, row: Row) -> Example | Reject:
        """Return the row's cleaned example, or the reason why there is none.

        Raises:
            DataError: none of the first 1,000 rows has a configured column.
        """
        self._note(row)
        try:
            dialogue = self._dialogue(row.values)
        except Broken as fault:
            missing = fault.reason == "missing_column"
            return Reject(row.where, fault.reason, str(list(row.values)) if missing else repr(row.values))
        texts = [text for turn in dialogue.turns for text in turn]
        try:
            "".join([dialogue.system or "", *texts]).encode()
        except UnicodeEncodeError:
            return Reject(row.where, "lone_surrogate", "".join(texts))
        return self._cleaned(row, dialogue.system, [self._unframed(*turn) for turn in dialogue.turns])

    def check_columns(self, *, every: bool = True) -> None:
        """Refuse a corpus in which no row has a configured column.

        Args:
            every: Whether all rows have been read; before that, one of several question columns is enough, since the
                others may be rare.

        Raises:
            DataError: naming the key, the column and the columns found.
        """
        for key, names in self._unseen.items():
            enough = not every and key == "question" and len(names) < len(self._question)
            if self._rows and names and not enough:
                missing = sorted(names)
                got = missing[0] if len(missing) == 1 else missing
                raise DataError(column_missing(f"corpus.{key}", got, self._columns, self._file))

    def _note(self, row: Row) -> None:
        self._rows += 1
        if not any(self._unseen.values()):
            return
        self._columns.update(dict.fromkeys(row.values))
        for key, names in self._unseen.items():
            self._unseen[key] = {name for name in names if _cell(row.values, name) is ABSENT}
        if self._rows == ROWS_TO_FIND_COLUMNS:
            self.check_columns(every=False)

    def _dialogue(self, values: Mapping[str, object]) -> Dialogue:
        """Return the dialogue in a row, not cleaned yet.

        Raises:
            Broken: the cells do not form a dialogue.
        """
        system = self._speech("system", _cell(values, self._before["system"])) if "system" in self._before else ""
        if self._messages is not None:
            cell = _cell(values, self._messages)
            if cell is ABSENT:
                raise Broken("missing_column")
            found = read_messages(cell)
            return Dialogue(found.system or system, found.turns)
        parts = [part for part in (_cell(values, name) for name in self._question) if part is not ABSENT]
        answer = _cell(values, self._answer)
        if not parts or answer is ABSENT:
            raise Broken("missing_column")
        try:
            question = self._joined(parts)
        except _NotText:
            raise Broken("question_not_text") from None
        earlier = _cell(values, self._before["history"]) if "history" in self._before else ABSENT
        history = () if earlier is ABSENT else read_history(earlier)
        return Dialogue(system, (*history, (question, self._speech("answer", answer))))

    def _speech(self, name: str, cell: object) -> str:
        try:
            return "" if cell is ABSENT else self._text(cell)
        except _NotText:
            raise Broken(f"{name}_not_text") from None

    def _unframed(self, question: str, answer: str) -> Turn:
        """Return a turn without the prefixes and the suffix that the corpus's configuration names."""
        question = self._question_suffix.sub("", self._question_prefix.sub("", question))
        return question, self._answer_prefix.sub("", answer)

    def _cleaned(self, row: Row, system: str | None, turns: list[Turn]) -> Example | Reject:
        texts = []
        question, answer = turns[-1]
        for name, raw in (("question", question), ("answer", answer)):
            text = self._clean(raw)
            if len(text) < 2:
                reason = f"one_character_{name}" if text else f"empty_{name}"
                return Reject(row.where, reason, f"{question}\t{answer}")
            texts.append(text)
        history = tuple((self._clean(asked), self._clean(said)) for asked, said in turns[:-1])
        if not all(text for turn in history for text in turn):
            return Reject(row.where, "empty_earlier_turn", repr(turns))
        return Example(self._name(row), texts[0], texts[1], self._clean(system or "") or None, history)

    def _clean(self, raw: str) -> str:
        text, tokens = clean(raw)
        if tokens:
            self._ledger.count("chat_tokens_neutralised", tokens)
        return text

    def _name(self, row: Row) -> str:
        """Return the row's own id if it is usable and not taken, else its place."""
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

    def _joined(self, cells: list[object]) -> str:
        """Join the question's cells with line breaks, without empty and repeated ones."""
        parts: list[str] = []
        for cell in cells:
            text = self._text(cell).strip()
            if text and text not in parts:
                parts.append(text)
        return "\n".join(parts)

    def _text(self, cell: object) -> str:
        """Return a cell's text, empty for a value that stands for a missing one.

        Raises:
            _NotText: the cell is not text.
        """
        if isinstance(cell, list):
            cell = self._of_list(cell)
        if cell is None:
            return ""
        if not isinstance(cell, str):
            raise _NotText
        # Python's notation only: a list in double quotes may be part of an answer about programming.
        if cell.startswith("['") and cell.endswith("]"):
            cell = self._of_list_text(cell)
        return "" if cell.strip() in self._empty else cell

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
        if len(text) > LIST_TEXT_CHARS:
            return text
        try:
            with warnings.catch_warnings():
                # Escapes such as \d in the data warn: a DeprecationWarning until Python 3.11.
                warnings.simplefilter("ignore")
                items = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
        if not (isinstance(items, list) and all(isinstance(item, str) for item in items)):
            return text
        self._ledger.count("python_list_texts")
        return LIST_TEXT_SEPARATOR.join(item for item in items if item.strip())


def _columns(question: object) -> list[str]:
    names = [question] if isinstance(question, str) else list(question) if isinstance(question, list) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(
            Fault("wrong-type", "must be a column name or a list of them", key="corpus.question", got=question)
        )
    return names


def column_missing(key: str, got: str | list[str], columns: Iterable[str], file: str | None) -> Fault:
    """Return the fault that no row has the columns that a key names.

    Args:
        key: `corpus.question` or the like.
        got: The names.
        columns: The columns found; a damaged file may have very many, very long or unprintable ones.
        file: File or folder of the corpus; None for the embedded one.
    """
    names = [ascii(name)[1:-1] if not name.isprintable() else name for name in columns]
    of_many = f" (the first {COLUMNS_SHOWN} of {len(names):,} columns follow)" if len(names) > COLUMNS_SHOWN else ""
    return Fault(
        "column-missing",
        f"no row has such a column{of_many}" if names else "no row has any column",
        key=key,
        got=got,
        allowed=tuple(name[:COLUMN_CHARS_SHOWN] for name in names[:COLUMNS_SHOWN]),
        file=file,
        hint=f"Give {key}=COLUMN.",
    )


def _pattern(key: str, pattern: str | None, frame: str) -> re.Pattern[str]:
    try:
        # Without a pattern, the regex matches nothing.
        return re.compile(frame.format(pattern)) if pattern else re.compile(r"(?!)")
    except re.error as error:
        raise DataError(
            Fault("not-a-pattern", f"is not a regular expression ({error})", key=f"corpus.{key}", got=pattern)
        ) from None


def _cell(values: Mapping[str, object], name: str) -> object:
    """Return the cell of a column, or ABSENT; `a.0.b` indexes into lists and objects if no column has that name."""
    if name in values:
        return values[name]
    cell: object = values
    for part in name.split(".") if "." in name else ():
        if isinstance(cell, dict) and part in cell:
            cell = cell[part]
        elif isinstance(cell, list) and part.isdecimal() and len(part) < 10 and int(part) < len(cell):
            cell = cell[int(part)]
        else:
            return ABSENT
    return cell if "." in name else ABSENT
