"""Runs commands as a user types them, each in its own process, and reads what they leave in a folder."""

import contextlib
import io
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medqa_finetune.config.command_line import run_command
from scripts import command_line
from scripts.command_line import ROOT, environment
from tests import warm

__all__ = ["ROOT", "TINY", "UNTRAINED", "files_below", "here", "python", "start", "timed", "train"]
# A whole experiment in seconds: the embedded corpus, 20 training examples at data=20k, 4 test questions.
TINY = (
    "profile=demo", "model=local", "data.scale=0.001", "data.validation_size=4000", "data.test_size=4000",
    "train.max_steps=3", "evaluate.max_new_tokens=8", "tracker=none", "threads=1",
)  # fmt: skip
# The same where nothing is trained.
UNTRAINED = tuple(each for each in TINY if not each.startswith("train."))


def python(*arguments: str, cwd: Path, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the package, a script, or Python with other arguments; in a fork if that makes no difference."""
    whole = environment(cwd) | variables
    if warm.can_run(list(arguments), whole):
        return warm.run(list(arguments), cwd=cwd, timeout=timeout, variables=whole)
    return command_line.python(*arguments, cwd=cwd, timeout=timeout, **variables)


def here(command: Callable[[list[str]], int], *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, whose warnings are errors; return its exit code and what it printed."""
    output, errors = io.StringIO(), io.StringIO()
    printed = contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors)
    with contextlib.chdir(cwd), printed[0], printed[1], pytest.raises(SystemExit) as end:
        run_command(command, arguments)
    assert isinstance(end.value.code, int)
    return subprocess.CompletedProcess(arguments, end.value.code, output.getvalue(), errors.getvalue())


def timed(*arguments: str, cwd: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run Python in a fresh process; return its result and its CPU time in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command_line.python(*arguments, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train(*arguments: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return python("-m", "medqa_finetune.train", *arguments, cwd=cwd, timeout=timeout)


def start(*arguments: str, cwd: Path) -> "subprocess.Popen[bytes]":
    """Start the command `train` and return at once; its output is dropped."""
    return subprocess.Popen(
        [sys.executable, "-m", "medqa_finetune.train", *arguments],
        cwd=cwd, env=environment(cwd), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def files_below(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return modification time and content of every file, by its path, without lock files and bytecode."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".lock", ".lease", ".pyc")
    }
