"""What Ray's workers do: run a command line, and look for files. They know nothing else of this package.

Arguments and results are texts, so that nothing of ours is pickled.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

MOST_WORDS = 2000


def run_command(command: Sequence[str], folder: str) -> str:
    """Run a command line to its end, and return what it prints.

    Its standard input is a pipe that closes when this task is cancelled, or when the worker ends for any reason; the
    command stops then in its own time.

    Args:
        command: The command line.
        folder: Its working directory.

    Raises:
        RuntimeError: it failed; the end of what it wrote to its standard error.
    """
    read, write = os.pipe()
    held = [write]

    def stop(*_: object) -> None:
        while held:
            os.close(held.pop())

    # Ray cancels a task by an interrupt of the worker's main thread.
    before = signal.signal(signal.SIGINT, stop)
    try:
        process = subprocess.Popen(
            command, cwd=folder, stdin=read, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        os.close(read)
        while True:
            try:
                said, errors = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                # The interrupt is served between two waits.
                continue
    finally:
        signal.signal(signal.SIGINT, before)
        stop()
    if process.returncode or not said.strip():
        raise RuntimeError(f"exit code {process.returncode}: {errors.strip()[-MOST_WORDS:]}")
    return said


def missing_paths(paths: Sequence[str]) -> str:
    """Return those of some paths that are not on this machine, a line each."""
    return "\n".join(path for path in paths if not Path(path).exists())
