"""A corpus, wherever it comes from, to cleaned pairs; what cannot be used goes to the ledger."""

import hashlib
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.columns import PairBuilder
from medqa_finetune.data.hub import ensure_files, hub_folder, is_own_folder
from medqa_finetune.data.ledger import Ledger, Reject
from medqa_finetune.data.pairs import Pair, context_of
from medqa_finetune.data.readers import FORMAT_OF_SUFFIX, format_of, matches, read_rows
from medqa_finetune.data.row import Row
from medqa_finetune.data.text_files import TEXT_FORMAT_OF_SUFFIX, text_format_of
from medqa_finetune.errors import DataError
from medqa_finetune.record.files import sha256_of

_hashes: dict[tuple[Path, int, int], str] = {}


def read_pairs(corpus: CorpusConfig, ledger: Ledger) -> Iterator[Pair]:
    """Yield a corpus's pairs, cleaned, in the corpus's order, in bounded memory.

    Args:
        corpus: Where the rows are and what of them is the pair.
        ledger: Takes counts (`rows`, `pairs`, `rejected_…`, `dropped_…`) and rejects.

    Raises:
        DataError: when the corpus is missing, empty, in another encoding, lacks a column, or has more broken rows
            than `corpus.max_reject_share`.
    """
    if corpus.task != "qa":
        raise DataError(f"corpus={corpus.name}: running text (corpus.task={corpus.task}) holds no pairs.")
    builder = PairBuilder(corpus, ledger)
    for row in _rows(corpus):
        ledger.count("rows")
        result = builder.build(row) if isinstance(row, Row) else row
        if isinstance(result, Reject):
            ledger.reject(result)
        else:
            ledger.count("pairs")
            for beside in context_of(result):
                ledger.count(f"pairs_with_{beside}")
            yield result
    place = where(corpus)
    if not ledger.counts["rows"]:
        raise DataError(f"{place}: no rows in it. Give corpus.path= a file with one pair a row.")
    builder.check_columns(place)
    ledger.check_share(place, corpus.max_reject_share)
    if not ledger.counts["pairs"]:
        raise DataError(
            f"{place}: none of {ledger.counts['rows']:,} rows gives a pair. Look at corpus.question, corpus.answer."
        )


def corpus_sha256(corpus: CorpusConfig) -> str:
    """Return the sha256 over the bytes of a corpus's files, in order, and their names.

    Within one process a file is read again only when its size or time of change differs.

    Raises:
        DataError: when the corpus is missing.
    """
    if corpus.source == "embedded":
        from medqa_finetune.data.embedded import embedded_sha256

        return embedded_sha256()
    total = hashlib.sha256()
    for path, name in corpus_files(corpus):
        total.update(f"{name}\0{_sha256_once(path)}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def corpus_files(corpus: CorpusConfig) -> list[tuple[Path, str]]:
    """Return a corpus's files in order, each with the name its rows are called by; a hub's are fetched if missing.

    Raises:
        DataError: when there is none, or one is empty.
    """
    if corpus.source == "hub":
        found = _hub_files(corpus)
    elif corpus.source == "file":
        found = _local_files(corpus)
    else:
        raise DataError(f"corpus.source={corpus.source}: allowed are embedded, file, hub.")
    for path, _ in found:
        try:
            empty = path.stat().st_size == 0
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
        if empty:
            raise DataError(f"{path}: the file is empty. Fetch or export it again.")
    return found


def _rows(corpus: CorpusConfig) -> Iterator[Row | Reject]:
    if corpus.source == "embedded":
        from medqa_finetune.data.embedded import embedded_rows

        return (Row(f"embedded[{index}]", values) for index, values in enumerate(embedded_rows()))
    return chain.from_iterable(
        read_rows(path, name, corpus.format, corpus.encoding) for path, name in corpus_files(corpus)
    )


def _local_files(corpus: CorpusConfig) -> list[tuple[Path, str]]:
    if not corpus.path:
        raise DataError("corpus.path is missing: corpus.source=file wants corpus.path=FILE (or a folder).")
    path = Path(corpus.path).expanduser()
    if path.is_file():
        return [(path, path.name)]
    if not path.is_dir():
        what = "not a regular file" if os.path.lexists(path) else "no such file or folder"
        raise DataError(f"corpus.path={corpus.path}: {what} (looked in {Path.cwd()}).")
    is_text = corpus.task == "text"
    known = text_format_of if is_text else format_of
    files = sorted(child for child in path.iterdir() if child.is_file() and known(child.name))
    if not files:
        suffixes = ", ".join(TEXT_FORMAT_OF_SUFFIX if is_text else FORMAT_OF_SUFFIX)
        raise DataError(f"corpus.path={corpus.path}: the folder holds no {suffixes} file.")
    return [(child, child.name) for child in files]


def _hub_files(corpus: CorpusConfig) -> list[tuple[Path, str]]:
    folder = hub_folder(corpus)
    if corpus.task == "text" and is_own_folder(corpus, folder) and _holds_text(folder):
        return _local_files(corpus)
    ensure_files(corpus, folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if not name.startswith(".")]
    # In the order in which the configuration names them.
    ordered = dict.fromkeys(name for pattern in corpus.files for name in names if matches(name, [pattern]))
    return [(folder / name, name) for name in ordered]


def _holds_text(path: Path) -> bool:
    return path.is_file() or any(child.is_file() and text_format_of(child.name) for child in path.iterdir())


def where(corpus: CorpusConfig) -> str:
    """Return where a corpus is, for messages."""
    if corpus.source == "embedded":
        return "the embedded corpus"
    return str(hub_folder(corpus)) if corpus.source == "hub" else str(corpus.path)


def _sha256_once(path: Path) -> str:
    status = path.stat()
    key = (path.resolve(), status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        try:
            _hashes[key] = sha256_of(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
    return _hashes[key]
