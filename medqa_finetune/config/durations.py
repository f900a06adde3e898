"""Durations as people type them: `11h`, `90m`, `1h30m`, `2d`."""

import re
from collections.abc import Iterator

from medqa_finetune.errors import Fault

UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([dhms])")
WHOLE = re.compile(rf"(?:{PART.pattern})+")
FORMS = ("11h", "90m", "1h30m", "45s", "null")


def seconds_of(text: str) -> float:
    """Return the seconds of a duration that `time_faults` accepts."""
    return sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))


def time_faults(key: str, value: str | None) -> Iterator[Fault]:
    """Yield a fault where a value is not a duration above 0."""
    if value is None or (WHOLE.fullmatch(value) and seconds_of(value) > 0):
        return
    yield Fault("wrong-value", "must be a duration above 0, with its unit", key=key, got=value, allowed=FORMS)
