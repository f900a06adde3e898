"""Which files a path of the user's own means: a file, the data files of a folder, or those that match a pattern."""

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.readers import FORMAT_OF_SUFFIX, TEXT_FORMAT_OF_SUFFIX, format_of, text_format_of
from medqa_finetune.errors import DataError, Fault

logger = logging.getLogger(__name__)

File = tuple[Path, str]

# Files that other programs put next to data and that describe it.
DESCRIPTIONS = (
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "croissant.json",
    # Of our own scripts.
    "manifest.json", "counts.json", "rejects.jsonl",
)  # fmt: skip
# What `datasets` keeps of steps on the way, next to the data itself.
INTERMEDIATE = "cache-"
# What macOS puts into archives; hidden files and folders are passed over too.
ARCHIVED = "__MACOSX"
MAGIC = frozenset("*?[")
NAMES_SHOWN = 6


def local_files(corpus: CorpusConfig) -> list[File]:
    """Return the files of `corpus.path`, sorted, each with its name relative to the folder.

    Raises:
        DataError: there is none.
    """
    if not corpus.path:
        raise DataError(
            Fault(
                "missing-key",
                "is missing; corpus.source=file needs it",
                key="corpus.path",
                hint="Give corpus.path=FILE, or a folder.",
            )
        )
    path = Path(corpus.path).expanduser()
    if path.is_file():
        return [(path, path.name)]
    if path.is_dir():
        return _of_folder(path, corpus)
    if MAGIC & set(corpus.path) and not os.path.lexists(path):
        return _of_pattern(path, corpus)
    code, problem = "file-missing", "no such file or folder"
    if os.path.lexists(path):
        code, problem = "not-a-file", "not a regular file"
    raise DataError(Fault(code, f"{problem} (working folder: {Path.cwd()})", key="corpus.path", got=corpus.path))


def _of_folder(folder: Path, corpus: CorpusConfig) -> list[File]:
    every = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = _data_files(every, folder, corpus)
    top = [(path, name) for path, name in files if path.parent == folder]
    below = [name for _, name in files if "/" in name]
    if top and below:
        remedy = f"corpus.path='{str(corpus.path).rstrip('/')}/**' reads all"
        _say(logging.WARNING, f"{folder}: files in sub-folders are not read ({_some(below)}); {remedy}")
    if not files:
        suffixes = ", ".join(TEXT_FORMAT_OF_SUFFIX if corpus.task == "text" else FORMAT_OF_SUFFIX)
        raise DataError(
            Fault(
                "folder-without-data",
                f"the folder has no {suffixes} file",
                key="corpus.path",
                got=corpus.path,
                hint="Give a file, or a folder with such a file.",
            )
        )
    return top or files


def _of_pattern(pattern: Path, corpus: CorpusConfig) -> list[File]:
    parts = pattern.parts
    first = next(place for place, part in enumerate(parts) if MAGIC & set(part))
    root = Path(*parts[:first])
    # What follows ** names folders alone, until Python 3.13.
    below = [*parts[first:], *(["*"] if parts[-1] == "**" else [])]
    try:
        found = sorted(path for path in root.glob("/".join(below)) if path.is_file())
    except ValueError as error:
        problem = f"is not a pattern of paths ({error})"
        raise DataError(Fault("not-a-pattern", problem, key="corpus.path", got=corpus.path)) from None
    files = _data_files(found, root, corpus)
    if not files:
        there = f"; it matches {_some([path.name for path in found])}, of no known format" if found else ""
        problem = f"no data file matches the pattern (working folder: {Path.cwd()}){there}"
        hint = "Quote the pattern in a shell, and use ** for folders of any depth."
        raise DataError(Fault("file-missing", problem, key="corpus.path", got=corpus.path, hint=hint))
    return files


def _data_files(paths: list[Path], root: Path, corpus: CorpusConfig) -> list[File]:
    """Return the files that may hold data, by their names; the others are logged where they might be taken for data."""
    known: Callable[[str], str | None] = text_format_of if corpus.task == "text" else format_of
    named = [(path, path.relative_to(root).as_posix()) for path in paths]
    seen = [(path, name) for path, name in named if not _is_hidden(name) and known(path.name)]
    left_out = [name for path, name in seen if _is_beside(path)]
    if left_out:
        _say(logging.INFO, f"{root}: left out, since it lies next to the data: {_some(left_out)}")
    return [(path, name) for path, name in seen if not _is_beside(path)]


def _is_beside(path: Path) -> bool:
    return path.name in DESCRIPTIONS or (path.suffix == ".arrow" and path.name.startswith(INTERMEDIATE))


@cache
def _say(level: int, sentence: str) -> None:
    """Log a sentence once per process, however often the files are listed."""
    logger.log(level, "%s", sentence)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == ARCHIVED for part in name.split("/"))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
