"""Reads rows of tables written as text: CSV, TSV, and what Excel saves as Unicode text."""

import csv
import logging
import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
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
# A quoted cell of a whole table is rare, and one line of it may look like a row by chance.
FEWEST_CELLS_TO_TELL = 3
# A cell between quotes, in which a doubled quote stands for one.
QUOTED = re.compile(r'"(?:[^"]|"")*"')
# A line that ends with a carriage return, as on old Macs.
RETURN = re.compile(r"[^\r]*\r|[^\r]+")
# Records among which the delimiter is looked for.
RECORDS_LOOKED_AT = 20
TAB = "\t"
CANDIDATES = (",", TAB, ";", "|")
# Excel's own way to name the delimiter, in the first line.
NAMED = re.compile(r"sep=(.)(?:\r|\r?\n)")
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
        match = NAMED.match(next(self._lines(), ""))
        return match and match[1]

    def _found(self) -> str:
        lines = list(islice(self._lines(), RECORDS_LOOKED_AT))
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
        lines = _Lines(self._lines(), patient=delimiter != TAB)
        if self._named():
            next(lines)
        # strict: an unclosed quote raises an error instead of swallowing the rest of the file.
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        header: list[str] | None = None
        while True:
            line = lines.begin()
            try:
                cells = self._record(reader, lines, len(header or ()), delimiter)
            except StopIteration:
                return
            if isinstance(cells, str):
                yield from self._lost(lines.record, line, cells)
                continue
            if not cells:
                continue
            if header is None:
                header = _header(self.path, cells, line)
            elif len(cells) != len(header):
                what = f"{len(cells)} cells, the header has {len(header)}: {delimiter.join(cells)}"
                yield Reject(f"{self.name}:{line}", "wrong_number_of_cells", what)
            else:
                yield Row(f"{self.name}:{line}", dict(zip(header, cells, strict=True)), of_table=True)

    def _record(self, reader: Iterator[list[str]], lines: "_Lines", n_cells: int, delimiter: str) -> list[str] | str:
        """Return the cells of the next record, or what is wrong with its quotes.

        Raises:
            StopIteration: there is none.
            DataError: a quote is never closed.
        """
        try:
            cells = next(reader)
        except csv.Error as error:
            problem = str(error)
            if delimiter != TAB and len(lines.record) > SWALLOWED_LINES:
                problem = f"{problem}: a quote that opens here is never closed"
                line = lines.number - len(lines.record) + 1
                fault = Fault("not-csv", problem, file=str(self.path), line_number=line, hint="Close that quote.")
                raise DataError(fault) from None
        else:
            if not lines.swallowed(n_cells, delimiter):
                return cells
            problem = "a quoted cell whose lines look like rows"
        # Tabs cannot occur in cells, so many programs write quotes as they are.
        return lines.first_alone().rstrip("\r\n").split(TAB) if delimiter == TAB else problem

    def _lost(self, record: Sequence[str], line: int, problem: str) -> Iterator[Reject]:
        """Yield a reject for each line of a record that a stray quote has broken: each may have been a row."""
        for number, text in enumerate(record):
            excerpt = f"{problem}: {text.strip()}" if number == 0 else f"line {line} has a stray quote: {text.strip()}"
            yield Reject(f"{self.name}:{line + number}", "broken_csv", excerpt)

    def _lines(self) -> Iterator[str]:
        """Yield the lines; those of a file without any line feed end where its carriage returns are."""
        for number, line in enumerate(read_lines(self.path, self.encoding)):
            if number == 0 and "\r" in line and not line.endswith("\n"):
                yield from RETURN.findall(line)
            else:
                yield line


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
        self._record.append(line)
        return line

    @property
    def record(self) -> Sequence[str]:
        """The lines of the record so far."""
        return self._record

    def swallowed(self, n_cells: int, delimiter: str) -> bool:
        """Return whether each line of a record of several lines looks like a row: a stray quote has joined them."""
        fewest = 2 if delimiter == TAB or n_cells >= FEWEST_CELLS_TO_TELL else 3
        if n_cells < 2 or len(self._record) < fewest:
            return False
        first, *between, last = (line.rstrip("\r\n") for line in self._record)
        # Of the first and the last line, quoted cells before and behind the one in question may hold delimiters.
        inside, _, behind = last.replace('""', "").partition('"')
        pieces = [QUOTED.sub("", first), *between, inside + QUOTED.sub("", behind)]
        if any(piece.count(delimiter) != n_cells - 1 for piece in pieces):
            return False
        # A blank behind a comma is prose, which tables hold, too.
        return not any(f"{delimiter} " in line for line in between or [last])

    def begin(self) -> int:
        """Begin a record; return the number of its first line."""
        self._record.clear()
        return self.number + 1

    def first_alone(self) -> str:
        """Return the record's first line, and give the others back."""
        first, *others = self._record
        self._again.extendleft(reversed(others))
        self._record = [first]
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
