"""Reads running text for language modelling: without cleaning, in the corpus's own parts or divided by row."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from medqa_finetune.config.schema import Config, CorpusConfig
from medqa_finetune.data.charset import read_lines
from medqa_finetune.data.columns import column_missing
from medqa_finetune.data.corpus import corpus_files, where
from medqa_finetune.data.parts import PARTS, files_by_part, part_of
from medqa_finetune.data.readers import TEXT, read_rows, reading_of, text_format_of
from medqa_finetune.data.rows import Ledger, Reject, Row
from medqa_finetune.data.splits import key_of
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.methods.registry import method_of
from medqa_finetune.record.files import sha256_of_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Text:
    """Running text: rows joined by the separator."""

    content: str

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal hash of the text's UTF-8 bytes."""
        return sha256_of_text(self.content)


@dataclass(frozen=True)
class TextParts:
    """The three parts of a text corpus, counts of what was read, and the files of each part that was kept."""

    train: Text
    validation: Text
    test: Text
    counts: Counter[str] = field(default_factory=Counter)
    files: dict[str, list[str]] = field(default_factory=dict)


def read_text_parts(config: Config) -> TextParts:
    """Return an experiment's text in its three parts.

    Files with train, validation and test in their names are these parts, unless `corpus.parts` is `ignore`. Any other
    text is divided by row: in the seeded order of their hashes, the first `data.test_size` distinct rows are the test
    part, the next `data.validation_size` the validation part, and the rest, in the text's order, the training part.
    Equal rows go to one part.

    Raises:
        DataError: the corpus is missing, empty or broken, has some of the parts but not all, or too few rows.
    """
    corpus, ledger = config.corpus, Ledger()
    _warn_of_scale(config)
    files = corpus_files(corpus)
    named = {} if len(files) == 1 or corpus.parts == "ignore" else _by_part(files, corpus)
    if corpus.parts == "published" and not named:
        hint = "Give a folder with files named train, validation and test, or leave corpus.parts out."
        problem = "needs files of all three parts, and no name of a file says its part"
        raise DataError(_of_path("part-missing", problem, corpus, hint).but(key="corpus.parts", got="published"))
    rows = _read(named or {"": files}, corpus, ledger)
    parts = rows if named else _divided(rows[""], config)
    empty = [part for part in PARTS if not any(row.strip() for row in parts[part])]
    if empty:
        hint = "Repair it, or give a single file, which is divided by rows."
        raise DataError(_of_path("part-empty", f"the {empty[0]} part has no text", corpus, hint))
    train, validation, test = (Text(corpus.separator.join(parts[part])) for part in PARTS)
    published = {part: [name for _, name in named[part]] for part in PARTS} if named else {}
    return TextParts(train, validation, test, ledger.counts, published)


def read_test_text(corpus: CorpusConfig) -> Text:
    """Return the test part of a text corpus that is used for evaluation only.

    These are the files with test in their names; the whole text if no file name indicates a part, or the corpus is one
    file.

    Raises:
        DataError: the corpus is missing, empty or broken, or has other parts but no test part.
    """
    files = corpus_files(corpus)
    is_file = corpus.path is not None and Path(corpus.path).expanduser().is_file()
    whole = is_file or all(part_of(name) is None for _, name in files)
    chosen = files if whole else [(path, name) for path, name in files if part_of(name) == "test"]
    if not chosen:
        there = ", ".join(name for _, name in files[:6])
        hint = "Name one so, or give a single file."
        raise DataError(_of_path("part-missing", f"no file is named test; found: {there}", corpus, hint))
    rows = _read({"test": chosen}, corpus, Ledger())["test"]
    if not any(row.strip() for row in rows):
        raise DataError(_of_path("part-empty", "the test part has no text", corpus))
    return Text(corpus.separator.join(rows))


def _read(named: dict[str, list[tuple[Path, str]]], corpus: CorpusConfig, ledger: Ledger) -> dict[str, list[str]]:
    """Return the rows of each part's files."""
    rows = {
        part: [row for path, name in files for row in text_rows(path, name, corpus, ledger)]
        for part, files in named.items()
    }
    if not ledger.counts["rows"]:
        hint = "Give a file of text, or one with a column of it."
        raise DataError(_of_path("no-rows", "it has no rows", corpus, hint))
    if ledger.counts["rejected_missing_column"] == ledger.counts["rows"]:
        raise DataError(column_missing("corpus.text", corpus.text, ledger.examples[0].columns, where(corpus)))
    ledger.check_share(where(corpus), corpus.max_reject_share)
    return rows


def _of_path(code: str, problem: str, corpus: CorpusConfig, hint: str = "") -> Fault:
    return Fault(code, problem, key="corpus.path", file=where(corpus), hint=hint)


def _warn_of_scale(config: Config) -> None:
    """Log the sizes that `data.scale` changes: a profile may scale a text that is small already."""
    if config.data.scale != 1.0:
        trained = "all blocks" if config.train_size is None else _counted(config.train_size, "block")
        # The untuned base model trains on nothing.
        training = f"{trained} for training, and " if method_of(config.method).uses_training_data else ""
        log.warning(
            "data.scale=%g takes of this text %swhere it has no parts of its own %s for the test, %d for validation; "
            "data.scale=1 takes the sizes as they are",
            config.data.scale,
            training,
            _counted(config.test_size, "row"),
            config.validation_size,
        )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _by_part(files: list[tuple[Path, str]], corpus: CorpusConfig) -> dict[str, list[tuple[Path, str]]]:
    """Return the files of each part; empty if no file name indicates a part."""
    found = files_by_part(files)
    if found.keys() == {None}:
        return {}
    if found.keys() != set(PARTS):
        there = ", ".join(f"{name} ({part_of(name) or 'no part'})" for _, name in files[:6])
        problem = f"the files must be named train, validation and test, all three, or none of them so; found: {there}"
        hint = "Name them so, or give a single file or corpus.parts=ignore, which divide by rows."
        raise DataError(_of_path("part-missing", problem, corpus, hint))
    return {part: found[part] for part in PARTS}


def _divided(rows: list[str], config: Config) -> dict[str, list[str]]:
    keys = [key_of(row.strip(), config.data.split_seed) if row.strip() else None for row in rows]
    distinct = sorted({key for key in keys if key is not None})
    held_out = config.test_size + config.validation_size
    if len(distinct) <= held_out:
        raise DataError(
            Fault(
                "corpus-too-small",
                f"with data.validation_size={config.validation_size} (both scaled) {held_out:,} rows are held out, "
                f"but the text has {_counted(len(distinct), 'different row')}, and some must be left to train on",
                key="data.test_size",
                got=config.test_size,
                file=where(config.corpus),
                hint="In plain text a row ends at an empty line; corpus.by_line=true takes every line for one. "
                "Give smaller data.test_size= and data.validation_size=, or a folder with files named train, "
                "validation and test.",
            )
        )
    test, validation = set(distinct[: config.test_size]), set(distinct[config.test_size : held_out])
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for key, row in zip(keys, rows, strict=True):
        if key is not None:
            parts["test" if key in test else "validation" if key in validation else "train"].append(row)
    return parts


def text_rows(path: Path, name: str, corpus: CorpusConfig, ledger: Ledger) -> Iterator[str]:
    """Yield the rows of a file of running text, not cleaned; rejects go to the ledger.

    Raises:
        DataError: the file as a whole cannot be used.
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
    for row in read_rows(path, name, chosen or corpus.format, corpus.encoding, reading_of(corpus)):
        yield _cell(row, corpus.text) if isinstance(row, Row) else row


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    """Yield paragraphs: text between blank lines, with the line breaks inside."""
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
