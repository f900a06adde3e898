"""Raw rows, rejected rows, and the ledger of a corpus: counts, and every reject with its place and reason."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from medqa_finetune.data.messages import SPEAKER_KEYS, SPEAKERS, TEXT_KEYS
from medqa_finetune.errors import DataError, Fault


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a corpus file, as its reader yields it.

    Attributes:
        place: `file:line` or `file[index]`: the default id of the row's example.
        values: Column name to value.
        line: `file:line` if `place` is an index; empty for files without lines.
        of_table: Whether it is of CSV, where every value is text.
    """

    place: str
    values: Mapping[str, object]
    line: str = ""
    of_table: bool = False

    @property
    def where(self) -> str:
        """Where to look for the row, for messages."""
        return self.line or self.place


EXCERPT_CHARS = 200
EXAMPLES_IN_MESSAGE = 2

# What can be set where a corpus is refused for a reason.
REMEDIES = {
    "unknown_speaker": f"known speakers are {', '.join(SPEAKERS)}; corpus.user_names=['NAME'], "
    "corpus.assistant_names=['NAME'] and corpus.system_names=['NAME'] add others",
    "not_a_message": f"a message has its speaker under {', '.join(SPEAKER_KEYS)} and its text under "
    f"{', '.join(TEXT_KEYS)}; corpus.message_keys=[SPEAKER,TEXT] names other keys",
    "one_speaks_twice_running": "corpus.join_turns=true joins what one says in succession",
    "user_has_the_last_word": "corpus.drop_last_question=true drops a last question without an answer",
    "user_does_not_begin": "corpus.drop_first_answer=true drops what the assistant says before the first question",
    "message_not_text": "a message must have text; calls of tools are not trained on",
    "broken_json": "corpus.format=auto reads a file of another format by its name",
    "broken_csv": 'close the quote, or write "" for one that is text',
    "part_not_text": "only parts of text can be trained on",
    "short_question": "corpus.min_question_characters sets the least length",
    "short_answer": "corpus.min_answer_characters sets the least length",
    "empty_answer": "a column that may be empty can stand in a list, corpus.answer=[A,B], but not in a template",
}


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be used.

    Attributes:
        place: `file:line`, or `file[index]` in files without lines.
        reason: Short name from a fixed list, e.g. `broken_json`, `empty_answer`.
        excerpt: Beginning of the row, or what is wrong with it.
        columns: The columns of a row that lacks the configured one.
    """

    place: str
    reason: str
    excerpt: str
    columns: tuple[str, ...] = ()


class Ledger:
    """Counts what reading a corpus finds, and writes its rejects to a file as they occur.

    Args:
        rejects: Binary file for JSON Lines, one reject a line; None keeps only the counts.
    """

    def __init__(self, rejects: BinaryIO | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: list[Reject] = []
        self._rejects = rejects

    def count(self, name: str, n: int = 1) -> None:
        """Add `n` to the count of this name."""
        self.counts[name] += n

    def reject(self, reject: Reject) -> None:
        """Count a reject, keep the first few for messages, and write it to the file."""
        self.counts[f"rejected_{reject.reason}"] += 1
        if len(self.examples) < EXAMPLES_IN_MESSAGE:
            self.examples.append(reject)
        if self._rejects is not None:
            row = {"place": reject.place, "reason": reject.reason, "excerpt": excerpt_of(reject.excerpt)}
            self._rejects.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))

    @property
    def broken(self) -> int:
        """Number of rows that could not be used."""
        return sum(n for name, n in self.counts.items() if name.startswith("rejected_"))

    def _reasons(self) -> list[tuple[int, str]]:
        found = [(n, name.removeprefix("rejected_")) for name, n in self.counts.items() if name.startswith("rejected_")]
        return sorted(found, reverse=True)

    def reasons(self) -> str:
        """Return the most frequent reason of rejects and the first reject, for messages; empty without rejects."""
        if not self.examples:
            return ""
        (n, reason), first = self._reasons()[0], self.examples[0]
        return f" ({reason} {n:,}; first: {first.place} {first.reason}: {excerpt_of(first.excerpt)[:60]!r})"

    def check_share(self, file: str | None, max_share: float) -> None:
        """Check that a corpus has not too many rejects.

        Args:
            file: File or folder of the corpus; None for the embedded one.
            max_share: `corpus.max_reject_share`, in [0, 1].

        Raises:
            DataError: more than `max_share` of the rows are rejected; contains the counts per reason.
        """
        rows, broken = self.counts["rows"], self.broken
        if broken <= max_share * rows:
            return
        reasons = self._reasons()
        listed = ", ".join(f"{name} {n:,}" for n, name in reasons)
        remedies = [REMEDIES[name] for _, name in reasons[:1] if name in REMEDIES]
        examples = "; ".join(f"{e.place} {e.reason}: {excerpt_of(e.excerpt)[:60]!r}" for e in self.examples)
        raise DataError(
            Fault(
                "too-many-rejects",
                f"allows {int(max_share * rows):,} unusable rows, and {broken:,} of {rows:,} rows cannot be used "
                f"({listed}); first: {examples}",
                key="corpus.max_reject_share",
                got=max_share,
                file=file,
                hint="; ".join(["Repair the file, or raise corpus.max_reject_share", *remedies]) + ".",
            )
        )


def excerpt_of(value: object) -> str:
    """Return the beginning of a row, escaped so that it can be written as UTF-8."""
    text = value if isinstance(value, str) else repr(value)
    return text[:EXCERPT_CHARS].strip().encode("utf-8", "backslashreplace").decode("utf-8")
