"""Small programs that stand for cells, and end in every way a process can."""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from medqa_finetune.record.schema import Record

ROOT = Path(__file__).parents[2]
PENDING = Record(
    name="cell", identity="i", status="pending", method="lora", data="20k", model="tiny", seed=0, config={}
)
# What a child begins with: it has its record at hand as an experiment has.
IMPORTS = (
    f"import os, signal, subprocess, sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
    "from pathlib import Path\n"
    "from medqa_finetune.record.run_dir import RunDir, this_process\n"
    "from medqa_finetune.record.schema import Failure\n"
    "run = RunDir(Path(sys.argv[1]))\n"
)
RUNNING = "run.update(status='running', process=this_process(), failure=None)\n"
BEGIN = IMPORTS + RUNNING
DONE = "run.update(status='done')\n"


def child(folder: Path, code: str) -> list[str]:
    """Return the command line of a child whose run lies in `folder`."""
    return [sys.executable, "-c", code, str(folder)]


@contextlib.contextmanager
def no_child_is_left() -> Iterator[None]:
    """Check that what the block starts ends with it; the process that forks commands for tests may be there before."""
    before = set(psutil.Process().children())
    yield
    assert not set(psutil.Process().children()) - before


def gone(pid: int) -> bool:
    """Say whether a process ends within some seconds; a zombie that nobody waits for counts as ended."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def wait_for(path: Path, seconds: float = 30) -> str:
    """Return the content of a file that another process writes, as soon as there is one."""
    for _ in range(int(seconds / 0.05)):
        if path.is_file() and (text := path.read_text(encoding="utf-8")):
            return text
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")
