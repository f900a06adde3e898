"""Reads rows of JSON: one a line, or the elements of one array, in bounded memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from medqa_finetune.data.charset import MAX_ROW_CHARS, read_lines, read_text
from medqa_finetune.data.rows import Reject, Row
from medqa_finetune.errors import DataError, Fault

# A whole string, a bracket, a comma, or the quote of a string whose end has not been read yet.
ARRAY_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\],"]', re.DOTALL)
# A torn last row is simply dropped; an element left open for longer than this many rows has swallowed rows, and is
# refused.
TORN_ROWS = 10
TORN_CHARS = 10_000


class _Refused(ValueError):  # noqa: N818 - it names a reason, and never leaves this file
    """A row that JSON's grammar allows but this reader refuses; the message is the reason."""


def _unique_keys(items: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(items)
    if len(values) != len(items):
        # The json module would silently keep the last of them.
        raise _Refused("duplicate_key")
    return values


# NaN, which pandas writes for a missing value, is read as a number, and so refused where text belongs.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)


def parse_row(text: str, place: str) -> Row | Reject:
    """Return the JSON object in a text, or a reject with the reason why it cannot be used."""
    try:
        values = _DECODER.decode(text)
    except _Refused as reason:
        return Reject(place, str(reason), text)
    except json.JSONDecodeError:
        return Reject(place, "broken_json", text)
    except RecursionError:
        return Reject(place, "too_deep", text)
    except ValueError:
        # Python converts at most 4,300 digits to an int, since the conversion takes quadratic time.
        return Reject(place, "number_too_long", text)
    return Row(place, values) if isinstance(values, dict) else Reject(place, "not_an_object", text)


def is_array(path: Path, encoding: str, *, expected: bool) -> bool:
    """Return whether a file is one JSON array; `expected` decides for an array that does not begin with an object."""
    beginning = ""
    for text in read_text(path, encoding):
        beginning = (beginning + text).lstrip()
        if not beginning.startswith("[") or beginning[1:].strip():
            break
    if not beginning.startswith("["):
        return False
    return expected or beginning[1:].lstrip().startswith(("{", "]"))


def read_json_lines(path: Path, name: str, encoding: str) -> Iterator[Row | Reject]:
    """Yield the rows of a JSON Lines file; blank lines are skipped.

    Raises:
        DataError: the file is one indented object, not one row a line.
    """
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if not line.strip(" \t\r\n"):
            continue
        if number == 1 and line.strip() == "{":
            raise DataError(
                Fault(
                    "not-json-lines",
                    "one JSON object over several lines",
                    file=str(path),
                    line_number=number,
                    hint="Write the file as JSON Lines, or as an array of objects.",
                )
            )
        row = parse_row(line, f"{name}:{number}")
        if isinstance(row, Reject) and row.reason == "broken_json" and not line.endswith("\n"):
            row = Reject(row.place, "torn_last_line", row.excerpt)
        yield row


def read_json_array(path: Path, name: str, encoding: str) -> Iterator[Row | Reject]:
    """Yield the elements of a file that is one JSON array, in bounded memory.

    Raises:
        DataError: the brackets do not match, so that the rest cannot be divided into rows.
    """
    scanner, index = _ArrayScanner(path), -1
    for text in read_text(path, encoding):
        for line, element in scanner.feed(text):
            if element.strip():
                index += 1
                row = parse_row(element, f"{name}:{line}")
                # The id does not depend on line breaks; a reject is found by its line.
                yield row if isinstance(row, Reject) else Row(f"{name}[{index}]", row.values, row.place)
    if torn := scanner.remainder():
        yield Reject(f"{name}:{scanner.line}", "torn_last_line", torn)


class _ArrayScanner:
    """Divides the text of a JSON array into its elements by quotes, brackets and commas alone.

    An element that is broken inside is lost, but no row after it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer = ""
        self._scanned = 0  # characters of the buffer that are already scanned
        self._depth = 0
        self._closed = False
        self._line = 1
        self._longest = 0

    @property
    def line(self) -> int:
        """Return the line, from 1, in which what has not been yielded yet begins."""
        return self._line_of(self._buffer)

    def _line_of(self, element: str) -> int:
        return self._line + element[: len(element) - len(element.lstrip())].count("\n")

    def feed(self, text: str) -> Iterator[tuple[int, str]]:
        """Yield the elements that a further piece of text completes, each with the line in which it begins."""
        self._buffer += text
        start = 0
        while match := ARRAY_TOKEN.search(self._buffer, self._scanned):
            mark = match.group()
            if mark == '"':
                break  # the end of this string has not been read yet
            self._scanned = match.end()
            if self._depth == 0:
                self._open(mark)
                self._line += self._buffer[start : match.start()].count("\n")
                start = match.end()
            elif self._depth == 1 and mark in (",", "]", "}"):
                element = self._buffer[start : match.start()]
                line = self._line_of(element)
                self._line += element.count("\n")
                self._close(mark)
                self._longest = max(self._longest, len(element))
                yield line, element
                start = match.end()
            self._depth += (mark in ("{", "[")) - (mark in ("}", "]"))
        else:
            self._scanned = len(self._buffer)
        self._buffer = self._buffer[start:]
        self._scanned -= start
        if len(self._buffer) > MAX_ROW_CHARS:
            problem = f"a row of over {MAX_ROW_CHARS:,} characters; a quote or bracket may be missing"
            raise self._broken(problem, "row-too-long")

    def remainder(self) -> str:
        """Return the element that the end of the file cut short; empty if the array is complete."""
        rest = self._buffer.strip()
        if self._closed and rest:
            raise self._broken(f"{rest[:20]!r} after the array's end; the file must be one array of objects")
        if len(rest) > max(TORN_CHARS, TORN_ROWS * self._longest):
            raise self._broken("a quote or bracket that opens here is never closed; the rows after it would be lost")
        return rest

    def _open(self, mark: str) -> None:
        if mark != "[" or self._closed:
            raise self._broken(f"{mark[:20]!r} outside the array; the file must be one array of objects")

    def _close(self, mark: str) -> None:
        if mark == "}":
            raise self._broken("a } without its {")
        self._closed = mark == "]"

    def _broken(self, problem: str, code: str = "not-json") -> DataError:
        hint = "Repair the file there, or write it as JSON Lines."
        return DataError(Fault(code, problem, file=str(self._path), line_number=self._line, hint=hint))
