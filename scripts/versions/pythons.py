"""Pythons on this machine, by version: on PATH, and in the folders of pyenv and uv, which need not be on it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Versions that the lock is made for.
OLDEST, NEWEST = (3, 11), (3, 14)
# A version manager's shim may be on PATH without a Python to start.
SECONDS_TO_START = 20
ASKS = "import ensurepip, sys, venv; print('.'.join(map(str, sys.version_info[:3])))"
WINDOWS = os.name == "nt"


class NoSuchPythonError(Exception):
    """No Python of the version asked for can be started."""


def find_python(version: str | None) -> tuple[str, Path]:
    """Return the version and the path of a Python that can make environments.

    Args:
        version: As in `3.12` or `3.12.1`; None for the one that runs this.

    Raises:
        NoSuchPythonError: with those that were found.
    """
    if version is None:
        return ".".join(map(str, sys.version_info[:3])), Path(sys.executable)
    if not re.fullmatch(r"3(\.\d+){1,2}", version):
        raise NoSuchPythonError(f"--python {version}: must be a version such as 3.12.")
    if not OLDEST <= _numbers(version)[:2] <= NEWEST:
        raise NoSuchPythonError(f"--python {version}: the lock is made for {_text(OLDEST)} to {_text(NEWEST)}.")
    for path in candidates(version):
        found = version_of(path)
        if found is not None and (found == version or found.startswith(f"{version}.")):
            return found, path
    known = ", ".join(f"{found} ({path})" for found, path in all_pythons()) or "none"
    raise NoSuchPythonError(f"--python {version}: not found on PATH or in the folders of pyenv and uv; found: {known}.")


def all_pythons() -> list[tuple[str, Path]]:
    """Return every version from `OLDEST` to `NEWEST`, the oldest first, with the first path that starts it."""
    found: dict[str, Path] = {}
    for path in candidates(None):
        version = version_of(path)
        if version is not None and OLDEST <= _numbers(version)[:2] <= NEWEST:
            found.setdefault(version, path)
    return sorted(found.items(), key=lambda item: _numbers(item[0]))


def candidates(version: str | None) -> Iterator[Path]:
    """Yield paths that may be a Python of a version; of any, for None."""
    minor = "3*" if version is None else ".".join(version.split(".")[:2])
    end = ".exe" if WINDOWS else ""
    name = f"python{end}"
    yield Path(sys.executable)
    for folder in filter(None, os.environ.get("PATH", "").split(os.pathsep)):
        for pattern in (f"python{minor}{end}", f"python3{end}", name):
            yield from _files(Path(folder), pattern)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local" / "share" / "uv" / "python"))
    for root, prefix in ((pyenv / "versions", ""), (uv, "cpython-")):
        # The newest patch of a version first.
        for found in sorted(root.glob(f"{prefix}{minor}.*"), key=lambda path: _numbers(path.name), reverse=True):
            yield found / name if WINDOWS else found / "bin" / name


def version_of(path: Path) -> str | None:
    """Return the version that a Python says; None where it does not start or cannot make environments."""
    try:
        done = subprocess.run(
            [path, "-c", ASKS], capture_output=True, text=True, timeout=SECONDS_TO_START, check=True
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _files(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(path for path in folder.glob(pattern) if re.fullmatch(r"python(3(\.\d+)?)?(\.exe)?", path.name))
    except OSError:
        return []


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
