"""Files of running text: which format each has, which part of the corpus it is, and its rows."""

import re
from collections.abc import Iterator
from pathlib import Path

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.charset import read_lines
from medqa_finetune.data.ledger import Ledger, Reject
from medqa_finetune.data.raw_row import Row
from medqa_finetune.data.readers import COMPRESSIONS, FORMAT_OF_SUFFIX, format_of, read_rows

TEXT = "text"
TEXT_FORMAT_OF_SUFFIX = {".txt": TEXT, ".raw": TEXT, ".tokens": TEXT} | FORMAT_OF_SUFFIX
PARTS = ("train", "validation", "test")
# Words in a file's name that say which part it is: `wiki.valid.raw`, `test-00000-of-00001.parquet`.
PART_OF_WORD = {"train": "train", "training": "train", "valid": "validation", "validation": "validation",
                "val": "validation", "dev": "validation", "test": "test"}  # fmt: skip


def text_format_of(name: str) -> str | None:
    """Return the format that the name of a file of running text promises (`a.txt.gz` is text), or None."""
    path = Path(name.lower())
    bare = path.with_suffix("") if path.suffix in COMPRESSIONS else path
    return TEXT if TEXT_FORMAT_OF_SUFFIX.get(bare.suffix) == TEXT else format_of(name)


def part_of(name: str) -> str | None:
    """Return which part of a corpus a file is by its name, one of `PARTS`, or None."""
    words = re.split("[^a-z]+", Path(name).name.lower())
    found = {PART_OF_WORD[word] for word in words if word in PART_OF_WORD}
    return found.pop() if len(found) == 1 else None


def text_rows(path: Path, name: str, corpus: CorpusConfig, ledger: Ledger) -> Iterator[str]:
    """Yield the rows of a file of running text as they are, not cleaned; what is broken goes to the ledger.

    Raises:
        DataError: when the file as a whole cannot be used.
    """
    for result in _rows(path, name, corpus):
        ledger.count("rows")
        if isinstance(result, Reject):
            ledger.reject(result)
        else:
            yield result


def _rows(path: Path, name: str, corpus: CorpusConfig) -> Iterator[str | Reject]:
    chosen = text_format_of(path.name) if corpus.format == "auto" else corpus.format
    if chosen == TEXT:
        lines = read_lines(path, corpus.encoding)
        texts = (line if line.strip() else "" for line in lines) if corpus.by_line else _paragraphs(lines)
        yield from (_checked(text, f"{name}[{number}]") for number, text in enumerate(texts))
        return
    for row in read_rows(path, name, chosen or corpus.format, corpus.encoding):
        yield _cell(row, corpus.text) if isinstance(row, Row) else row


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    """Yield what blank lines separate, line breaks inside kept."""
    waiting: list[str] = []
    for line in lines:
        if line.strip():
            waiting.append(line.rstrip("\r\n"))
        elif waiting:
            yield "\n".join(waiting)
            waiting = []
    if waiting:
        yield "\n".join(waiting)


def _cell(row: Row, column: str) -> str | Reject:
    if column not in row.values:
        return Reject(row.where, "missing_column", ", ".join(row.values), tuple(row.values))
    text = row.values[column]
    if not isinstance(text, str):
        return Reject(row.where, "text_not_text", repr(row.values))
    return _checked(text, row.place)


def _checked(text: str, place: str) -> str | Reject:
    try:
        text.encode()
    except UnicodeEncodeError:
        return Reject(place, "lone_surrogate", text)
    return text
