"""Reads raw rows from a file: detects its format, and reads CSV, Parquet, JSON Lines and JSON arrays."""

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from medqa_finetune.config.checks import DELIMITERS
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.cells import columns_of
from medqa_finetune.data.charset import read_text
from medqa_finetune.data.csv_rows import Table, name_of
from medqa_finetune.data.json_objects import holds_rows, object_rows, read_object
from medqa_finetune.data.json_rows import is_array, read_json_array, read_json_lines
from medqa_finetune.data.rows import Reject, Row
from medqa_finetune.errors import DataError, Fault

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

# Formats of data alone, without code: no pickle, no loading script.
FORMAT_OF_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonlines": "jsonl", ".json": "json", ".csv": "csv",
                    ".tsv": "csv", ".tab": "csv", ".arrow": "arrow", ".feather": "arrow",
                    ".parquet": "parquet"}  # fmt: skip
TEXT = "text"
TEXT_FORMAT_OF_SUFFIX = {".txt": TEXT, ".raw": TEXT, ".tokens": TEXT} | FORMAT_OF_SUFFIX
# Formats that compress by themselves, and are not read through a decompressor.
PACKED = ("parquet", "arrow")
COMPRESSIONS = (".gz", ".zst")
PARQUET_BATCH_ROWS = 1024
WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".et")


def format_of(name: str) -> str | None:
    """Return the format of a file by its name (`a.csv.gz` is csv), or None."""
    path = Path(name.lower())
    if path.suffix in COMPRESSIONS:
        path = path.with_suffix("")
        if FORMAT_OF_SUFFIX.get(path.suffix) in PACKED:
            return None
    return FORMAT_OF_SUFFIX.get(path.suffix)


def text_format_of(name: str) -> str | None:
    """Return the format of a file of running text by its name (`a.txt.gz` is text), or None."""
    path = Path(name.lower())
    bare = path.with_suffix("") if path.suffix in COMPRESSIONS else path
    return TEXT if TEXT_FORMAT_OF_SUFFIX.get(bare.suffix) == TEXT else format_of(name)


def matches(name: str, patterns: list[str]) -> bool:
    """Return whether a file's relative name matches one of the patterns; `*` also matches `/`."""
    return any(fnmatch(name, pattern) for pattern in patterns)


@dataclass(frozen=True)
class Reading:
    """How the rows of a corpus's files are read, beyond format and encoding.

    Attributes:
        delimiter: `corpus.delimiter` as a character; None finds it out.
        rows: `corpus.rows`.
        columns: Columns that a row may have.
        note: Takes a sentence on what was found out, for messages about missing columns.
    """

    delimiter: str | None = None
    rows: str | None = None
    columns: Collection[str] = ()
    note: Callable[[str], None] = logger.debug


def reading_of(corpus: CorpusConfig, note: Callable[[str], None] = logger.debug) -> Reading:
    """Return how a corpus's settings say that its files are read."""
    delimiter = None if corpus.delimiter is None else DELIMITERS.get(corpus.delimiter, corpus.delimiter)
    return Reading(delimiter, corpus.rows, columns_of(corpus), note)


def read_rows(
    path: Path, name: str, file_format: str, encoding: str, reading: Reading | None = None
) -> Iterator[Row | Reject]:
    """Yield a file's rows, and a reject for each broken row.

    Args:
        path: The file.
        name: Name of the file in the ids of its rows.
        file_format: `auto` or one of the formats; JSON arrays, objects and JSON Lines are distinguished by content.
        encoding: Encoding of text formats.
        reading: How rows are found in it; None for the usual way.

    Raises:
        DataError: the file as a whole cannot be used.
    """
    reading = reading or Reading()
    chosen = _format_by_content(path, encoding, reading) if file_format == "auto" else file_format
    if chosen == "csv":
        return _read_table(Table(path, name, encoding, reading.delimiter, reading.columns), reading)
    if reading.delimiter is not None and chosen is not None:
        problem = f"stands between the cells of CSV files, and the file is read as {chosen}"
        hint = "Leave it out, or give corpus.format=csv."
        fault = Fault("conflict", problem, key="corpus.delimiter", got=name_of(reading.delimiter), file=str(path))
        raise DataError(fault.but(hint=hint))
    if chosen == "parquet":
        return _read_parquet(path, name)
    if chosen == "arrow":
        return _read_arrow(path, name)
    if chosen not in ("json", "jsonl"):
        is_workbook = path.suffix.lower() in WORKBOOKS
        suffixes = f"{', '.join(FORMAT_OF_SUFFIX)} (.gz or .zst after it)"
        raise DataError(
            Fault(
                "unknown-format",
                f"not a known format; by name, a file must end in {suffixes}",
                key="corpus.format",
                got=file_format,
                file=str(path),
                allowed=("jsonl", "json", "csv", "parquet", "arrow"),
                hint="Save it as CSV UTF-8, or as Unicode text." if is_workbook else "Give corpus.format=FORMAT.",
            )
        )
    return _read_json(path, name, encoding, chosen, reading)


def _format_by_content(path: Path, encoding: str, reading: Reading) -> str | None:
    """Return the format that a file's name says, or its beginning where that is clear: Excel's own text is `.txt`."""
    known = format_of(path.name)
    if known is not None or text_format_of(path.name) != TEXT:
        return known
    beginning = next(iter(read_text(path, encoding)), "").lstrip()
    if beginning.startswith(("{", "[{")):
        return "jsonl"
    table = Table(path, path.name, encoding, reading.delimiter, reading.columns)
    first = beginning.partition("\n")[0]
    return "csv" if {cell.strip(' "\r') for cell in first.split(table.chosen())} & set(reading.columns) else None


def _read_table(table: Table, reading: Reading) -> Iterator[Row | Reject]:
    delimiter = name_of(table.chosen())
    if reading.delimiter is None and delimiter != "comma":
        logger.info("%s: cells are separated by %s (corpus.delimiter=%s)", table.name, delimiter, delimiter)
    reading.note(f"Cells of {table.name} were separated by {delimiter}; corpus.delimiter= sets it.")
    return table.rows()


def _read_json(path: Path, name: str, encoding: str, chosen: str, reading: Reading) -> Iterator[Row | Reject]:
    if is_array(path, encoding, expected=chosen == "json"):
        if reading.rows is not None:
            raise _without_members(path, reading.rows, "is one list")
        if chosen == "jsonl":
            logger.warning("%s is a JSON array, not JSON Lines; read as an array.", path)
        return read_json_array(path, name, encoding)
    whole = read_object(path, encoding)
    if whole is not None and (reading.rows is not None or holds_rows(whole, reading.columns)):
        return object_rows(whole, name, reading.rows, reading.columns)
    if reading.rows is not None:
        raise _without_members(path, reading.rows, "has a row on each line")
    if chosen == "json":
        logger.warning("%s is JSON Lines, not a JSON array; read line by line.", path)
    return read_json_lines(path, name, encoding)


def _without_members(path: Path, rows: str, form: str) -> DataError:
    problem = f"is a member of a JSON object, and the file {form}"
    return DataError(Fault("conflict", problem, key="corpus.rows", got=rows, file=str(path), hint="Leave it out."))


def _read_parquet(path: Path, name: str) -> Iterator[Row | Reject]:
    import pyarrow as pa
    import pyarrow.parquet as pq

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
            Fault(
                "not-parquet",
                f"cannot be read as Parquet: {reason}",
                file=str(path),
                hint="Fetch or export the file again.",
            )
        ) from error


def _read_arrow(path: Path, name: str) -> Iterator[Row | Reject]:
    """Yield the rows of an Arrow file, or of a stream, as `datasets` saves them."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            index = 0
            for batch in _arrow_batches(file):
                for values in batch.to_pylist():
                    yield Row(f"{name}[{index}]", values)
                    index += 1
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        hint = "Fetch or export the file again."
        raise DataError(Fault("not-arrow", f"cannot be read as Arrow: {reason}", file=str(path), hint=hint)) from error


def _arrow_batches(file: "pa.MemoryMappedFile") -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        yield from pa.ipc.open_stream(file)
        return
    yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
