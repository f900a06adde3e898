"""Reads rows of tables written as text: CSV, TSV, and what Excel saves as Unicode text."""

import csv
import logging
import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from medqa_finetune.config.checks import DELIMITERS
from medqa_finetune.data.charset import MAX_ROW_CHARS, read_lines
from medqa_finetune.data.rows import Reject, Row
from medqa_finetune.errors import DataError, Fault

logger = logging.getLogger(__name__)

# An unclosed quote makes one record of everything after it.
SWALLOWED_LINES = 100
# Records among which the delimiter is looked for.
RECORDS_LOOKED_AT = 20
TAB = "\t"
CANDIDATES = (",", TAB, ";", "|")
# Excel's own way to name the delimiter, in the first line.
NAMED = re.compile(r"sep=(.)\r?\n")
NAME_OF = {character: name for name, character in DELIMITERS.items() if len(name) > 2}


def name_of(delimiter: str) -> str:
    """Return a delimiter as `corpus.delimiter` takes it."""
    return NAME_OF.get(delimiter, delimiter)


@dataclass(frozen=True)
class Table:
    """A file with a header and rows of cells.

    Attributes:
        path: The file.
        name: Its name in the ids of rows.
        encoding: Of the text.
        delimiter: Between the cells; None finds it out.
        columns: Columns that are looked for, which tell the right delimiter from others.
    """

    path: Path
    name: str
    encoding: str
    delimiter: str | None = None
    columns: Collection[str] = ()

    def chosen(self) -> str:
        """Return the character between the cells, the given one or the most fitting."""
        return self.delimiter or self._named() or self._found()

    def _named(self) -> str | None:
        match = NAMED.match(next(iter(read_lines(self.path, self.encoding)), ""))
        return match and match[1]

    def _found(self) -> str:
        lines = list(islice(read_lines(self.path, self.encoding), RECORDS_LOOKED_AT))
        tabs_first = self.path.name.lower().partition(".")[2].startswith(("tsv", "tab"))
        candidates = sorted(CANDIDATES, key=lambda character: character != TAB) if tabs_first else CANDIDATES
        # The first of those that fit equally well.
        return max(candidates, key=lambda character: self._fit(lines, character))

    def _fit(self, lines: list[str], delimiter: str) -> tuple[int, int]:
        """Return how many columns are found, and how many records have as many cells as the header, at least two."""
        records: list[list[str]] = []
        with suppress(csv.Error):
            records.extend(csv.reader(lines, delimiter=delimiter))
        header = records[0] if records else []
        if len(header) < 2:
            return 0, 0
        wanted = sum(cell.strip() in self.columns for cell in header)
        return wanted, sum(len(record) == len(header) for record in records[1:]) + 1

    def rows(self) -> Iterator[Row | Reject]:
        """Yield the rows, and a reject for each broken one.

        Raises:
            DataError: the header names a column twice, or a quote is never closed.
        """
        csv.field_size_limit(MAX_ROW_CHARS)
        delimiter = self.chosen()
        lines = _Lines(read_lines(self.path, self.encoding), patient=delimiter != TAB)
        if self._named():
            next(lines)
        # strict: an unclosed quote raises an error instead of swallowing the rest of the file.
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        header: list[str] | None = None
        while True:
            line = lines.begin()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if delimiter == TAB:
                    # Tabs cannot occur in cells, so many programs write quotes as they are.
                    cells = lines.first_alone().rstrip("\r\n").split(TAB)
                elif lines.number - line > SWALLOWED_LINES:
                    problem = f"{error}: a quote that opens here is never closed"
                    raise DataError(
                        Fault("not-csv", problem, file=str(self.path), line_number=line, hint="Close that quote.")
                    ) from None
                else:
                    yield Reject(f"{self.name}:{line}", "broken_csv", str(error))
                    continue
            if not cells:
                continue
            if header is None:
                header = _header(self.path, cells, line)
            elif len(cells) != len(header):
                what = f"{len(cells)} cells, the header has {len(header)}: {delimiter.join(cells)}"
                yield Reject(f"{self.name}:{line}", "wrong_number_of_cells", what)
            else:
                yield Row(f"{self.name}:{line}", dict(zip(header, cells, strict=True)))


class _Lines(Iterator[str]):
    """Lines of a file, of which those of a record that turns out to be none can be given back.

    Args:
        lines: The lines.
        patient: Whether a record may have any number of lines.
    """

    def __init__(self, lines: Iterable[str], *, patient: bool) -> None:
        self._lines = iter(lines)
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self._patient = patient
        self.number = 0

    def __next__(self) -> str:
        if not self._patient and len(self._record) > SWALLOWED_LINES:
            raise StopIteration  # which the reader takes for the end of the file inside a quote
        line = self._again.popleft() if self._again else next(self._lines)
        self.number += 1
        if not self._patient:
            self._record.append(line)
        return line

    def begin(self) -> int:
        """Begin a record; return the number of its first line."""
        self._record.clear()
        return self.number + 1

    def first_alone(self) -> str:
        """Return the record's first line, and give the others back."""
        first, *others = self._record
        self._again.extendleft(reversed(others))
        self.number -= len(others)
        return first


def _header(path: Path, cells: list[str], line: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted(column for column, n in Counter(names).items() if column and n > 1)
    if twice:
        raise DataError(
            Fault(
                "column-repeated",
                "the header names a column twice",
                got=twice,
                file=str(path),
                line_number=line,
                hint="Name each column once.",
            )
        )
    return names
