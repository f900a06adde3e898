"""Checks of a single value: its range, or its allowed values."""

import math
from collections.abc import Iterator, Sequence

from medqa_finetune.config.schema_faults import unknown_value
from medqa_finetune.errors import Fault

# Resolved for the machine at start.
AUTO = "auto"
# Seeds of numpy have 32 bits; other integers are far smaller.
LARGEST = 2**32 - 1


def one_of(key: str, value: object, allowed: Sequence[str]) -> Iterator[Fault]:
    """Yield a fault where a value is not one of those allowed."""
    if value not in allowed:
        yield unknown_value(key, value, allowed)


def at_least(key: str, value: int, least: int) -> Iterator[Fault]:
    """Yield a fault where an integer is not in [`least`, `LARGEST`]."""
    if not least <= value <= LARGEST:
        bound = f"≥ {least}" if value < least else f"≤ {LARGEST}"
        yield Fault("out-of-range", f"must be an integer {bound}", key=key, got=value)


def auto_or_at_least(key: str, value: object, least: int) -> Iterator[Fault]:
    """Yield a fault where a value is neither `auto` nor an integer in [`least`, `LARGEST`]."""
    if isinstance(value, int) and not isinstance(value, bool):
        yield from at_least(key, value, least)
    elif value != AUTO:
        yield Fault("wrong-type", f"must be {AUTO} or an integer ≥ {least}", key=key, got=value)


def above_zero(key: str, value: float) -> Iterator[Fault]:
    """Yield a fault where a number is not finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        yield Fault("out-of-range", "must be a finite number > 0", key=key, got=value)


def not_negative(key: str, value: float) -> Iterator[Fault]:
    """Yield a fault where a number is not finite and ≥ 0."""
    if not (math.isfinite(value) and value >= 0):
        yield Fault("out-of-range", "must be a finite number ≥ 0", key=key, got=value)


def integer_between(key: str, value: int, low: int, high: int) -> Iterator[Fault]:
    """Yield a fault where an integer is not in [low, high]."""
    if not low <= value <= high:
        yield Fault("out-of-range", f"must be an integer from {low} to {high}", key=key, got=value)


def between(key: str, value: float, low: float, high: float, *, closed: bool = False) -> Iterator[Fault]:
    """Yield a fault where a number is not in [low, high), or, `closed`, not in [low, high]."""
    inside = low <= value <= high if closed else low <= value < high
    if not inside:
        yield Fault("out-of-range", f"must be a number ≥ {low} and {'≤' if closed else '<'} {high}", key=key, got=value)


def share(key: str, value: float) -> Iterator[Fault]:
    """Yield a fault where a number is not in (0, 1]."""
    if not 0 < value <= 1:
        yield Fault("out-of-range", "must be a number > 0 and ≤ 1", key=key, got=value)


def check_temperature(key: str, value: float) -> Iterator[Fault]:
    """Yield a fault where a sampling temperature is not in [0, 100]."""
    yield from between(key, value, 0, 100, closed=True)


def sampling_faults(temperature: float, top_p: float, max_new_tokens: int) -> Iterator[Fault]:
    """Yield faults of the sampling settings of an answer."""
    yield from check_temperature("temperature", temperature)
    yield from share("top_p", top_p)
    yield from at_least("max_new_tokens", max_new_tokens, 1)
