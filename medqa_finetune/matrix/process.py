"""One cell in a process of its own, watched from outside."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medqa_finetune.errors import DataError, MedQAError
from medqa_finetune.record.run_dir import RunDir, now
from medqa_finetune.record.schema import Failure, Record, Status

POLL_SECONDS = 0.2
GRACE_SECONDS = 60.0
TAIL_LINES = 20
# Flags of Hydra that decide where configuration is found; a cell must look in the same places.
SEARCH_FLAGS = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")


def cell_command(overrides: Sequence[str]) -> list[str]:
    """Return the command line that runs one cell with the program that is running now."""
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


def run_cell(command: Sequence[str], run: RunDir, watch: Callable[[float], None]) -> Record | None:
    """Run a cell to its end and return its record as it then stands; None if the cell left none.

    However the process ends, the record says so: a crash that the cell could not record itself is recorded here.

    Args:
        command: What to run.
        run: The cell's folder.
        watch: Called a few times a second with the seconds since the start.
    """
    started = time.monotonic()
    before = _read(run)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    # A session of its own: Ctrl-C reaches the launcher alone, which then stops the cell in good order.
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        reader = threading.Thread(target=_keep_tail, args=(process, tail), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                watch(time.monotonic() - started)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
        except BaseException:
            _stop(process)
            _end_group(process)
            _settled(run, before, _Ending("interrupted", process.returncode, tail))
            raise
        _end_group(process)
        reader.join()
    return _settled(run, before, _Ending("failed", process.returncode, tail))


def _keep_tail(process: "subprocess.Popen[bytes]", tail: "deque[str]") -> None:
    assert process.stderr is not None  # noqa: S101 (it is a pipe)
    for line in process.stderr:
        tail.append(line.decode("utf-8", errors="replace").rstrip())


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End what an ended cell left running: it would hold memory, and our end of the cell's standard error open."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True)
class _Ending:
    """How a cell's process ended: the status this gives a run that is not done, its exit code, its last lines."""

    status: Status
    code: int
    tail: "deque[str]"


def _read(run: RunDir) -> Record | None:
    try:
        return run.read()
    except DataError:
        return None


def _settled(run: RunDir, before: Record | None, ending: _Ending) -> Record | None:
    """Return the cell's record; what the cell did not record itself is recorded here.

    Args:
        run: The cell's folder.
        before: Its record before the cell was started. If it is still the same, it says nothing of this start.
        ending: How the cell's process ended.
    """
    record = _read(run)
    if record is None or (record.status == "done" and ending.code == 0):
        return record
    if record.status in ("done", "failed", "interrupted") and record != before:
        return record
    lines = [line for line in ending.tail if line.strip()]
    kind = signal.Signals(-ending.code).name if ending.code < 0 else f"exit code {ending.code}"
    message = f"the process ended with {kind} before the run was done"
    message += _hint(ending.code) + (f"; last words: {' | '.join(lines[-3:])[:500]}" if lines else "")
    settled = record.updated(status=ending.status, failure=Failure(kind, message), finished=now())
    if record.status != "done":
        # If another process is at work on this run, its record is not ours to write.
        with contextlib.suppress(MedQAError, OSError), run.lock():
            run.write(settled)
            with run.log_path.open("a", encoding="utf-8") as log:
                log.write("\n".join([message, *lines, ""]))
    return settled


def _hint(code: int) -> str:
    return " (killed from outside: often the system, out of memory)" if code in (-signal.SIGKILL, 137) else ""
