"""Classifies how an attempt at a cell ended, and records failures that the cell could not record itself."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from medqa_finetune.child_process import exit_name
from medqa_finetune.errors import EXIT_BAD_INPUT, HELD_ELSEWHERE, DataError, Fault, MedQAError
from medqa_finetune.languages.translate import Kind, translated
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import now
from medqa_finetune.record.schema import Failure, Process, Record
from medqa_finetune.stopping import EXIT_OFFSET, SIGNALS

# A cell that is stopped from outside is not started again; some schedulers send SIGUSR1.
STOPPED = {code for number in (*SIGNALS, signal.SIGUSR1) for code in (EXIT_OFFSET + number, -number)}
KILLED = (-signal.SIGKILL, EXIT_OFFSET + signal.SIGKILL)


@dataclass(frozen=True)
class ExitStatus:
    """The classified end of an attempt at a cell.

    Attributes:
        state: A status of the record, or `taken`: another process works on the run, or has since worked on it.
        reason: Why the cell is not done.
        lines: Last lines of its output.
        may_retry: Whether another attempt may succeed.
        by_another: Whether another process has done the run.
        faults: What `reason` says, with its fields; empty where only the reason is known.
    """

    state: Literal["done", "failed", "interrupted", "taken"]
    reason: str = ""
    lines: Sequence[str] = ()
    may_retry: bool = False
    by_another: bool = False
    faults: Sequence[Fault] = field(default=(), compare=False)

    def shown_reason(self) -> str:
        """Return the reason in the chosen language."""
        lines = [fault.shown_line() for fault in self.faults]
        return "\n".join(lines) or translated(self.reason, Kind.FAULT)


TAKEN = ExitStatus("taken", "another process works on this run")
# A machine that shares the storage alone; only a start of the cell shows when it is done.
TAKEN_ELSEWHERE = ExitStatus("taken", "another machine works on this run")


@dataclass(frozen=True)
class Attempt:
    """One start of a cell, before it ends.

    Attributes:
        run: The cell's folder.
        before: The record when it started; None for a program without records.
        process: The cell's process; None if whoever has written the record since counts as the cell.
        overwrites: Whether an existing result in `before` is overwritten.
    """

    run: CellDir
    before: Record | None
    process: Process | None
    overwrites: bool = False


def read_or_none(run: CellDir) -> Record | None:
    """Return the run's record; None if it is missing or unreadable."""
    try:
        return run.read()
    except DataError:
        return None


def summarize_record(record: Record | None) -> str:
    """Return a short text on how a run ended; without a record, only that it ended."""
    if record is None:
        return "done"
    if record.status != "done":
        return f"{record.status}: {record.failure.message if record.failure else 'no reason recorded'}"
    # The launcher starts any Hydra program; descriptions of metrics load numpy.
    from medqa_finetune.evaluation.metric_registry import shortlist
    from medqa_finetune.evaluation.metrics.base import Prominence

    scores = record.evaluation.scores if record.evaluation is not None else {}
    short = [score for score in shortlist() if score.name in scores]
    # Perplexity is shown if no other shortlisted score was computed; it is the only score of running text.
    shown = [score for score in short if score.prominence is Prominence.HEADLINE] or short
    titles = [f"{score.words_in('en').in_sentence} {scores[score.name].value:.{score.digits}f}" for score in shown]
    return "  ".join(["done", *titles])


def classify_exit(
    attempt: Attempt, code: int, lines: Sequence[str], faults: Sequence[Fault], stopping: bool
) -> ExitStatus:
    """Classify an attempt whose process has exited, and update the run's record accordingly.

    Args:
        attempt: The attempt, as described before its process ended.
        code: The process's exit code; a negative signal number if a signal killed it.
        lines: Last lines of its output.
        faults: Faults the process wrote when it refused its input; may be empty.
        stopping: Whether the launcher asked it to stop.
    """
    run, record = attempt.run, read_or_none(attempt.run)
    changed = record != attempt.before
    by_another = changed and _is_by_another(record, attempt.process)
    if record is not None and record.status == "done" and (changed or (code == 0 and not attempt.overwrites)):
        return ExitStatus("done", by_another=by_another)
    if by_another or _is_held(run):
        return TAKEN
    if any(fault.code == HELD_ELSEWHERE for fault in faults):
        return TAKEN_ELSEWHERE
    if record is None:
        return _classify_by_code(attempt, code, lines, faults, stopping)
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
        if record.status != "done" and not _record_exit(run, record, ended, lines):
            return TAKEN
        record = ended
    failed, final = record.status == "failed", record.failure is not None and record.failure.final
    reason = record.failure.message if record.failure is not None else "no reason recorded"
    may_retry = failed and not final and code != EXIT_BAD_INPUT and not stopping
    known = [] if record.failure is None else list(map(Fault.from_json, record.failure.faults))
    return ExitStatus("failed" if failed else "interrupted", reason, lines, may_retry, faults=known)


def classify_loss(run: CellDir, state: Literal["failed", "interrupted"], fault: Fault) -> ExitStatus:
    """Classify a cell whose process could not say how it ended, such as one whose machine is gone; record that.

    Args:
        run: The cell's folder.
        state: What its record then says.
        fault: Why it is not done.
    """
    record = read_or_none(run)
    if record is not None and record.status == "done":
        return ExitStatus("done")
    failure = Failure("Lost", fault.line(), faults=[fault.as_json()])
    if record is not None:
        ended = record.updated(status=state, failure=failure, finished=now())
        if not _record_exit(run, record, ended, ()):
            return TAKEN
    return ExitStatus(state, fault.line(), faults=[fault])


def _is_by_another(record: Record | None, process: Process | None) -> bool:
    return record is not None and None not in (record.process, process) and record.process != process


def _classify_by_code(
    attempt: Attempt, code: int, lines: Sequence[str], faults: Sequence[Fault], stopping: bool
) -> ExitStatus:
    """Classify by exit code, for an attempt whose record does not say how it ended."""
    reason = _explain(code, lines, faults, stopping)
    if attempt.before is not None:
        gone = f"its record {attempt.run.record_path} is gone or torn: the folder was changed while it ran"
        return ExitStatus("failed", gone, lines)
    if code == 0:
        return ExitStatus("done")
    if stopping or code in STOPPED:
        return ExitStatus("interrupted", reason, lines, faults=faults)
    return ExitStatus("failed", reason, lines, may_retry=code != EXIT_BAD_INPUT, faults=faults)


def _record_exit(run: CellDir, seen: Record, ended: Record, lines: Sequence[str]) -> bool:
    """Write how the run ended; return False, without writing, if another process has taken it over since `seen`."""
    try:
        with run.lock():
            if read_or_none(run) != seen:
                return False
            run.write_ending(ended)
            with run.log_path.open("a", encoding="utf-8") as log:
                log.write("\n".join([ended.failure.message if ended.failure else "", *lines, ""]))
    except (MedQAError, OSError):
        # The launcher reports the outcome even if the disk is full or the folder read-only.
        return not _is_held(run)
    return True


def _is_held(run: CellDir) -> bool:
    """Return whether another process holds the run's lock; a child the cell left behind is about to be killed."""
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
    """Return up to three lines: the top of Python's crash report for a crash in native code, else the last ones."""
    printed = [line for line in lines if line.strip() and not line.startswith("Extension modules:")]
    crash = next((place for place, line in enumerate(printed) if line.startswith("Fatal Python error:")), None)
    return printed[-3:] if crash is None else printed[crash : crash + 3]
