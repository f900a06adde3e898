"""Writes examples and sets as JSON Lines files, for users and other programs."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.corpus import corpus_sha256, read_by_file
from medqa_finetune.data.examples import Example, to_row
from medqa_finetune.data.parts import published_parts, say_unkept
from medqa_finetune.data.prepare import Prepared, Progress, examples_key, take_splits
from medqa_finetune.data.rows import Ledger
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.record.files import replacing, sha256_of, write_json

PAIRS, REJECTS, COUNTS, MANIFEST = "pairs.jsonl", "rejects.jsonl", "counts.json", "manifest.json"
# Folder of a corpus that keeps the parts it was published in: one file each.
PAIRS_BY_PART = "pairs"


class Cleaned(NamedTuple):
    """Counts of what was cleaned, and the file of examples, or the folder with one file per published part."""

    counts: dict[str, int]
    path: Path


def write_cleaned(corpus: CorpusConfig, folder: Path, progress: Progress = iter) -> Cleaned:
    """Write a corpus's cleaned examples, its rejects and, last, the counts, unless they are there already.

    Raises:
        DataError: the corpus cannot be used, or the folder cannot be written.
    """
    parts = published_parts(corpus)
    if not parts:
        say_unkept(corpus)
    key = examples_key(corpus, corpus_sha256(corpus)) + (f" {parts}" if parts else "")
    files = {f"{PAIRS_BY_PART}/{part}.jsonl": names for part, names in parts.items()} or {PAIRS: []}
    path = folder / (PAIRS_BY_PART if parts else PAIRS)
    done = _notes(folder / COUNTS, key)
    if done is not None:
        return Cleaned(done["counts"], path)
    try:
        with replacing(folder / REJECTS) as rejects, ExitStack() as stack:
            ledger = Ledger(rejects)
            opened = {file: stack.enter_context(replacing(folder / file)) for file in files}
            file_of = {name: opened[file] for file, names in files.items() for name in names}
            for name, example in progress(read_by_file(corpus, ledger)):
                (file_of[name] if parts else opened[PAIRS]).write(_line(example))
        _write_notes(folder, COUNTS, (*files, REJECTS), {"key": key, "counts": dict(ledger.counts)})
    except OSError as error:
        raise DataError(_unwritable(folder, error)) from error
    return Cleaned(dict(ledger.counts), path)


def write_sets(
    prepared: Prepared,
    sizes: dict[str, int | None],
    folder: Path,
    progress: Callable[[Iterable[Example], str], Iterable[Example]] = lambda examples, name: examples,
) -> list[str]:
    """Write `train_<name>.jsonl` for every size, `validation.jsonl`, `test.jsonl` and, last, `manifest.json`.

    Args:
        prepared: The divided corpus.
        sizes: Training examples by name of the size; None takes all.
        folder: Target folder; other files in it stay.
        progress: Wraps a set's examples while they are written; called with the file's name too.

    Returns:
        The names of the files; undamaged ones are not written again.

    Raises:
        DataError: the corpus has fewer examples than a size needs, or the folder cannot be written.
    """
    splits = {name: take_splits(prepared, size) for name, size in sizes.items()}
    files: dict[str, Sequence[Example]] = {f"train_{name}.jsonl": found.train for name, found in splits.items()}
    files |= {"validation.jsonl": prepared.validation, "test.jsonl": prepared.test}
    key = f"{prepared.notes['key']} {sizes}"
    if _notes(folder / MANIFEST, key) is not None:
        return list(files)
    try:
        for name, examples in files.items():
            with replacing(folder / name) as file:
                for example in progress(examples, name):
                    file.write(_line(example))
        manifests = {name: asdict(found.manifest) for name, found in splits.items()}
        _write_notes(folder, MANIFEST, tuple(files), {"key": key, "sizes": manifests})
    except OSError as error:
        raise DataError(_unwritable(folder, error)) from error
    return list(files)


def _unwritable(folder: Path, error: OSError) -> Fault:
    problem = f"cannot be written: {error.strerror or error}"
    return Fault("not-writable", problem, file=str(folder), hint="Give another folder.")


def _line(example: Example) -> bytes:
    return (json.dumps(to_row(example), ensure_ascii=False) + "\n").encode()


def _write_notes(folder: Path, name: str, files: tuple[str, ...], notes: dict[str, object]) -> None:
    write_json(folder / name, notes | {"files": {file: sha256_of(folder / file) for file in files}})


def _notes(path: Path, key: str) -> dict[str, Any] | None:
    """Return the notes written with the files, if the key is the same and every file is unchanged."""
    try:
        notes: dict[str, Any] = json.loads(path.read_text("utf-8"))
        whole = notes["key"] == key and all(sha256_of(path.parent / f) == sha for f, sha in notes["files"].items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return notes if whole else None
