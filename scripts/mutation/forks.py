"""Runs pytest in forks of one process that has imported the libraries, but nothing of the project.

`scripts/mutate.py` starts it in the project's folder. A line of its input is a JSON list: arguments of pytest, and the
seconds that they may take, or null. The answer is `passed`, `failed` or `timed out`. What the tests of the first line
import from outside the project is imported for all that follow. Linux and macOS only, as `os.fork` is.
"""

import gc
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

PAUSE_SECONDS = 0.02


def main() -> None:
    """Answer until standard input is closed."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        silent = os.open(os.devnull, os.O_RDWR)
        os.dup2(2, 1)
        knows_libraries = False
        for line in sys.stdin:
            arguments, seconds = json.loads(line)
            reading, writing = os.pipe()
            if (child := os.fork()) == 0:
                os.setpgid(0, 0)
                # Without a limit of time, nothing is mutated, and what fails is shown.
                for number in (0,) if seconds is None else (0, 1, 2):
                    os.dup2(silent, number)
                code = pytest.main(arguments)
                if not knows_libraries:
                    os.write(writing, json.dumps(_libraries(Path.cwd())).encode())
                raise SystemExit(code)
            os.close(writing)
            with os.fdopen(reading, encoding="utf-8") as names:
                if not knows_libraries:
                    _load(json.loads(names.read() or "[]"))
                    knows_libraries = True
            answers.write(_outcome(child, seconds) + "\n")


def _libraries(root: Path) -> list[str]:
    """Return the modules of this process that are not the project's, in the order in which they were imported."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    own = {name.partition(".")[0] for name, file in files.items() if file and Path(file).is_relative_to(root)}
    return [name for name, file in files.items() if file and name.partition(".")[0] not in {*own, "__main__"}]


def _load(names: Sequence[str]) -> None:
    for name in names:
        # Some are made by their parents and cannot be imported by name.
        with suppress(Exception):
            importlib.import_module(name)
    # Garbage collection in a fork would copy memory page by page.
    gc.collect()
    gc.freeze()


def _outcome(child: int, seconds: float | None) -> str:
    until = time.monotonic() + seconds if seconds is not None else float("inf")
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return "passed" if status == 0 else "failed"
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timed out"
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
