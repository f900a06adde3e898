"""Thoughts before an answer, `<think>…</think>`, as reasoning models write them."""

from collections.abc import Iterable
from dataclasses import dataclass

OPENING, CLOSING = "<think>", "</think>"


def has_thought(answers: Iterable[str]) -> bool:
    """Whether one of these answers holds a thought, not an empty one."""
    return any(split_thought(answer)[0] for answer in answers)


def is_unclosed(text: str) -> bool:
    """Whether an answer opens a thought and never closes it."""
    return CLOSING not in text and text.lstrip().startswith(OPENING)


def split_thought(text: str) -> tuple[str | None, str]:
    """Return the thought of an answer and what follows it; None for an answer without a closed thought.

    The thought ends at the first `</think>`; the prompt may have opened it already, so `<think>` may be missing.
    """
    thought, closing, answer = text.partition(CLOSING)
    if not closing:
        return None, text
    return thought.strip().removeprefix(OPENING).strip(), answer.strip()


@dataclass(frozen=True)
class GeneratedAnswer:
    """A generated text in its parts.

    Attributes:
        text: The answer, without special tokens and outer white space; empty after a thought that does not close.
        thought: The thought before it; None without one.
        unclosed: Whether it begins a thought and does not close it.
    """

    text: str
    thought: str | None = None
    unclosed: bool = False
