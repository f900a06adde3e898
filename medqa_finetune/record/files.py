"""Atomic writes: to a temporary file, flushed to disk, renamed into place.

Each looks right before whether this process still holds the lease of the folder, if it held one (`lease.check_held`).
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from medqa_finetune.record.lease import check_held

TEMPORARY_PREFIX = ".writing-"
BLOCK = 1 << 16

# These may be links to a file that other processes write to as well.
STREAMS = (Path("/dev/stdout"), Path("/dev/stderr"))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` if the block ends without an error, and is removed otherwise.

    The target of a link is replaced, not the link; devices and pipes (`/dev/stdout`) are written in place.
    """
    if path in STREAMS or (path.exists() and not path.is_file() and not path.is_dir()):
        with path.open("ab") as file:
            yield file
        return
    check_held(path)
    typed, path = path, Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY_PREFIX}{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        check_held(typed)
        Path(temporary).replace(path)
        sync(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, atomically."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 text file, atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: object) -> None:
    """Write indented UTF-8 JSON, atomically. NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def append_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Append rows as JSON Lines in one write, flushed to disk before it returns.

    An incomplete last line, left by a crash, is cut off first, so that the new rows do not continue it.
    """
    check_held(path)
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    with path.open("ab+") as file:
        _cut_torn_line(file)
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def _cut_torn_line(file: BinaryIO) -> None:
    end = start = file.seek(0, os.SEEK_END)
    tail = b""
    # Reads from the end, since prediction files are long and almost always complete.
    while start > 0 and b"\n" not in tail:
        start = max(0, start - BLOCK)
        file.seek(start)
        tail = file.read(min(BLOCK, end - start))
    whole = start + tail.rfind(b"\n") + 1
    if whole < end:
        file.truncate(whole)


def replace_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a new folder next to `path`, then replace `path` with it.

    The old folder is renamed away before the new one takes its name, and deleted last: at every moment one of the
    two is whole on disk.
    """
    check_held(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{TEMPORARY_PREFIX}{path.name}-"))
    fresh.chmod(0o755)
    retired = fresh.with_name(fresh.name + "-old")
    try:
        fill(fresh)
        check_held(path)
        if path.exists():
            path.rename(retired)
        fresh.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if retired.exists() and not path.exists():
            retired.rename(path)
        shutil.rmtree(retired, ignore_errors=True)


def keep_lines(path: Path, count: int) -> None:
    """Cut a file after its first `count` lines, atomically; shorter files with a complete last line stay."""
    content = path.read_bytes() if path.is_file() else b""
    kept = b"".join(line + b"\n" for line in content.split(b"\n")[:-1][:count])
    if kept != content:
        write_bytes(path, kept)


def sweep(folder: Path, name: str = "") -> None:
    """Remove the temporary files and folders that killed writers left directly in `folder`.

    Args:
        folder: Folder to search. The caller ensures that nothing else writes there.
        name: Name of the file or folder that was being written; empty for any.
    """
    for path in folder.glob(f"{TEMPORARY_PREFIX}{name}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def existing_part(path: Path) -> Path:
    """Return the path itself, or the nearest folder above it that exists."""
    path = path.absolute()
    return next((folder for folder in (path, *path.parents) if folder.exists()), path)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk, so that writes and renames survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes in hexadecimal; memory is bounded."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the sha256 of a text's UTF-8 bytes in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
