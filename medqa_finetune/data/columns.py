"""Converts raw rows to examples: finds question, answer, system prompt and history, and cleans them."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.cells import ABSENT, CellReader, Columns, NotText, cell_of
from medqa_finetune.data.clean import clean
from medqa_finetune.data.examples import Example, Turn
from medqa_finetune.data.messages import Broken, Dialogue, message_reader
from medqa_finetune.data.rows import Ledger, Reject, Row
from medqa_finetune.errors import DataError, Fault

logger = logging.getLogger(__name__)

# Number of rows after which a column that none of them has counts as missing.
ROWS_TO_FIND_COLUMNS = 1000
MAX_ID_CHARS = 200
COLUMNS_SHOWN = 20
COLUMN_CHARS_SHOWN = 40
NOTES_SHOWN = 2
# Settings that matter for lists of messages alone.
OF_CONVERSATIONS = (
    "message_keys",
    "user_names",
    "assistant_names",
    "system_names",
    "join_turns",
    "drop_last_question",
    "drop_first_answer",
)
# Columns of well-known forms, and what reads them.
PRESETS = {
    "conversations": "corpus=sharegpt reads conversations.",
    "messages": "corpus=messages reads messages.",
    "instruction": "corpus=alpaca reads instruction and output.",
}
# Rows may lack these columns, which the configuration names by default; a column that the user names must exist.
OPTIONAL = {"system": "system", "history": "history"}


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
        self._corpus = corpus
        self._cells = CellReader(corpus, ledger)
        self._question = self._columns_of("question", corpus.question)
        self._answer = self._columns_of("answer", corpus.answer)
        self._before = {key: name for key in OPTIONAL if (name := getattr(corpus, key)) not in (None, AUTO)}
        self._takes_system = corpus.system is not None
        self._messages = corpus.messages
        self._reader = message_reader(corpus, ledger.count)
        self._id = corpus.id
        self._group = corpus.group
        self._markup = corpus.clean_html
        self._least = (corpus.min_question_characters, corpus.min_answer_characters)
        self._question_prefix = _pattern("question_prefix", corpus.question_prefix, r"\A(?:{})")
        self._question_suffix = _pattern("question_suffix", corpus.question_suffix, r"(?:{})\Z")
        self._answer_prefix = _pattern("answer_prefix", corpus.answer_prefix, r"\A(?:{})")
        self._ledger = ledger
        self._ids: set[str] = set()
        self._names = dict.fromkeys([*self._question.names, *self._answer.names, *self._before.values()])
        self._names |= {} if self._group is None else {self._group: None}
        # Columns of context that this configuration does not name, until one is seen.
        self._unread = {name for name in OPTIONAL if name not in (*self._before, *self._before.values(), *self._names)}
        if not self._takes_system:
            self._unread.discard("system")
        if self._messages is not None:
            self._unread.discard("history")
        named = {key: {name} for key, name in self._before.items() if name != OPTIONAL[key]}
        named |= {} if self._group is None else {"group": {self._group}}
        required = {"question": set(self._question.names), "answer": set(self._answer.names)}
        self._unseen = ({"messages": {self._messages}} if self._messages is not None else required) | named
        # Several columns are joined, and all but one may be rare.
        self._joined = {"question": len(self._question.names), "answer": len(self._answer.names)}
        self._columns: dict[str, None] = {}
        self._notes: dict[str, None] = {}
        self._rows = 0

    def _columns_of(self, key: str, choice: object) -> Columns:
        listed = [choice] if isinstance(choice, str) else choice
        if not (isinstance(listed, Sequence) and listed and all(isinstance(name, str) and name for name in listed)):
            problem = "must be a column name, a list of them, or a template with column names in braces"
            raise DataError(Fault("wrong-type", problem, key=f"corpus.{key}", got=choice))
        return Columns(choice if isinstance(choice, str) else list(listed), key, self._cells)

    def build(self, row: Row) -> Example | Reject:
        """Return the row's cleaned example, or the reason why there is none.

        Raises:
            DataError: none of the first 1,000 rows has a configured column.
        """
        self._note(row)
        self._say_unread(row.values)
        try:
            values = self._cells.of_table(row.values, self._names) if row.of_table else row.values
            dialogue, group = self._dialogue(values), self._group_in(values)
        except Broken as fault:
            missing = fault.reason == "missing_column"
            excerpt = fault.what or (str(list(row.values)) if missing else repr(row.values))
            return Reject(row.where, fault.reason, excerpt)
        texts = [text for turn in dialogue.turns for text in turn]
        try:
            "".join([dialogue.system or "", group or "", *texts]).encode()
        except UnicodeEncodeError:
            return Reject(row.where, "lone_surrogate", "".join(texts))
        found = self._cleaned(row, dialogue.system, [self._unframed(*turn) for turn in dialogue.turns])
        return found if group is None or isinstance(found, Reject) else replace(found, group=group)

    def _say_unread(self, values: Mapping[str, object]) -> None:
        """Warn, once each, of a system prompt and of a history that no setting names."""
        for name in sorted(self._unread & values.keys()):
            if values[name] in (None, "", "[]", []):
                continue
            self._unread.discard(name)
            said = "%s: the column %s is not read; corpus.%s=%s reads it"
            logger.warning(said, self._corpus.name, name, name, name)

    def note(self, sentence: str) -> None:
        """Keep what a reader found out about a file, for the message that a column is missing."""
        self._notes[sentence] = None

    def check_columns(self, *, every: bool = True) -> None:
        """Refuse a corpus in which no row has a configured column.

        Args:
            every: Whether all rows have been read; before that, one of several question columns is enough, since the
                others may be rare.

        Raises:
            DataError: naming the key, the column and the columns found.
        """
        for key, names in self._unseen.items():
            enough = not every and len(names) < self._joined.get(key, 1)
            if self._rows and names and not enough:
                missing = sorted(names)
                got = missing[0] if len(missing) == 1 else missing
                fault = column_missing(f"corpus.{key}", got, self._columns, self._file)
                said = [*(PRESETS[name] for name in self._columns if name in PRESETS), *self._notes][:NOTES_SHOWN]
                raise DataError(fault.but(hint=" ".join([fault.hint, *said])))

    def check_settings(self) -> None:
        """Refuse settings of conversations where no row holds one.

        Raises:
            DataError: naming each such setting.
        """
        if self._reader.has_read:
            return
        usual = CorpusConfig()
        idle = [key for key in OF_CONVERSATIONS if getattr(self._corpus, key) != getattr(usual, key)]
        problem = "has no effect, since no row holds a list of messages"
        hint = "Name the column of messages by corpus.messages=COLUMN, or leave it out."
        if faults := [
            Fault("conflict", problem, key=f"corpus.{key}", got=getattr(self._corpus, key), file=self._file, hint=hint)
            for key in idle
        ]:
            raise DataError(*faults)

    def _note(self, row: Row) -> None:
        self._rows += 1
        if not any(self._unseen.values()):
            return
        self._columns.update(dict.fromkeys(row.values))
        for key, names in self._unseen.items():
            self._unseen[key] = {name for name in names if cell_of(row.values, name) is ABSENT}
        if self._rows == ROWS_TO_FIND_COLUMNS:
            self.check_columns(every=False)

    def _dialogue(self, values: Mapping[str, object]) -> Dialogue:
        """Return the dialogue in a row, not cleaned yet.

        Raises:
            Broken: the cells do not form a dialogue.
        """
        system = self._system(values)
        if self._messages is not None:
            cell = cell_of(values, self._messages)
            if cell is ABSENT:
                raise Broken("missing_column")
            found = self._reader.read(cell)
            return Dialogue(self._kept(found.system) or system, found.turns)
        if (asked := self._reader.messages_in(self._question.cell(values))) is not None:
            # A prompt of messages, as in TRL's form; the answer is a message as well, or its text.
            said = self._reader.messages_in(self._answer.cell(values))
            answer = said or [{"role": "assistant", "content": self._answer.text(values)}]
            found = self._reader.read([*asked, *answer])
            return Dialogue(self._kept(found.system) or system, found.turns)
        question = self._question.text(values)
        earlier = cell_of(values, self._before["history"]) if "history" in self._before else ABSENT
        history = () if earlier is ABSENT or self._cells.is_missing(earlier) else self._reader.read_history(earlier)
        return Dialogue(system, (*history, (question, self._answer.text(values))))

    def _kept(self, system: str | None) -> str | None:
        """Return a system prompt among messages, unless `corpus.system=null` leaves it out."""
        if system is None or self._takes_system:
            return system
        self._ledger.count("system_prompts_left_out")
        return None

    def _system(self, values: Mapping[str, object]) -> str:
        cell = cell_of(values, self._before["system"]) if "system" in self._before else ABSENT
        try:
            return "" if cell is ABSENT else self._cells.text(cell)
        except NotText:
            raise Broken("system_not_text") from None

    def _group_in(self, values: Mapping[str, object]) -> str | None:
        cell = ABSENT if self._group is None else cell_of(values, self._group)
        try:
            return None if cell is ABSENT else self._clean(self._cells.text(cell)) or None
        except NotText:
            raise Broken("group_not_text") from None

    def _unframed(self, question: str, answer: str) -> Turn:
        """Return a turn without the prefixes and the suffix that the corpus's configuration names."""
        question = self._question_suffix.sub("", self._question_prefix.sub("", question))
        return question, self._answer_prefix.sub("", answer)

    def _cleaned(self, row: Row, system: str | None, raw: list[Turn]) -> Example | Reject:
        turns = [(self._clean(asked), self._clean(said)) for asked, said in raw]
        # An empty answer is a short one.
        while self._least[1] > 1 and len(turns) > 1 and not turns[-1][1]:
            self._ledger.count("short_last_turns_dropped")
            turns.pop()
        raw = raw[: len(turns)]
        for name, text in zip(("question", "answer"), turns[-1], strict=True):
            if not text:
                return Reject(row.where, f"empty_{name}", "\t".join(raw[-1]))
        if not all(text for turn in turns for text in turn):
            return Reject(row.where, "empty_earlier_turn", repr(raw))
        while self._least != (1, 1) and self._too_short(turns[-1]):
            if len(turns) == 1:
                return Reject(row.where, f"short_{self._too_short(turns[-1])}", "\t".join(turns[-1]))
            self._ledger.count("short_last_turns_dropped")
            turns.pop()
        return Example(self._name(row), *turns[-1], self._clean(system) or None if system else None, tuple(turns[:-1]))

    def _too_short(self, turn: Turn) -> str:
        """Return which text of a turn is shorter than the settings allow, `question` or `answer`; empty if none is."""
        names = ("question", "answer")
        short = (name for name, text, least in zip(names, turn, self._least, strict=True) if len(text) < least)
        return next(short, "")

    def _clean(self, raw: str) -> str:
        text, changes = clean(raw, markup=self._markup)
        for name, n in changes.items():
            self._ledger.count(name, n)
        return text

    def _name(self, row: Row) -> str:
        """Return the row's own id if it is usable and not taken, else its place."""
        if self._id is None:
            return row.place
        value = cell_of(row.values, self._id)
        if value is ABSENT:
            return row.place
        if isinstance(value, int | str) and not isinstance(value, bool):
            name = str(value).strip()
            if name and len(name) <= MAX_ID_CHARS and name.isprintable() and name not in self._ids:
                self._ids.add(name)
                return name
        self._ledger.count("rows_named_after_their_place")
        return row.place


# A name of a column has no sentence's marks in it.
SENTENCE = re.compile(r"[，。？！；]|[?!]$|.{30}")
FIRST_LINE = "question,answer"


def column_missing(key: str, got: str | list[str], columns: Iterable[str], file: str | None) -> Fault:
    """Return the fault that no row has the columns that a key names.

    Args:
        key: `corpus.question` or the like.
        got: The names.
        columns: The columns found; a damaged file may have very many, very long or unprintable ones.
        file: File or folder of the corpus; None for the embedded one.
    """
    names = [ascii(name)[1:-1] if not name.isprintable() else name for name in columns]
    alike = [name for name in names if isinstance(got, str) and name.strip().lower() == got.lower()]
    # A file without a line of names: its first example is taken for one.
    no_names = not alike and len(names) > 1 and any(SENTENCE.search(name) for name in names)
    hint = f"Give {key}={alike[0] if len(alike) == 1 else 'COLUMN'}."
    if no_names:
        hint = f"The first row is read as names of columns; if it is an example, put this line before it: {FIRST_LINE}."
    of_many = f" (the first {COLUMNS_SHOWN} of {len(names):,} columns follow)" if len(names) > COLUMNS_SHOWN else ""
    return Fault(
        "column-missing",
        f"no row has such a column{of_many}" if names else "no row has any column",
        key=key,
        got=got,
        allowed=tuple(name[:COLUMN_CHARS_SHOWN] for name in names[:COLUMNS_SHOWN]),
        file=file,
        hint=hint,
    )


def _pattern(key: str, pattern: str | None, frame: str) -> re.Pattern[str]:
    try:
        # Without a pattern, the regex matches nothing.
        return re.compile(frame.format(pattern)) if pattern else re.compile(r"(?!)")
    except re.error as error:
        raise DataError(
            Fault("not-a-pattern", f"is not a regular expression ({error})", key=f"corpus.{key}", got=pattern)
        ) from None
