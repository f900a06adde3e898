"""The real command line, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# A whole experiment in seconds: the embedded corpus, 20 training pairs at data=20k, 4 test questions.
TINY = (
    "profile=demo", "model=local", "data.scale=0.001", "data.validation_size=4000", "data.test_size=4000",
    "train.max_steps=3", "evaluate.max_new_tokens=8", "tracker=none", "threads=1",
)  # fmt: skip


def train(*arguments: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the door `train`."""
    return python("-m", "medqa_finetune.train", *arguments, cwd=cwd, timeout=timeout)


def python(*arguments: str, cwd: Path, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user does who has no model in a cache and no network; `variables` join the environment."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env=_environment(cwd) | variables, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=timeout,
    )  # fmt: skip


def start(*arguments: str, cwd: Path) -> "subprocess.Popen[bytes]":
    """Start the door `train` and return at once; what it says is dropped."""
    return subprocess.Popen(
        [sys.executable, "-m", "medqa_finetune.train", *arguments],
        cwd=cwd, env=_environment(cwd), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _environment(cwd: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "no-cache")}


def files_below(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return time of change and content of every file, by its path, lock files left out."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }
