"""Reads a corpus: its files, its hash, and its cleaned examples, with rejected rows in a ledger."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

from medqa_finetune.config.chat_form import EXAMPLES_WITH_THOUGHTS
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.columns import ExampleBuilder
from medqa_finetune.data.examples import Example, context_of
from medqa_finetune.data.hub import ensure_files, hub_folder, is_own_folder
from medqa_finetune.data.local_files import local_files
from medqa_finetune.data.readers import matches, read_rows, reading_of, text_format_of
from medqa_finetune.data.rows import Ledger, Reject, Row
from medqa_finetune.data.thoughts import has_thought
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.record.files import sha256_of

_hashes: dict[tuple[Path, int, int], str] = {}


def read_examples(corpus: CorpusConfig, ledger: Ledger) -> Iterator[Example]:
    """Yield a corpus's examples, cleaned, in the corpus's order, in bounded memory.

    Raises:
        DataError: as `read_by_file`.
    """
    return (example for _, example in read_by_file(corpus, ledger))


def read_by_file(corpus: CorpusConfig, ledger: Ledger) -> Iterator[tuple[str, Example]]:
    """Yield the name of an example's file (empty for the embedded corpus) and the example, as `read_examples`.

    Args:
        corpus: Where the rows are, and which of their columns to read.
        ledger: Gets the counts (`rows`, `examples`, `rejected_…`, and what was changed) and rejects.

    Raises:
        DataError: the corpus is missing, empty, in another encoding, lacks a column, or has more broken rows than
            `corpus.max_reject_share`.
    """
    if corpus.task != "qa":
        raise DataError(
            Fault(
                "wrong-task",
                f"corpus={corpus.name} is running text, without examples",
                key="corpus.task",
                got=corpus.task,
                allowed=("qa",),
                hint="Give another corpus.",
            )
        )
    place = where(corpus)
    builder = ExampleBuilder(corpus, ledger, place)
    for file, row in _rows(corpus, builder.note):
        ledger.count("rows")
        result = builder.build(row) if isinstance(row, Row) else row
        if isinstance(result, Reject):
            ledger.reject(result)
        else:
            ledger.count("pairs")
            if corpus.group is not None and result.group is None:
                ledger.count("pairs_without_group")
            for name in context_of(result):
                ledger.count(f"pairs_with_{name}")
            if has_thought(answer for _, answer in result.turns):
                ledger.count(EXAMPLES_WITH_THOUGHTS)
            yield file, result
    if not ledger.counts["rows"]:
        hint = "Give a file with one example a row."
        raise DataError(Fault("no-rows", "it has no rows", key="corpus.path", file=place, hint=hint))
    builder.check_columns()
    builder.check_settings()
    ledger.check_share(place, corpus.max_reject_share)
    if not ledger.counts["pairs"]:
        raise DataError(
            Fault(
                "no-pairs",
                f"none of {ledger.counts['rows']:,} rows gives an example{ledger.reasons()}",
                key="corpus.question",
                got=corpus.question,
                file=place,
                hint="Check corpus.question and corpus.answer.",
            )
        )


def corpus_sha256(corpus: CorpusConfig) -> str:
    """Return the sha256 over the bytes of a corpus's files, in order, and their names.

    Within one process, a file is read again only if its size or modification time has changed.

    Raises:
        DataError: the corpus is missing.
    """
    if corpus.source == "embedded":
        from medqa_finetune.data.embedded import embedded_sha256

        return embedded_sha256()
    total = hashlib.sha256()
    for path, name in corpus_files(corpus):
        total.update(f"{name}\0{_sha256_once(path)}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def corpus_files(corpus: CorpusConfig) -> list[tuple[Path, str]]:
    """Return a corpus's files in order, each with its name in the ids of rows; fetch those of a hub if missing.

    Raises:
        DataError: there is none, or one is empty.
    """
    if corpus.source == "hub":
        found = _hub_files(corpus)
    elif corpus.source == "file":
        found = local_files(corpus)
    else:
        raise DataError(
            Fault(
                "not-allowed",
                "must be one of the sources",
                key="corpus.source",
                got=corpus.source,
                allowed=("embedded", "file", "hub"),
            )
        )
    for path, _ in found:
        try:
            empty = path.stat().st_size == 0
        except OSError as error:
            raise DataError(_unreadable(path, error)) from error
        if empty:
            hint = "Fetch or export it again."
            raise DataError(Fault("file-empty", "the file is empty", key="corpus.path", file=str(path), hint=hint))
    return found


def _unreadable(path: Path, error: OSError) -> Fault:
    problem = f"cannot be read: {error.strerror or error}"
    return Fault("not-readable", problem, key="corpus.path", file=str(path), hint="Fetch or copy the file again.")


def _rows(corpus: CorpusConfig, note: Callable[[str], None]) -> Iterator[tuple[str, Row | Reject]]:
    if corpus.source == "embedded":
        from medqa_finetune.data.embedded import embedded_rows, embedded_rows_of_parts

        parted = embedded_rows_of_parts() if corpus.parts == "published" else zip(repeat(""), embedded_rows())
        return ((part, Row(f"embedded[{index}]", values)) for index, (part, values) in enumerate(parted))
    reading = reading_of(corpus, note)
    return chain.from_iterable(
        zip(repeat(name), read_rows(path, name, corpus.format, corpus.encoding, reading), strict=False)
        for path, name in corpus_files(corpus)
    )


def _hub_files(corpus: CorpusConfig) -> list[tuple[Path, str]]:
    folder = hub_folder(corpus)
    if corpus.task == "text" and is_own_folder(corpus, folder) and _holds_text(folder):
        return local_files(corpus)
    ensure_files(corpus, folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if not name.startswith(".")]
    # In the order in which the configuration names them.
    ordered = dict.fromkeys(name for pattern in corpus.files for name in names if matches(name, [pattern]))
    return [(folder / name, name) for name in ordered]


def _holds_text(path: Path) -> bool:
    return path.is_file() or any(child.is_file() and text_format_of(child.name) for child in path.iterdir())


def where(corpus: CorpusConfig) -> str | None:
    """Return the file or folder of a corpus as a text for faults; None for the embedded one."""
    if corpus.source == "embedded":
        return None
    return str(hub_folder(corpus)) if corpus.source == "hub" else str(corpus.path)


def _sha256_once(path: Path) -> str:
    status = path.stat()
    key = (path.resolve(), status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        try:
            _hashes[key] = sha256_of(path)
        except OSError as error:
            raise DataError(_unreadable(path, error)) from error
    return _hashes[key]
