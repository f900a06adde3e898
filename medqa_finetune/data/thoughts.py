"""Thoughts before an answer, `<think>…</think>`, as reasoning models write them."""

from collections.abc import Iterable

OPENING, CLOSING = "<think>", "</think>"


def has_thought(answers: Iterable[str]) -> bool:
    """Whether one of these answers holds a thought."""
    return any(CLOSING in answer for answer in answers)


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
