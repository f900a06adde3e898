"""Marks in texts: patterns that find control tokens and thoughts, what makes a mark plain text, where texts differ."""

import re
from collections.abc import Sequence


def any_of(texts: set[str]) -> re.Pattern[str]:
    """Return a pattern of these texts, of which longer ones match first; of no text if there are none."""
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) or r"(?!)")


def spread(mark: str) -> re.Pattern[str]:
    """Return a pattern of a mark with any white space inside, which tokenizers with `▁` decode after tokens."""
    return re.compile(r"\s*" + r"\s*".join(re.escape(character) for character in "".join(mark.split())))


def spaced(mark: str) -> str:
    """Return a mark with spaces inside, so that it is plain text."""
    return f"{mark[0]} {mark[1:-1]} {mark[-1]}" if len(mark) > 2 else " ".join(mark) if len(mark) == 2 else " "


def common_length(first: Sequence[object], second: Sequence[object]) -> int:
    """Return the length of the longest common beginning of two texts, or of two lists of ids."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
