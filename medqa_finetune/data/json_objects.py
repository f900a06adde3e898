"""Reads rows of a file that is one JSON object: a list in it, an object of rows by key, or columns."""

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from medqa_finetune.data.charset import read_text
from medqa_finetune.data.rows import Reject, Row
from medqa_finetune.errors import DataError, Fault

logger = logging.getLogger(__name__)

# The whole object is read into memory, at several times its length.
MAX_OBJECT_CHARS = 1 << 28
# A first line up to this length tells JSON Lines from an object.
FIRST_LINE_CHARS = 1 << 20
# Objects within objects in which rows are looked for.
LEVELS = 4
# An object with more objects than this keeps rows by their keys, and is no wrapping of lists.
WRAPPED = 10
WHOLE = "."
NAMES_SHOWN = 10

Objects = list[object] | dict[str, object]


class _Repeated(dict[str, object]):
    """An object that has a key twice."""


def _with_repeats(items: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(items)
    return values if len(values) == len(items) else _Repeated(values)


def read_object(path: Path, encoding: str) -> dict[str, object] | None:
    """Return the JSON object that a whole file is; None if it is something else, such as JSON Lines, or too large."""
    pieces: list[str] = []
    length = 0
    for text in read_text(path, encoding):
        if not pieces and not text.lstrip().startswith("{"):
            return None
        pieces.append(text)
        length += len(text)
        if len(pieces) == 1 and _is_row(text):
            return None
        if length > MAX_OBJECT_CHARS:
            return None
    try:
        found: object = json.loads("".join(pieces), object_pairs_hook=_with_repeats)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_row(text: str) -> bool:
    """Return whether the first line of a file is a whole JSON value, with more lines after it."""
    line, _, rest = text.lstrip()[:FIRST_LINE_CHARS].partition("\n")
    if not rest.strip():
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def holds_rows(values: Mapping[str, object], columns: Collection[str]) -> bool:
    """Return whether an object is no row itself, by its columns, but has rows in it."""
    if _columns(values, columns) is not None:
        return True
    return not any(name in values for name in columns) and bool(_table(values) or _candidates(values))


def object_rows(
    values: Mapping[str, object], name: str, rows: str | None, columns: Collection[str]
) -> Iterator[Row | Reject]:
    """Yield the rows in a JSON object.

    Args:
        values: The object.
        name: Name of the file, for places and messages.
        rows: `corpus.rows`: where the rows are; None looks for them.
        columns: Columns of a row.

    Raises:
        DataError: the rows are not there, or there are several lists of objects, or none.
    """
    where, found = _found(values, columns, name) if rows is None else (rows, _at(values, rows, name))
    if rows is None:
        logger.info("%s is one JSON object, and its rows are read from corpus.rows=%s", name, where)
    items = found.items() if isinstance(found, dict) else enumerate(found)
    return (_row(value, f"{name}[{key}]") for key, value in items)


def _row(value: object, place: str) -> Row | Reject:
    if isinstance(value, _Repeated):
        return Reject(place, "duplicate_key", repr(value))
    return Row(place, value) if isinstance(value, dict) else Reject(place, "not_an_object", repr(value))


def _at(values: Mapping[str, object], rows: str, name: str) -> Objects:
    found: object = values
    for part in [] if rows == WHOLE else [rows] if rows in values else rows.split("."):
        if not isinstance(found, dict) or part not in found:
            raise _not_there(values, rows, name, "the JSON object has no such member")
        found = found[part]
    table = _table(found) if isinstance(found, dict) else None
    if table is not None:
        return table
    if isinstance(found, list) or (isinstance(found, dict) and _are_rows(found)):
        return found
    raise _not_there(values, rows, name, "is neither a list nor an object of rows")


def _found(values: Mapping[str, object], columns: Collection[str], name: str) -> tuple[str, Objects]:
    """Return where the rows are, and the rows."""
    if (table := _columns(values, columns) or _table(values)) is not None:
        return WHOLE, table
    candidates = _candidates(values)
    fitting = {where: found for where, found in candidates.items() if _fits(found, columns)}
    lists = {where: found for where, found in candidates.items() if isinstance(found, list)}
    for choice in (fitting, lists, candidates):
        if len(choice) == 1:
            return next(iter(choice.items()))
    problem = "is one JSON object" + (
        ", with rows in several places" if candidates else ", and no rows are found in it"
    )
    raise _not_there(values, None, name, problem)


def _candidates(values: Mapping[str, object]) -> dict[str, Objects]:
    """Return the lists of objects in an object, and the objects of objects, by their place."""
    found: dict[str, Objects] = {}
    level: list[tuple[str, Mapping[str, object]]] = [("", values)]
    for _ in range(LEVELS):
        following: list[tuple[str, Mapping[str, object]]] = []
        for prefix, each in level:
            if isinstance(each, dict) and _are_rows(each):
                found[prefix.rstrip(".") or WHOLE] = each
                if len(each) > WRAPPED:
                    continue
            for key, value in each.items():
                if isinstance(value, list) and any(isinstance(item, dict) for item in value):
                    found[f"{prefix}{key}"] = value
                elif isinstance(value, dict):
                    following.append((f"{prefix}{key}.", value))
        level = following
    return found


def _are_rows(values: Mapping[str, object]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values.values())


def _fits(found: Objects, columns: Collection[str]) -> bool:
    rows = found.values() if isinstance(found, dict) else found
    first = next((row for row in rows if isinstance(row, dict)), {})
    return any(name in first for name in columns)


def _columns(values: Mapping[str, object], columns: Collection[str]) -> list[object] | None:
    """Return the rows of an object whose members are columns, as pandas writes a table: lists, or objects by index."""
    cells = [values[name] for name in columns if name in values]
    first = cells[0] if cells and not any("." in name for name in columns) else None
    # A list of messages, or of one cell's several texts, is a row's own.
    of_lists = len(cells) > 1 and all(isinstance(cell, list) and not any(map(_nested, cell)) for cell in cells)
    if not (isinstance(first, dict) or (isinstance(first, list) and of_lists)):
        return None
    keys = list(first) if isinstance(first, dict) else range(len(first))
    kept = {
        name: column
        for name, column in values.items()
        if type(column) is type(first) and isinstance(column, dict | list) and len(column) == len(first)
    }
    if any(name in values and name not in kept for name in columns):
        return None
    try:
        return [{name: column[key] for name, column in kept.items()} for key in keys]
    except KeyError:
        return None


def _nested(value: object) -> bool:
    return isinstance(value, dict | list)


def _table(values: Mapping[str, object]) -> list[object] | None:
    """Return the rows of an object with names of columns and rows of cells, as pandas writes it by `split`."""
    names, rows = values.get("columns"), values.get("data")
    if not (isinstance(names, list) and isinstance(rows, list) and rows and all(isinstance(n, str) for n in names)):
        return None
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return None
    return [dict(zip(names, row, strict=True)) for row in rows]


def _not_there(values: Mapping[str, object], rows: str | None, name: str, problem: str) -> DataError:
    places = tuple(_candidates(values)) or tuple(values)
    return DataError(
        Fault(
            "rows-not-found",
            problem,
            key="corpus.rows",
            got=rows,
            allowed=places[:NAMES_SHOWN],
            file=name,
            hint="Give corpus.rows=NAME, the member that holds the rows (data, result.items), or corpus.rows=. for an "
            "object whose values are the rows.",
        )
    )
