"""A raw row, as every reader gives it."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, BinaryIO

from medqa_finetune.errors import DataError, Fault


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a corpus file, before anything of it is chosen or cleaned.

    Attributes:
        place: `file:line` or `file[index]`, the row's name.
        values: Column name to value.
        line: `file:line` where the name does not say it; empty where nothing has lines.
    """

    place: str
    values: dict[str, Any]
    line: str = ""

    @property
    def where(self) -> str:
        """Return where to look for the row, for messages."""
        return self.line or self.place


EXCERPT_CHARS = 200
EXAMPLES_IN_MESSAGE = 2

# Rows that are intact but worth nothing to a model: dropped and counted, and no sign that the file is damaged.
CLEANING_REASONS = ("one_character_question", "one_character_answer")


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that gives no pair.

    Attributes:
        place: `file:line`, or `file[index]` in files without lines.
        reason: A short name from a fixed list, e.g. `broken_json`, `empty_answer`.
        excerpt: The row's beginning, or what is wrong with it.
        columns: Those that the row has, where the one asked for is missing.
    """

    place: str
    reason: str
    excerpt: str
    columns: tuple[str, ...] = ()


class Ledger:
    """Counts of what a corpus held, and its rejects, written to a file as they come.

    Args:
        rejects: Binary file that takes one JSON object a reject; None keeps only the counts.
    """

    def __init__(self, rejects: BinaryIO | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: list[Reject] = []
        self._rejects = rejects

    def count(self, name: str, n: int = 1) -> None:
        """Add `n` to a count."""
        self.counts[name] += n

    def reject(self, reject: Reject) -> None:
        """Count a reject, keep the first few as examples, and write it down."""
        if reject.reason in CLEANING_REASONS:
            self.counts[f"dropped_{reject.reason}"] += 1
        else:
            self.counts[f"rejected_{reject.reason}"] += 1
            if len(self.examples) < EXAMPLES_IN_MESSAGE:
                self.examples.append(reject)
        if self._rejects is not None:
            row = {"place": reject.place, "reason": reject.reason, "excerpt": excerpt_of(reject.excerpt)}
            self._rejects.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))

    @property
    def broken(self) -> int:
        """Rows that could not be used, cleaning drops not counted."""
        return sum(n for name, n in self.counts.items() if name.startswith("rejected_"))

    def check_share(self, file: str | None, max_share: float) -> None:
        """Refuse a corpus of which too much is broken.

        Args:
            file: Where the corpus is; None for the embedded one.
            max_share: In [0, 1]: `corpus.max_reject_share`.

        Raises:
            DataError: when more than `max_share` of the rows read were rejected; with the counts per reason.
        """
        rows, broken = self.counts["rows"], self.broken
        if broken <= max_share * rows:
            return
        reasons = [
            (n, name.removeprefix("rejected_")) for name, n in self.counts.items() if name.startswith("rejected_")
        ]
        listed = ", ".join(f"{name} {n:,}" for n, name in sorted(reasons, reverse=True))
        examples = "; ".join(f"{e.place} {e.reason}: {excerpt_of(e.excerpt)[:60]!r}" for e in self.examples)
        raise DataError(Fault(
            "too-many-rejects",
            f"allows {int(max_share * rows):,} unusable rows, and {broken:,} of {rows:,} rows cannot be used "
            f"({listed}); first: {examples}",
            key="corpus.max_reject_share", got=max_share, file=file,
            hint="Repair the file, or raise corpus.max_reject_share.",
        ))  # fmt: skip


def excerpt_of(value: Any) -> str:
    """Return the beginning of a row as text that can always be written as UTF-8."""
    text = value if isinstance(value, str) else repr(value)
    return text[:EXCERPT_CHARS].strip().encode("utf-8", "backslashreplace").decode("utf-8")
