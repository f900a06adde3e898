"""Sizes and sha256 of files, to detect damage: safetensors alone loads a file with a flipped bit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medqa_finetune.record.files import TEMPORARY_PREFIX, sha256_of
from medqa_finetune.record.schema import FileStamp


def stamps_below(folder: Path, leave_out: Sequence[str] = ()) -> dict[str, FileStamp]:
    """Return the stamp of every file below a folder, by relative path with `/`, sorted.

    Args:
        folder: Folder to search.
        leave_out: Names of files and folders in it to skip. Temporary files are always skipped.
    """
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = (path for path in paths if path.parts[0] not in leave_out and not _is_temporary(path))
    return {path.as_posix(): stamp_of(folder / path) for path in sorted(kept)}


def stamp_of(path: Path) -> FileStamp:
    """Return size and sha256 of one file."""
    return FileStamp(path.stat().st_size, sha256_of(path))


class Damage(NamedTuple):
    """A file that differs from its stamp.

    Attributes:
        file: Path relative to the folder, with `/`.
        stamp: The recorded size and sha256.
        size: Current size in bytes; None where it is missing. Equal to the stamp's where only the content differs.
    """

    file: str
    stamp: FileStamp
    size: int | None

    def __str__(self) -> str:
        if self.size is None:
            return f"{self.file} is missing"
        if self.size != self.stamp.size:
            return f"{self.file} has {self.size:,} bytes instead of {self.stamp.size:,}"
        return f"{self.file} has changed (another sha256)"


def damages(folder: Path, stamps: Mapping[str, FileStamp]) -> list[Damage]:
    """Return the files that differ from their stamps: missing, of another size, or of another content."""
    found = []
    for name, stamp in stamps.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != stamp.size or sha256_of(path) != stamp.sha256:
            found.append(Damage(name, stamp, size))
    return found


def _is_temporary(path: Path) -> bool:
    return any(part.startswith(TEMPORARY_PREFIX) for part in path.parts)
