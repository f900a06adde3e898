"""How a start of a cell ended: what its record says, or what is put there when the cell could not say it itself."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from medqa_finetune.child_process import exit_name
from medqa_finetune.errors import EXIT_BAD_INPUT, DataError, Fault, MedQAError
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import now
from medqa_finetune.record.schema import Failure, Process, Record
from medqa_finetune.stopping import EXIT_OFFSET, SIGNALS

# Who stops a cell from outside wants it stopped; SIGUSR1 is what some schedulers send.
STOPPED = {code for number in (*SIGNALS, signal.SIGUSR1) for code in (EXIT_OFFSET + number, -number)}
KILLED = (-signal.SIGKILL, EXIT_OFFSET + signal.SIGKILL)


@dataclass(frozen=True)
class Ending:
    """How a start of a cell ended.

    Attributes:
        state: `taken`: another process works on the run, or has worked on it since.
        reason: Why it is not done, in a line or two.
        lines: The last lines it printed.
        again: Whether another start may end otherwise.
        by_another: The run is done by another process's work.
    """

    state: Literal["done", "failed", "interrupted", "taken"]
    reason: str = ""
    lines: Sequence[str] = ()
    again: bool = False
    by_another: bool = False


TAKEN = Ending("taken", "another process works on this run")


@dataclass(frozen=True)
class Start:
    """What is known of a start of a cell before it ends.

    Attributes:
        run: The cell's folder.
        before: The record then; None for a program that keeps none.
        process: The cell's process; None if whoever wrote the record since is taken for the cell.
        overwrites: Whether a result that was there before is to be made anew.
    """

    run: CellDir
    before: Record | None
    process: Process | None
    overwrites: bool = False


def read_or_none(run: CellDir) -> Record | None:
    """Return the run's record; None where there is none that can be read."""
    try:
        return run.read()
    except DataError:
        return None


def judge(start: Start, code: int, lines: Sequence[str], faults: Sequence[Fault], stopping: bool) -> Ending:
    """Return how a start has ended whose process is gone, and see to it that the run's record says so too.

    Args:
        start: What was started.
        code: The process's exit code, minus the signal's number if one killed it.
        lines: The last lines it printed.
        faults: Why it was refused, as the process left them; none where it left none.
        stopping: Whether the launcher asked it to stop.
    """
    run, record = start.run, read_or_none(start.run)
    changed = record != start.before
    foreign = changed and _is_by_another(record, start.process)
    if record is not None and record.status == "done" and (changed or (code == 0 and not start.overwrites)):
        return Ending("done", by_another=foreign)
    if foreign or _is_held(run):
        return TAKEN
    if record is None:
        return _judge_by_code(start, code, lines, faults, stopping)
    if not (changed and record.status in ("failed", "interrupted")):
        failure = Failure(
            exit_name(code),
            _explain(code, lines, faults, stopping),
            final=code == EXIT_BAD_INPUT,
            faults=[fault.as_json() for fault in faults],
        )
        ended = record.updated(
            status="interrupted" if stopping or code in STOPPED else "failed", failure=failure, finished=now()
        )
        if record.status != "done" and not _put(run, record, ended, lines):
            return TAKEN
        record = ended
    failed, final = record.status == "failed", record.failure is not None and record.failure.final
    reason = record.failure.message if record.failure is not None else "no reason recorded"
    again = failed and not final and code != EXIT_BAD_INPUT and not stopping
    return Ending("failed" if failed else "interrupted", reason, lines, again)


def _is_by_another(record: Record | None, process: Process | None) -> bool:
    return record is not None and None not in (record.process, process) and record.process != process


def _judge_by_code(start: Start, code: int, lines: Sequence[str], faults: Sequence[Fault], stopping: bool) -> Ending:
    """Judge a start that left no record."""
    reason = _explain(code, lines, faults, stopping)
    if start.before is not None:
        gone = f"its record {start.run.record_path} is gone or torn: the folder was changed while it ran"
        return Ending("failed", gone, lines)
    if code == 0:
        return Ending("done")
    if stopping or code in STOPPED:
        return Ending("interrupted", reason, lines)
    return Ending("failed", reason, lines, again=code != EXIT_BAD_INPUT)


def _put(run: CellDir, seen: Record, ended: Record, lines: Sequence[str]) -> bool:
    """Write how the run ended, unless another process has taken it over since `seen`; say whether it is still ours."""
    try:
        with run.lock():
            if read_or_none(run) != seen:
                return False
            run.write_ending(ended)
            with run.log_path.open("a", encoding="utf-8") as log:
                log.write("\n".join([ended.failure.message if ended.failure else "", *lines, ""]))
    except (MedQAError, OSError):
        # On a full disk or in a folder that became read-only, the launcher still says what happened.
        return not _is_held(run)
    return True


def _is_held(run: CellDir) -> bool:
    """Say whether another process holds the run; one that the cell itself left behind is just being killed."""
    for _ in range(10):
        if not run.is_locked():
            return False
        time.sleep(0.1)
    return True


def _explain(code: int, lines: Sequence[str], faults: Sequence[Fault], stopping: bool) -> str:
    if faults:
        return "\n".join(fault.line() for fault in faults)
    if code == EXIT_BAD_INPUT and lines:
        return lines[-1]
    message = f"the process ended with {exit_name(code)} before the run was done"
    if stopping and code == -signal.SIGKILL:
        message = "it was asked to stop, did not in time, and was killed"
    elif code in STOPPED:
        message = f"it was stopped from outside ({exit_name(code)}) before it could say so itself"
    elif code in KILLED:
        message += " (killed from outside: often the system, out of memory)"
    words = " | ".join(line.strip() for line in _last_words(lines))[:500]
    return message + (f"; last words: {words}" if words else "")


def _last_words(lines: Sequence[str]) -> Sequence[str]:
    """Return the three lines that say most: of a crash in native code the top of Python's own report, else the last."""
    told = [line for line in lines if line.strip() and not line.startswith("Extension modules:")]
    crash = next((place for place, line in enumerate(told) if line.startswith("Fatal Python error:")), None)
    return told[-3:] if crash is None else told[crash : crash + 3]
