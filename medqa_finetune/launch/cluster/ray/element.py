"""What runs on a node for each start of a cell: its command line, until it ends or has to stop.

Ray kills the worker and its child as soon as their task, its driver or its node is gone. What runs the cell is neither:
it sees its standard input close then, and gives the cell its time to write a checkpoint.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from medqa_finetune.errors import EXIT_DONE
from medqa_finetune.launch.cluster.naming import RAY
from medqa_finetune.launch.cluster.start import Start, count_start, give_up, run_cell
from medqa_finetune.launch.exit_status import ExitStatus
from medqa_finetune.stopping import LAUNCHER_VARIABLE

POLL_SECONDS = 0.5
# Why a cell was asked to stop.
Cause = Literal["", "asked", "time"]


def main(arguments: Sequence[str]) -> int:
    """Run the cell that the arguments name, in a process that outlives this one; return its exit code."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.setsid()
    return work(arguments)


def work(arguments: Sequence[str]) -> int:
    """Run the cell that the arguments name, and print how it ended, as JSON."""
    given = dict(each.split("=", 1) for each in arguments[: list(arguments).index("--")])
    start = read_start(arguments)
    with _printing_to(start.log_path) as answer:
        cell = start.cell()
        stalled = count_start(start, cell, given["job"], is_further=int(given["start"]) > 1)
        if stalled >= start.stalled_starts:
            answer.write(as_answer(give_up(start, cell, stalled), ""))
            return EXIT_DONE
        limit = float(given["seconds"]) if "seconds" in given else None
        child = Child(sys.stdin.fileno(), limit, float(given["grace_seconds"]))
        status, _ = run_cell(start, cell, child.run, is_stopping=lambda: bool(child.cause))
        if child.cause == "time":
            start.say("its time limit is near")
        # Nobody may read it any more.
        with contextlib.suppress(BrokenPipeError):
            answer.write(as_answer(status, child.cause))
            answer.flush()
    return EXIT_DONE


def read_start(arguments: Sequence[str]) -> Start:
    """Return what the task is given: `key=value …  -- COMMAND`."""
    end = list(arguments).index("--")
    given = dict(each.split("=", 1) for each in arguments[:end])
    return Start(
        RAY,
        Path(given["folder"]),
        given["name"],
        arguments[end + 1 :],
        retries=int(given["retries"]),
        stalled_starts=int(given["stalled_starts"]),
        processes=int(given["processes"]),
    )


@dataclass(frozen=True)
class Answer:
    """How a start ended: as in `ExitStatus`, and why the cell was asked to stop; empty if it was not."""

    status: ExitStatus
    cause: Cause


def as_answer(status: ExitStatus, cause: Cause) -> str:
    """Return how a start ended as JSON."""
    fields = {"state": status.state, "reason": status.reason, "lines": list(status.lines), "cause": cause}
    return json.dumps(fields | {"faults": [fault.as_json() for fault in status.faults]}) + "\n"


def read_answer(text: str) -> Answer:
    """Return how a start ended, from its JSON."""
    from medqa_finetune.errors import Fault

    said = json.loads(text)
    faults = [Fault.from_json(each) for each in said["faults"]]
    return Answer(ExitStatus(said["state"], said["reason"], said["lines"], faults=faults), said["cause"])


class Child:
    """The cell's process, which is asked to stop when a pipe closes, or when its time limit is near.

    Args:
        pipe: Descriptor of the pipe.
        seconds: Time limit of all its attempts together; None without one.
        grace_seconds: Seconds between asking it to stop and killing it.

    Attributes:
        cause: Why it was asked to stop; empty if it was not.
    """

    def __init__(self, pipe: int, seconds: float | None, grace_seconds: float) -> None:
        self.cause: Cause = ""
        self._pipe = pipe
        self._grace = grace_seconds
        self._stops_at = None if seconds is None else time.monotonic() + seconds - grace_seconds

    def run(self, command: Sequence[str], variables: Mapping[str, str], log: IO[bytes]) -> int:
        """Run a command line until it ends; return its exit code."""
        # It stops by itself when this process is killed.
        own = {LAUNCHER_VARIABLE: str(os.getpid())}
        with subprocess.Popen(
            command, env={**os.environ, **variables, **own}, stdin=subprocess.PIPE, stdout=log, stderr=log,
            start_new_session=True,
        ) as process:  # fmt: skip
            killed_at = None
            while process.poll() is None:
                if killed_at is None and (cause := self._cause_to_stop()):
                    self.cause = cause
                    process.terminate()
                    killed_at = time.monotonic() + self._grace
                if killed_at is not None and time.monotonic() >= killed_at:
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
            # With what it left running, which would hold memory.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def _cause_to_stop(self) -> Cause:
        if select.select([self._pipe], [], [], 0)[0] and not os.read(self._pipe, 1024):
            return "asked"
        return "time" if self._stops_at is not None and time.monotonic() >= self._stops_at else ""


@contextlib.contextmanager
def _printing_to(path: Path) -> Iterator[IO[str]]:
    """Let this process print into a file within the block; yields its former standard output."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    with path.open("ab") as log, answer:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        yield answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
