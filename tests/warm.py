"""Runs commands in forks of a process that has already imported what they import, which saves seconds per command.

A fork runs the command's file as `python -m` does, with its own arguments, folder, environment and output. Tests of
start-up itself (order of imports, variables that libraries read on import) use `python` of `scripts/command_line.py`.
"""

import atexit
import multiprocessing
import multiprocessing.context
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from unittest import mock

from scripts.command_line import environment

# Prefixes of variables that no library reads on import.
READ_LATE = ("MEDQA_", "PYTEST_", "HF_HOME", "PWD", "OLDPWD", "TMPDIR")


def can_run(arguments: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Return whether a fork is equivalent to a fresh process for these arguments of Python and these variables."""
    is_command = arguments[:1] == ("-m",) and arguments[1].startswith("medqa_finetune.")
    if sys.platform != "linux" or not (is_command or arguments[0].endswith(".py")):
        return False
    _, known = _server()
    differing = {name for name in {*known, *variables} if known.get(name) != variables.get(name)}
    return all(name.startswith(READ_LATE) for name in differing)


def run(
    arguments: Sequence[str], *, cwd: Path, timeout: float, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `-m MODULE …` or `FILE …` in a fork, as `subprocess.run` does in a fresh process.

    Raises:
        subprocess.TimeoutExpired: the command ran longer than `timeout` seconds.
    """
    context, _ = _server()
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        process = context.Process(target=_become, args=(list(arguments), cwd, dict(variables), output, errors))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout, output.read_bytes(), errors.read_bytes())
        texts = [path.read_bytes().decode("utf-8") for path in (output, errors)]
        return subprocess.CompletedProcess([sys.executable, *arguments], process.exitcode, *texts)


@cache
def _server() -> tuple[multiprocessing.context.ForkServerContext, dict[str, str]]:
    """Return the context that forks such processes, and the environment in which the imports were done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.warm_imports"])
    variables = environment(Path("/nonexistent"))
    with mock.patch.dict(os.environ, variables):
        context.Process(target=os.getpid).start()
    return context, variables


def _become(arguments: list[str], cwd: Path, variables: dict[str, str], output: Path, errors: Path) -> None:
    for descriptor, path in ((1, output), (2, errors)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    try:
        if arguments[0] == "-m":
            name = arguments[1]
            sys.argv = arguments[1:]
            sys.path.insert(0, str(cwd))
            # Python warns when a module that is already imported is run.
            sys.modules.pop(name, None)
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        # Forks of `multiprocessing` do not run exit handlers by themselves.
        atexit._run_exitfuncs()
