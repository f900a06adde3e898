"""Checks of one value: its range, or that it is one of a few."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

# What stands for a choice that depends on the machine.
AUTO = "auto"
# Seeds of numpy have 32 bits; no other whole number here comes near.
LARGEST = 2**32 - 1


def one_of(key: str, value: Any, allowed: Sequence[str]) -> Iterator[str]:
    """Yield a fault where a value is none of those allowed."""
    if value not in allowed:
        yield f"{key}={value}: allowed are {', '.join(allowed)}."


def at_least(key: str, value: int, least: int) -> Iterator[str]:
    """Yield a fault where a whole number is below `least`, or larger than any that is meant."""
    if value < least:
        yield f"{key}={value}: a whole number of at least {least} is wanted."
    elif value > LARGEST:
        yield f"{key}={value}: a whole number of at most {LARGEST} is wanted."


def above_zero(key: str, value: float) -> Iterator[str]:
    """Yield a fault where a number is not above 0 and finite."""
    if not (math.isfinite(value) and value > 0):
        yield f"{key}={value}: a number above 0 is wanted."


def between(key: str, value: float, low: float, high: float, *, closed: bool = False) -> Iterator[str]:
    """Yield a fault where a number is not in [low, high), or, `closed`, not in [low, high]."""
    inside = low <= value <= high if closed else low <= value < high
    if not inside:
        bound = "at most" if closed else "below"
        yield f"{key}={value}: a number of at least {low} and {bound} {high} is wanted."
