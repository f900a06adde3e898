"""The process of one cell, and the command line that starts it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medqa_finetune.child_process import FAULTS_VARIABLE, faults_file, last_lines, read_faults
from medqa_finetune.errors import Fault
from medqa_finetune.languages.choice import VARIABLE as LANGUAGE_VARIABLE
from medqa_finetune.launch.planned import PLANNED_VARIABLE, as_text
from medqa_finetune.progress import PROGRESS_VARIABLE
from medqa_finetune.record.run_dir import this_process
from medqa_finetune.record.schema import Process
from medqa_finetune.stopping import LAUNCHER_VARIABLE

if TYPE_CHECKING:
    # The launcher also serves Hydra programs other than this one.
    from medqa_finetune.cell import Cell

# Hydra's flags for configuration folders; a cell must use the same ones.
SEARCH_FLAGS = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")


def cell_command(overrides: Sequence[str]) -> list[str]:
    """Return the command line that runs one cell with the current program."""
    program = sys.modules["__main__"]
    name = program.__spec__.name if program.__spec__ else None
    start = ["-m", name] if name else [str(Path(sys.argv[0]).resolve())]
    return [sys.executable, *start, *_search_flags(sys.argv[1:]), *overrides]


def _search_flags(arguments: Sequence[str]) -> list[str]:
    flags: list[str] = []
    for position, argument in enumerate(arguments):
        flag, equals, _ = argument.partition("=")
        if flag in SEARCH_FLAGS:
            flags += [argument] if equals else list(arguments[position : position + 2])
    return flags


def _written(cell: "Cell", path: Path) -> Path:
    """Write a cell for the process that runs it, and return the path."""
    path.write_text(as_text(cell), encoding="utf-8")
    return path


class CellProcess:
    """The process of one attempt, in its own session, so that Ctrl-C reaches the launcher alone.

    Its output goes to an unnamed file, not to a pipe: a cell outlives a killed launcher until it has written a
    checkpoint, and would die at its next line if nobody read the pipe.

    Args:
        command: Its command line.
        environment: Variables added to those of this process.
        cell: What it is given to run; None for a program without cells.
        files: Numbers of open files that it keeps open until it ends.

    Attributes:
        faults: Why it refused its arguments; available after it has ended.
        progress_path: File to which it writes what it is doing.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        cell: "Cell | None" = None,
        files: Sequence[int] = (),
    ) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `end`)
        self._ended: tuple[int, list[str]] | None = None
        self.faults: list[Fault] = []
        self._refusal = contextlib.ExitStack()
        self._refusal_path = self._refusal.enter_context(faults_file())
        self.progress_path = self._refusal_path.with_name("progress.json")
        variables = {
            PROGRESS_VARIABLE: str(self.progress_path),
            LAUNCHER_VARIABLE: str(os.getpid()),
            "PYTHONFAULTHANDLER": "1",
            # Its output may become part of its record.
            LANGUAGE_VARIABLE: "en",
            FAULTS_VARIABLE: str(self._refusal_path),
        }
        try:
            if cell is not None:
                variables[PLANNED_VARIABLE] = str(_written(cell, self._refusal_path.with_name("cell.json")))
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **variables, **environment},
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=files,
            )
        except OSError:
            self._output.close()
            self._refusal.close()
            raise

    @property
    def identity(self) -> Process:
        """Process identity in the form used by records."""
        return Process(self._process.pid, this_process().host)

    def exit_code(self) -> int | None:
        """Return its exit code; a negative signal number if a signal killed it; None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Send SIGTERM; a cell then writes a checkpoint and ends."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill it and any processes it left running, which would hold memory."""
        if self._ended is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> tuple[int, list[str]]:
        """Kill the cell if it still runs; return the exit code and the last output lines."""
        if self._ended is None:
            self.kill()
            with self._process, self._output, self._refusal:
                self._ended = self._process.wait(), last_lines(self._output)
                self.faults = read_faults(self._refusal_path)
        return self._ended
