"""Sizes and sha256 of files, so that a damaged or missing one is noticed: safetensors alone loads a flipped byte."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medqa_finetune.record.files import TEMPORARY_PREFIX, sha256_of
from medqa_finetune.record.schema import FileStamp


def stamps_below(folder: Path, leave_out: Sequence[str] = ()) -> dict[str, FileStamp]:
    """Return the stamp of every file below a folder, by relative path with `/`, sorted.

    Args:
        folder: Where to look.
        leave_out: Names of files and folders in it that do not count. Temporary files never do.
    """
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = (path for path in paths if path.parts[0] not in leave_out and not _is_temporary(path))
    return {path.as_posix(): stamp_of(folder / path) for path in sorted(kept)}


def stamp_of(path: Path) -> FileStamp:
    """Return the stamp of one file."""
    return FileStamp(path.stat().st_size, sha256_of(path))


def damages(folder: Path, stamps: Mapping[str, FileStamp]) -> list[str]:
    """Return one line per file that is not as it was stamped: missing, of another size, or of another content."""
    found = []
    for name, stamp in stamps.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != stamp.size:
            found.append(f"{name} has {path.stat().st_size:,} bytes instead of {stamp.size:,}")
        elif sha256_of(path) != stamp.sha256:
            found.append(f"{name} has changed (its sha256 is another)")
    return found


def _is_temporary(path: Path) -> bool:
    return any(part.startswith(TEMPORARY_PREFIX) for part in path.parts)
