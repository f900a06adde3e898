"""A pair: one question with its answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """One question with its answer.

    Attributes:
        id: Stable name of the pair inside its corpus, e.g. the row's own id or `file.jsonl:17`.
        question: What the user asks; cleaned, never empty.
        answer: The reference answer; cleaned, never empty.
    """

    id: str
    question: str
    answer: str
