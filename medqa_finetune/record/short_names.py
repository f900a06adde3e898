"""Names of runs cut to the width of a column, so that no two of them become equal."""

import re
from collections.abc import Sequence

CUT = "…"
# A cut name keeps a third for its beginning, which has the method and the data size.
BEGINNING = 3


def short_names(names: Sequence[str], width: int) -> list[str]:
    """Return every name in at most `width` characters; distinct names stay distinct, and the order stays.

    The middle of a long name is cut. Names that would become equal show the part where they differ instead, or, if they
    still are equal, end in a number.

    Args:
        names: Names of the rows of a table; equal ones stay equal.
        width: At least 8.
    """
    shown = {name: _without_middle(name, width) for name in names}
    # Twice: names may still be equal after the first pass, and differ elsewhere.
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
    """Return the `key=value` parts in the names of all runs that train, which do not distinguish these runs.

    Empty where names would be equal without them.

    Args:
        trained: Names of runs that train something.
        names: All names in the table.
    """
    parts = [name.split("__")[1:] for name in trained]
    shared = [part for part in parts[0] if "=" in part and all(part in own for own in parts)] if parts else []
    told_apart = len({without_settings(name, shared) for name in names}) == len(set(names))
    return shared if told_apart else []


def without_settings(text: str, settings: Sequence[str]) -> str:
    """Return a name, or sentences with names in them, with these `__key=value` parts removed from every name."""
    for setting in settings:
        text = re.sub(f"__{re.escape(setting)}(?=__|[^\\w.+=-]|[.]?$|[.]\\s)", "", text)
    return text


def _alike(shown: dict[str, str]) -> list[list[str]]:
    """Return groups of two or more names that are shown as the same."""
    found: dict[str, list[str]] = {}
    for name, text in shown.items():
        found.setdefault(text, []).append(name)
    return [names for names in found.values() if len(names) > 1]


def _shared(names: list[str]) -> int:
    """Return the length of the names' common beginning."""
    first, last = min(names), max(names)
    return next((at for at, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1), len(first))


def _without_middle(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    head = width // BEGINNING
    return name[:head] + CUT + name[len(name) - (width - head - len(CUT)) :]


def _around(name: str, begin: int, end: int, width: int) -> str:
    """Return a name's beginning, and the part where it differs from others (`begin`, and `end` from its end)."""
    head = min(width // BEGINNING, begin)
    room = width - head - 2 * len(CUT)
    stop = max(begin, len(name) - end)
    # Includes the text before the difference, which names the setting: `seed=` before the number.
    part = name[max(head, begin - max(0, room - (stop - begin))) : stop]
    return name[:head] + CUT + _without_middle(part, room) + CUT
