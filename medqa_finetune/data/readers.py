"""One file to raw rows: which format a file has, and the reader of each."""

import csv
import logging
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from medqa_finetune.data.charset import MAX_ROW_CHARS, read_lines
from medqa_finetune.data.json_rows import is_array, read_json_array, read_json_lines
from medqa_finetune.data.ledger import Reject
from medqa_finetune.data.raw_row import Row
from medqa_finetune.errors import DataError, Fault

logger = logging.getLogger(__name__)

# Formats that hold data and nothing that runs: no pickle, no loading script.
FORMAT_OF_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
COMPRESSIONS = (".gz", ".zst")
PARQUET_BATCH_ROWS = 1024
# An unclosed quote makes one record of everything after it.
SWALLOWED_LINES = 100


def format_of(name: str) -> str | None:
    """Return the format that a file's name promises (`a.csv.gz` is csv), or None."""
    path = Path(name.lower())
    if path.suffix in COMPRESSIONS:
        path = path.with_suffix("")
        if path.suffix == ".parquet":
            return None
    return FORMAT_OF_SUFFIX.get(path.suffix)


def matches(name: str, patterns: list[str]) -> bool:
    """Say whether a file's relative name fits one of the patterns; `*` also crosses folders."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def read_rows(path: Path, name: str, file_format: str, encoding: str) -> Iterator[Row | Reject]:
    """Yield a file's rows, and a reject for each that is broken.

    Args:
        path: The file.
        name: What its rows are named after.
        file_format: `auto` or one of the formats; JSON arrays and JSON Lines are told apart by content.
        encoding: Of text formats.

    Raises:
        DataError: when the file as a whole cannot be used.
    """
    chosen = format_of(path.name) if file_format == "auto" else file_format
    if chosen == "csv":
        return _read_csv(path, name, encoding)
    if chosen == "parquet":
        return _read_parquet(path, name)
    if chosen not in ("json", "jsonl"):
        suffixes = f"{', '.join(FORMAT_OF_SUFFIX)} (.gz or .zst after it)"
        raise DataError(Fault(
            "unknown-format", f"not a known format; by name, a file must end in {suffixes}",
            key="corpus.format", got=file_format, file=str(path), allowed=("jsonl", "json", "csv", "parquet"),
            hint="Give corpus.format=FORMAT.",
        ))  # fmt: skip
    if is_array(path, encoding, expected=chosen == "json"):
        if chosen == "jsonl":
            logger.warning("%s is a JSON array, not JSON Lines; read as an array.", path)
        return read_json_array(path, name, encoding)
    if chosen == "json":
        logger.warning("%s is JSON Lines, not a JSON array; read line by line.", path)
    return read_json_lines(path, name, encoding)


def _read_csv(path: Path, name: str, encoding: str) -> Iterator[Row | Reject]:
    csv.field_size_limit(MAX_ROW_CHARS)
    # strict: a quote that is never closed is an error, and not the whole rest of the file in one cell.
    reader = csv.reader(read_lines(path, encoding), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num - line > SWALLOWED_LINES:
                problem = f"{error}: a quote that opens here is never closed"
                raise DataError(
                    Fault("not-csv", problem, file=str(path), line_number=line, hint="Close that quote.")
                ) from None
            yield Reject(f"{name}:{line}", "broken_csv", str(error))
            continue
        if not cells:
            continue
        if header is None:
            header = _header(path, cells)
        elif len(cells) != len(header):
            what = f"{len(cells)} cells, the header has {len(header)}: {','.join(cells)}"
            yield Reject(f"{name}:{line}", "wrong_number_of_cells", what)
        else:
            yield Row(f"{name}:{line}", dict(zip(header, cells, strict=True)))


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({column for column in names if column and names.count(column) > 1})
    if twice:
        raise DataError(Fault(
            "column-repeated", "the header names a column twice", got=twice, file=str(path), line_number=1,
            hint="Name each column once.",
        ))  # fmt: skip
    return names


def _read_parquet(path: Path, name: str) -> Iterator[Row | Reject]:
    try:
        with pq.ParquetFile(path) as file:
            index = 0
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for values in batch.to_pylist():
                    yield Row(f"{name}[{index}]", values)
                    index += 1
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            Fault("not-parquet", f"cannot be read as Parquet: {reason}", file=str(path),
                  hint="Fetch or export the file again.")
        ) from error  # fmt: skip
