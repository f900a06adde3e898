"""Names of runs for a column of some width: those that are too long are cut so that no two of them look alike."""

import re
from collections.abc import Sequence

CUT = "…"
# Of a name that is cut, its beginning gets a third: the method and the data size stand there.
BEGINNING = 3


def short_names(names: Sequence[str], width: int) -> list[str]:
    """Return every name in at most `width` characters, different ones differently, in order.

    A name that is too long loses its middle. Those that would look alike then show the place where they part instead,
    or, where even that does not tell them apart, end in a number.

    Args:
        names: Of the rows of a table; equal ones stay equal.
        width: 8 at least.
    """
    shown = {name: _without_middle(name, width) for name in names}
    # Twice: of many that look alike, some may do so again, and part at another place.
    for _ in range(2):
        for alike in _alike(shown):
            begin, end = _shared(alike), _shared([name[::-1] for name in alike])
            shown |= {name: _around(name, begin, end, width) for name in alike}
    still = sorted(name for alike in _alike(shown) for name in alike)
    for number, name in enumerate(still, start=1):
        mark = f"{CUT}#{number}"
        shown[name] = shown[name][: width - len(mark)] + mark
    return [shown[name] for name in names]


def shared_settings(trained: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the `key=value` parts that all runs that train have in their names: they tell none from another.

    None is returned where names would be alike without them.

    Args:
        trained: Names of runs that train something.
        names: All names in the table.
    """
    parts = [name.split("__")[1:] for name in trained]
    shared = [part for part in parts[0] if "=" in part and all(part in own for own in parts)] if parts else []
    told_apart = len({without_settings(name, shared) for name in names}) == len(set(names))
    return shared if told_apart else []


def without_settings(text: str, settings: Sequence[str]) -> str:
    """Return a text, a name or sentences with names in them, with some `__key=value` left out of every name."""
    for setting in settings:
        text = re.sub(f"__{re.escape(setting)}(?=__|[^\\w.+=-]|[.]?$|[.]\\s)", "", text)
    return text


def _alike(shown: dict[str, str]) -> list[list[str]]:
    """Return the names, two at least each, that are shown as the same."""
    found: dict[str, list[str]] = {}
    for name, text in shown.items():
        found.setdefault(text, []).append(name)
    return [names for names in found.values() if len(names) > 1]


def _shared(names: list[str]) -> int:
    """Return how many characters names have in common at their beginning."""
    first, last = min(names), max(names)
    return next((at for at, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1), len(first))


def _without_middle(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    head = width // BEGINNING
    return name[:head] + CUT + name[len(name) - (width - head - len(CUT)) :]


def _around(name: str, begin: int, end: int, width: int) -> str:
    """Return the beginning of a name, and from where it parts from others (`begin`) to where they meet (`end`)."""
    head = min(width // BEGINNING, begin)
    room = width - head - 2 * len(CUT)
    stop = max(begin, len(name) - end)
    # What stands before says what it is that differs: `seed=` before the number.
    part = name[max(head, begin - max(0, room - (stop - begin))) : stop]
    return name[:head] + CUT + _without_middle(part, room) + CUT
