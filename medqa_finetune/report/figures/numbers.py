"""Formats numbers in charts so that their digits follow their magnitude."""

import math
from collections.abc import Callable, Iterable

# Above this, numbers are shortened: 12,345,678 takes the width of three bars' labels.
LONGEST = 1e6
TOO_SMALL = 1e-4
Formatter = Callable[[float], str]


def amount(value: float) -> str:
    """Format a number with about three significant digits: `1,234`, `22.5`, `1.27`, `0.0031`, `2.10M`, `3.0e-06`.

    Only zero itself is written as `0`.
    """
    size = abs(value)
    if not size:
        return "0"
    if size >= 1000 * LONGEST or size < TOO_SMALL:
        return f"{value:.1e}"
    if size >= LONGEST:
        return f"{value / 1e6:.{_digits(size / 1e6)}f}M"
    return f"{value:,.{_digits(size)}f}"


def tick(value: float) -> str:
    """Format a tick of an axis, whose locator has chosen a round number."""
    return f"{value:,.10g}" if TOO_SMALL <= abs(value) < LONGEST else amount(value)


def alike(values: Iterable[float], *, signed: bool = False) -> Formatter:
    """Return a formatter with the same number of decimal places for all values, which the largest one decides.

    A value that would be written as zero without being zero is written as `amount` does. NaN counts for nothing.
    """
    largest = max((abs(value) for value in values if not math.isnan(value)), default=0.0) or 1.0
    places = 2 if 0.1 <= largest < 100 else _digits(largest) + 1 if largest < 1 else _digits(largest * 0.1)
    plus = "+" if signed else ""

    def formatted(value: float) -> str:
        short = amount(value) if value and largest >= LONGEST else f"{value:{plus},.{places}f}"
        if value and not any(digit in short for digit in "123456789"):
            short = amount(value)
        if not value:
            return short.replace("+", "")
        return f"+{short}" if signed and value > 0 and not short.startswith("+") else short

    return formatted


def _digits(size: float) -> int:
    """Return decimal places for a positive number: two significant digits below 1, three from there on."""
    if size >= 1:
        return max(0, 2 - math.floor(math.log10(size)))
    return 1 - math.floor(math.log10(size))
