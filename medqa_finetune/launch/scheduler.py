"""The jobs of a launch: when each is started and in which slot, what its exit means, and how all are stopped."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from medqa_finetune.launch.exit_status import Attempt, ExitStatus, classify_exit, read_or_none, summarize_record
from medqa_finetune.launch.gpus import Slot
from medqa_finetune.launch.stage import ProgressRows, read_progress
from medqa_finetune.launch.worker import CellProcess, cell_command
from medqa_finetune.record.evaluations import CellDir, evaluation_parts
from medqa_finetune.record.schema import Record

if TYPE_CHECKING:
    # The launcher also serves programs that know nothing of experiments.
    from medqa_finetune.cell import Cell

POLL_SECONDS = 0.2
CHECK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Running:
    """A running attempt at a job: its process, its slot, and how far the run had come before."""

    process: CellProcess
    slot: Slot
    attempt: Attempt
    progress_before: ProgressRows


@dataclass
class Job:
    """A cell that the launcher runs.

    Attributes:
        name: The parts of its name.
        overrides: What its process is started with.
        run: The folder of its run, as its evaluation sees it.
        earlier: Its record when the launch began; None for a program that keeps none.
        overwrites: Whether an earlier result is to be made anew.
        attempts: How often this launch started it.
        first_start: When, on the monotonic clock.
        next_check: When to check again whether another process still works on it; 0 if none did.
        is_contested: Whether an attempt found another process's record and no such process. A program that starts
            itself anew looks like that, so whoever writes the record during the next attempt is taken for the cell.
        running: Its present attempt.
        exit_status: How it ended; None while that is open.
        note: A few words about a cell that is done.
        label: How it is shown: its place among all cells, and what differs between their names.
        seconds: From its first start to its end; None if another process did the work.
    """

    name: Sequence[str]
    overrides: Sequence[str]
    run: CellDir
    earlier: Record | None
    overwrites: bool = False
    attempts: int = 0
    first_start: float | None = None
    next_check: float = 0.0
    is_contested: bool = False
    running: Running | None = None
    exit_status: ExitStatus | None = None
    note: str = ""
    label: str = ""
    seconds: float | None = None

    def finish(self, exit_status: ExitStatus, note: str = "") -> None:
        """Set how it ended."""
        self.exit_status, self.note = exit_status, note
        self.seconds = None if exit_status.by_another else self.elapsed()

    def elapsed(self) -> float | None:
        """Return the seconds since its first start; None if it has not been started."""
        return None if self.first_start is None else time.monotonic() - self.first_start

    def is_done_by(self, record: Record | None) -> bool:
        """Return whether a record leaves nothing to do; an earlier result that is to be made anew does not count."""
        return record is not None and record.status == "done" and not (self.overwrites and record == self.earlier)

    def is_due(self) -> bool:
        """Return whether it may be started now."""
        return self.exit_status is None and self.running is None and time.monotonic() >= self.next_check

    def overrides_now(self, record: Record | None) -> list[str]:
        """Return what its process is started with now: it resumes what an earlier attempt of this launch has made."""
        resumes = self.overwrites and record != self.earlier
        return [*self.overrides, "overwrite=false"] if resumes else list(self.overrides)


def job_of(cell: "Cell", overrides: Sequence[str]) -> Job:
    """Return the job of a checked cell.

    Args:
        cell: The cell.
        overrides: What its process is started with.
    """
    name = (*cell.config.run_name.split("__"), *evaluation_parts(cell.config.evaluation_name))
    return Job(name, list(overrides), cell.folder, read_or_none(cell.folder))


def label_jobs(jobs: Sequence[Job]) -> None:
    """Label every job by its place and its name, without the parts behind the first that all share."""
    shared = set.intersection(*(set(job.name[1:]) for job in jobs)) if jobs else set()
    for place, job in enumerate(jobs, start=1):
        first, *rest = job.name
        brief = [first, *(part for part in rest if part not in shared)]
        job.label = f"[{place}/{len(jobs)}] {' '.join(filter(None, brief)) or job.run.path.name}"


class Display(Protocol):
    """What the scheduler needs of whatever shows the launch to people."""

    def show(self) -> None:
        """Show the state of all jobs, if it is time to."""

    def print_line(self, text: str) -> None:
        """Print a line that stays."""


class Scheduler:
    """Starts jobs in order, each in a slot of its own.

    Args:
        jobs: In the order they are to be started in.
        slots: Where they run; as many at the same time as there are.
        retries: How often a job that crashed is started again.
        display: Shows what happens.
    """

    def __init__(self, jobs: Sequence[Job], slots: Sequence[Slot], *, retries: int, display: Display) -> None:
        self._jobs = jobs
        self._free = deque(slots)
        self._retries = retries
        self._display = display

    def has_open_jobs(self) -> bool:
        """Return whether a job has not ended."""
        return any(job.exit_status is None for job in self._jobs)

    def start_due_jobs(self) -> None:
        """Start jobs while slots are free; a job that another process works on lets others go first."""
        for job in self._jobs:
            if not self._free:
                return
            if not job.is_due():
                continue
            record = read_or_none(job.run)
            if self._waits_for_training(job, record):
                continue
            if job.is_done_by(record):
                job.finish(ExitStatus("done", by_another=True), "done by another process")
            elif job.run.is_locked():
                job.next_check = time.monotonic() + CHECK_AGAIN_SECONDS
            else:
                self._start(job)

    def _waits_for_training(self, job: Job, record: Record | None) -> bool:
        """Return whether another running job trains the run that this one evaluates."""
        is_in_use = any(other.running and other.run.path == job.run.path for other in self._jobs if other is not job)
        # A result to be made anew is made once for all its evaluations.
        is_old = job.overwrites and record == job.earlier
        return is_in_use and (is_old or record is None or not record.is_trained)

    def _start(self, job: Job) -> None:
        before, progress = read_or_none(job.run), read_progress(job.run)
        try:
            process = CellProcess(cell_command(job.overrides_now(before)), self._free[0].environment())
        except OSError as error:
            job.finish(ExitStatus("failed", f"its process could not be started ({error})"))
            return
        identity = None if job.is_contested else process.identity
        attempt = Attempt(job.run, before, identity, job.overwrites and before == job.earlier)
        job.running = Running(process, self._free.popleft(), attempt, progress)
        job.attempts += 1
        job.next_check = 0.0
        job.first_start = job.first_start or time.monotonic()

    def collect_exits(self) -> None:
        """Finish, or start again later, the jobs whose processes have ended."""
        for job in self._jobs:
            if job.running is not None and job.running.process.exit_code() is not None:
                self._collect(job, job.running, stopping=False)

    def _collect(self, job: Job, running: Running, *, stopping: bool) -> None:
        code, lines = running.process.end()
        status = classify_exit(running.attempt, code, lines, running.process.faults, stopping)
        job.running = None
        self._free.append(running.slot)
        if status.state == "taken":
            job.attempts -= 1  # it never began
            job.is_contested = job.is_contested or not job.run.is_locked()
            job.next_check = time.monotonic() + CHECK_AGAIN_SECONDS
        elif status.may_retry and job.attempts <= self._retries:
            again = f"trying again ({job.attempts} of {self._retries})"
            self._display.print_line(f"{job.label}  {status.reason}; {again}")
        else:
            note = "done by another process" if status.by_another else summarize_record(read_or_none(job.run))
            job.finish(status, note)

    def stop(self, grace_seconds: float) -> None:
        """Stop all running jobs: they are asked to, and killed after `grace_seconds` or at a second signal."""
        running = [(job, job.running) for job in self._jobs if job.running is not None]
        if running:
            cells = "1 cell, which writes" if len(running) == 1 else f"{len(running)} cells, each of which writes"
            self._display.print_line(f"stopping {cells} a checkpoint first; again to stop at once")
        try:
            for _, each in running:
                each.process.ask_to_stop()
            until = time.monotonic() + grace_seconds
            while time.monotonic() < until and any(each.process.exit_code() is None for _, each in running):
                self._display.show()
                time.sleep(POLL_SECONDS)
        finally:
            for _, each in running:
                each.process.kill()
            for job, each in running:
                self._collect(job, each, stopping=True)
