"""Lends torch's CPU build a CUDA that computes nothing, so that fake tensors on "cuda" go through a whole step."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).with_name("stub.cpp")
COMPILERS = ("c++", "g++", "clang++")
# Torch's libraries, each below the next.
BELOW = ("libtorch_global_deps.so", "libc10.so", "libtorch_cpu.so")
COMPILE_SECONDS = 300


class CannotLendError(Exception):
    """Nothing can be lent here; the message says why, as the reason of a skipped test."""


@cache
def lack() -> str | None:
    """Return why nothing can be lent on this machine; None where it can."""
    if not sys.platform.startswith("linux"):
        return "the stub of CUDA is built on Linux alone"
    if (_torch() / "lib" / "libtorch_cuda.so").exists():
        return "this torch was built for CUDA and takes no stub of it"
    if _compiler() is None:
        return f"no compiler of C++ ({', '.join(COMPILERS)})"
    return None


def library() -> Path:
    """Return the compiled stub, from the user's cache folder if it was compiled for this torch before.

    Raises:
        CannotLendError: no compiler, or it fails.
    """
    if (reason := lack()) is not None:
        raise CannotLendError(reason)
    key = hashlib.sha256(SOURCE.read_bytes() + version("torch").encode() + sys.version.encode()).hexdigest()[:16]
    kept = _cache_folder() / f"medqa_fake_cuda_{key}.so"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            made = Path(folder) / kept.name
            _compile(made)
            made.replace(kept)
    return kept


def lend_cuda() -> None:
    """Load the stub. Must come before torch is imported, so it needs a process of its own.

    Raises:
        CannotLendError: torch is imported already, or there is no stub.
    """
    if "torch" in sys.modules:
        raise CannotLendError("torch is imported already")
    stub = library()
    for name in BELOW:
        path = _torch() / "lib" / name
        if path.exists():
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(stub), mode=ctypes.RTLD_GLOBAL)


def _torch() -> Path:
    found = find_spec("torch")
    if found is None or found.origin is None:
        raise CannotLendError("torch is not installed")
    return Path(found.origin).parent


def _compiler() -> str | None:
    return next((path for name in COMPILERS if (path := shutil.which(name)) is not None), None)


def _cache_folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(given) if given else Path.home() / ".cache") / "medqa_finetune"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / "medqa_finetune"
    return folder


def _compile(target: Path) -> None:
    include = _torch() / "include"
    command = [
        str(_compiler()), "-O0", "-shared", "-fPIC", "-std=c++20", f"-I{include}",
        f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", str(SOURCE), "-o", str(target),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_SECONDS)
    if done.returncode:
        raise CannotLendError(f"{command[0]} cannot compile the stub of CUDA: {done.stderr.strip()[-400:]}")
