"""Pairs and sets as JSON Lines files, for people and for other programs."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.corpus import corpus_sha256, read_examples
from medqa_finetune.data.examples import Example, to_row
from medqa_finetune.data.prepare import Prepared, Progress, examples_key, take_splits
from medqa_finetune.data.rows import Ledger
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.record.files import replacing, sha256_of, write_json

PAIRS, REJECTS, COUNTS, MANIFEST = "pairs.jsonl", "rejects.jsonl", "counts.json", "manifest.json"


def write_cleaned(corpus: CorpusConfig, folder: Path, progress: Progress = iter) -> dict[str, int]:
    """Write a corpus's cleaned pairs, its rejects and, last, the counts; nothing where that has been done before.

    Returns:
        The counts.

    Raises:
        DataError: when the corpus cannot be used, or the folder not be written.
    """
    key = examples_key(corpus, corpus_sha256(corpus))
    done = _notes(folder / COUNTS, key)
    if done is not None:
        counts: dict[str, int] = done["counts"]
        return counts
    try:
        with replacing(folder / REJECTS) as rejects, replacing(folder / PAIRS) as pairs:
            ledger = Ledger(rejects)
            for pair in progress(read_examples(corpus, ledger)):
                pairs.write(_line(pair))
        _write_notes(folder, COUNTS, (PAIRS, REJECTS), {"key": key, "counts": dict(ledger.counts)})
    except OSError as error:
        raise DataError(_unwritable(folder, error)) from error
    return dict(ledger.counts)


def write_sets(
    prepared: Prepared,
    sizes: dict[str, int | None],
    folder: Path,
    progress: Callable[[Iterable[Example], str], Iterable[Example]] = lambda pairs, name: pairs,
) -> list[str]:
    """Write `train_<name>.jsonl` for every size, `validation.jsonl`, `test.jsonl` and, last, `manifest.json`.

    Args:
        prepared: The divided corpus.
        sizes: Training pairs by name of the size; None takes all.
        folder: Where the files go; others in it are left alone.
        progress: Wraps a set's pairs while they are written; told the file's name.

    Returns:
        The names of the files; those that were whole already are not written again.

    Raises:
        DataError: when the corpus has fewer pairs than a size asks for, or the folder cannot be written.
    """
    splits = {name: take_splits(prepared, size) for name, size in sizes.items()}
    files: dict[str, Sequence[Example]] = {f"train_{name}.jsonl": found.train for name, found in splits.items()}
    files |= {"validation.jsonl": prepared.validation, "test.jsonl": prepared.test}
    key = f"{prepared.notes['key']} {sizes}"
    if _notes(folder / MANIFEST, key) is not None:
        return list(files)
    try:
        for name, pairs in files.items():
            with replacing(folder / name) as file:
                for pair in progress(pairs, name):
                    file.write(_line(pair))
        manifests = {name: asdict(found.manifest) for name, found in splits.items()}
        _write_notes(folder, MANIFEST, tuple(files), {"key": key, "sizes": manifests})
    except OSError as error:
        raise DataError(_unwritable(folder, error)) from error
    return list(files)


def _unwritable(folder: Path, error: OSError) -> Fault:
    problem = f"cannot be written: {error.strerror or error}"
    return Fault("not-writable", problem, file=str(folder), hint="Give another folder.")


def _line(pair: Example) -> bytes:
    return (json.dumps(to_row(pair), ensure_ascii=False) + "\n").encode()


def _write_notes(folder: Path, name: str, files: tuple[str, ...], notes: dict[str, Any]) -> None:
    write_json(folder / name, notes | {"files": {file: sha256_of(folder / file) for file in files}})


def _notes(path: Path, key: str) -> dict[str, Any] | None:
    """Return what was noted when the files were written, if they are all as they were then and of the same key."""
    try:
        notes: dict[str, Any] = json.loads(path.read_text("utf-8"))
        whole = notes["key"] == key and all(sha256_of(path.parent / f) == sha for f, sha in notes["files"].items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return notes if whole else None
