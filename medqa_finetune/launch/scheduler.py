"""Schedules the jobs of a launch: starts each in a slot, handles its exit, and stops all of them."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medqa_finetune.cores import PARALLEL_VARIABLE
from medqa_finetune.errors import Fault
from medqa_finetune.languages.labels import spoken_label
from medqa_finetune.languages.translate import say
from medqa_finetune.launch.exit_status import (
    TAKEN_ELSEWHERE,
    Attempt,
    ExitStatus,
    classify_exit,
    read_or_none,
    summarize_record,
)
from medqa_finetune.launch.gpus import Gpu, KeptGpus, Slot
from medqa_finetune.launch.stage import ProgressRows, read_progress
from medqa_finetune.launch.worker import CellProcess, cell_command
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.schema import Process, Record

if TYPE_CHECKING:
    # The launcher also serves Hydra programs other than this one.
    from medqa_finetune.cell import Cell

POLL_SECONDS = 0.2
CHECK_AGAIN_SECONDS = 1.0
# Of a cell that another machine works on, which only its own process finds out.
START_AGAIN_SECONDS = 60.0


class Clock(Protocol):
    """The time that a launch goes by: the module `time`, or a simulated one."""

    def monotonic(self) -> float:
        """Return seconds since any moment."""

    def sleep(self, seconds: float, /) -> None:
        """Wait for some seconds."""


class StartedProcess(Protocol):
    """The process of one attempt, as the scheduler needs it; members as in `CellProcess`."""

    faults: list[Fault]
    progress_path: Path

    @property
    def identity(self) -> Process:
        """Process identity in the form used by records."""

    def exit_code(self) -> int | None:
        """Return its exit code; None while it runs."""

    def ask_to_stop(self) -> None:
        """Ask it to write a checkpoint and end."""

    def kill(self) -> None:
        """Kill it and any processes it left running."""

    def end(self) -> tuple[int, list[str]]:
        """Kill it if it still runs; return the exit code and the last output lines."""


# Starts a process, given its command line, variables added to those of this process, its cell if it has one, and the
# numbers of open files that it keeps.
Starter = Callable[[Sequence[str], Mapping[str, str], "Cell | None", Sequence[int]], StartedProcess]
# Keeps GPUs from other launches; None if one of them uses any.
Keeper = Callable[[Sequence[Gpu]], KeptGpus | None]


@dataclass(frozen=True)
class Running:
    """A running attempt at a job: its process, its slot with the GPUs, and the run's progress before it."""

    process: StartedProcess
    slot: Slot
    kept: KeptGpus
    attempt: Attempt
    progress_before: ProgressRows


@dataclass(frozen=True)
class Elsewhere:
    """A job in the queue of a cluster.

    Attributes:
        is_running: Whether it runs; otherwise it waits.
        detail: Why it waits, in the queue's word.
        progress_before: The run's progress when it was first seen.
    """

    is_running: bool
    detail: str
    progress_before: ProgressRows


@dataclass
class Job:
    """A cell in the launcher's queue.

    Attributes:
        name: Parts of the cell's name.
        overrides: Hydra overrides its process is started with.
        run: Its run folder, as seen by its evaluation.
        earlier: Its record when the launch began; None for a program without records.
        overwrites: Whether an existing result is overwritten.
        cell: What its process is given to run; None for a program without cells.
        attempts: Number of starts in this launch.
        first_start: Time of the first start on the monotonic clock, in seconds.
        next_check: Monotonic time at which to check again whether another process still works on it; 0 if none did.
        worker_elsewhere: The process on another machine that works on it; empty if none is known.
        is_contested: Whether an attempt found a record of another process that does not exist. A program that
            re-executes itself looks like this, so whoever writes the record during the next attempt counts as the cell.
        running: The current attempt on this machine.
        elsewhere: Where a cluster's queue has it; None for a job of this machine.
        exit_status: How it ended; None before that.
        note: Short text shown for a finished cell.
        label: Display label: its position and the part of its name that differs from other cells.
        seconds: Seconds from its first start to its end; None if another process did the work.
        clock: The clock of all times here.
    """

    name: Sequence[str]
    overrides: Sequence[str]
    run: CellDir
    earlier: Record | None
    overwrites: bool = False
    cell: "Cell | None" = None
    attempts: int = 0
    first_start: float | None = None
    next_check: float = 0.0
    worker_elsewhere: str = ""
    is_contested: bool = False
    running: Running | None = None
    elsewhere: Elsewhere | None = None
    exit_status: ExitStatus | None = None
    note: str = ""
    label: str = ""
    seconds: float | None = None
    clock: Clock = field(default=time, repr=False, compare=False)

    def finish(self, exit_status: ExitStatus, note: str = "") -> None:
        """Store the exit status and, for a cell this launch started, the elapsed time."""
        self.exit_status, self.note = exit_status, note
        self.seconds = None if exit_status.by_another else self.elapsed()

    def elapsed(self) -> float | None:
        """Return the seconds from its first start until now; None if it has not been started."""
        return None if self.first_start is None else self.clock.monotonic() - self.first_start

    def is_done_by(self, record: Record | None) -> bool:
        """Return whether the record is of a finished run; one that is to be overwritten does not count."""
        return record is not None and record.status == "done" and not (self.overwrites and record == self.earlier)

    def is_due(self) -> bool:
        """Return whether the job is neither running nor ended, and its next check is due."""
        return self.exit_status is None and self.running is None and self.clock.monotonic() >= self.next_check

    def overrides_now(self, record: Record | None) -> list[str]:
        """Return the overrides for its next start; a retry resumes the result of an earlier attempt of this launch."""
        return [*self.overrides, "overwrite=false"] if self._resumes(record) else list(self.overrides)

    def cell_now(self, record: Record | None) -> "Cell | None":
        """Return the cell for its next start, likewise."""
        if self.cell is None or not self._resumes(record):
            return self.cell
        return replace(self.cell, config=replace(self.cell.config, overwrite=False))

    def _resumes(self, record: Record | None) -> bool:
        return self.overwrites and record != self.earlier


def job_of(cell: "Cell", label: str, overrides: Sequence[str]) -> Job:
    """Return the job of a checked cell.

    Args:
        cell: A cell that has been checked and named.
        label: Its short name among the cells of the matrix.
        overrides: Hydra overrides its process is started with.
    """
    return Job((label,), list(overrides), cell.folder, read_or_none(cell.folder))


def label_jobs(jobs: Sequence[Job]) -> None:
    """Label every job with its position and name; name parts after the first that all jobs share are left out."""
    shared = set.intersection(*(set(job.name[1:]) for job in jobs)) if jobs else set()
    for place, job in enumerate(jobs, start=1):
        first, *rest = job.name
        brief = [first, *(part for part in rest if part not in shared)]
        name = spoken_label(" ".join(filter(None, brief))) or job.run.path.name
        job.label = f"[{place}/{len(jobs)}] {name}"


class Display(Protocol):
    """Interface of the scheduler to a display."""

    def show(self) -> None:
        """Show the state of all jobs; may skip calls that follow too quickly."""

    def print_line(self, text: str) -> None:
        """Print a permanent line."""


class Scheduler:
    """Starts jobs in order, each in a free slot.

    Args:
        jobs: Jobs in starting order.
        slots: One per job that may run at the same time.
        retries: How often a crashed job is restarted.
        display: Receives progress and messages.
        start: Starts the process of an attempt.
        keep: Keeps the GPUs of an attempt from other launches.
        clock: The clock of the launch; that of the jobs.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        slots: Sequence[Slot],
        *,
        retries: int,
        display: Display,
        start: Starter = CellProcess,
        keep: Keeper = lambda gpus: KeptGpus(),
        clock: Clock = time,
    ) -> None:
        self._jobs = jobs
        self._free = deque(slots)
        self._parallel = str(max(1, min(len(slots), len(jobs))))
        self._retries = retries
        self._display = display
        self._start_process = start
        self._keep = keep
        self._has_said_that_it_waits = False
        self._clock = clock

    def has_open_jobs(self) -> bool:
        """Return whether any job has not ended."""
        return any(job.exit_status is None for job in self._jobs)

    def start_due_jobs(self) -> None:
        """Start jobs while slots are free; a job that another process works on is checked again later."""
        if not self._free:
            return
        in_use = {job.run.path for job in self._jobs if job.running is not None}
        for job in self._jobs:
            if not self._free:
                return
            if not job.is_due():
                continue
            record = read_or_none(job.run)
            if job.run.path in in_use and self._waits_for_training(job, record):
                continue
            if job.is_done_by(record):
                job.finish(ExitStatus("done", by_another=True), "done by another process")
            elif job.run.is_locked():
                job.next_check = self._clock.monotonic() + CHECK_AGAIN_SECONDS
                job.worker_elsewhere = job.run.holder_elsewhere()
            else:
                place = self._take_slot()
                if place is None:
                    return
                job.run.drop_expired_leases()
                self._start(job, *place)
                if job.running is not None:
                    in_use.add(job.run.path)

    @staticmethod
    def _waits_for_training(job: Job, record: Record | None) -> bool:
        """Return whether the run that another running job has in use is yet to be trained."""
        # A run to be overwritten is trained once for all its evaluations.
        is_old = job.overwrites and record == job.earlier
        return is_old or record is None or not record.is_trained

    def _take_slot(self) -> tuple[Slot, KeptGpus] | None:
        """Return a free slot whose GPUs no other launch uses; says the first time that there is none."""
        for slot in self._free:
            kept = self._keep(slot.gpus or ())
            if kept is not None:
                self._free.remove(slot)
                return slot, kept
        if not self._has_said_that_it_waits:
            gpus = ", ".join(slot.label for slot in self._free)
            self._display.print_line(say("waiting for GPUs that other launches on this machine use: {gpus}", gpus=gpus))
            self._has_said_that_it_waits = True
        return None

    def _start(self, job: Job, slot: Slot, kept: KeptGpus) -> None:
        before, progress = read_or_none(job.run), read_progress(job.run)
        try:
            environment = {**slot.environment(), PARALLEL_VARIABLE: self._parallel}
            command = cell_command(job.overrides_now(before))
            process = self._start_process(command, environment, job.cell_now(before), kept.files)
        except OSError as error:
            kept.give_back()
            self._free.append(slot)
            job.finish(ExitStatus("failed", f"its process could not be started ({error})"))
            return
        identity = None if job.is_contested else process.identity
        attempt = Attempt(job.run, before, identity, job.overwrites and before == job.earlier)
        job.running = Running(process, slot, kept, attempt, progress)
        job.attempts += 1
        job.next_check = 0.0
        job.first_start = job.first_start or self._clock.monotonic()

    def collect_exits(self) -> None:
        """Classify the jobs whose processes have ended, and finish or requeue them."""
        for job in self._jobs:
            if job.running is not None and job.running.process.exit_code() is not None:
                self._collect(job, job.running, stopping=False)

    def _collect(self, job: Job, running: Running, *, stopping: bool) -> None:
        code, lines = running.process.end()
        status = classify_exit(running.attempt, code, lines, running.process.faults, stopping)
        job.running = None
        running.kept.give_back()
        self._free.append(running.slot)
        if status.state == "taken":
            job.attempts -= 1  # it never began
            if status is TAKEN_ELSEWHERE:
                job.next_check = self._clock.monotonic() + START_AGAIN_SECONDS
                return
            job.is_contested = job.is_contested or not job.run.is_locked()
            job.next_check = self._clock.monotonic() + CHECK_AGAIN_SECONDS
        elif status.may_retry and job.attempts <= self._retries:
            again = say("trying again ({number} of {most})", number=job.attempts, most=self._retries)
            self._display.print_line(f"{job.label}  {status.shown_reason()}; {again}")
        else:
            note = "done by another process" if status.by_another else summarize_record(read_or_none(job.run))
            job.finish(status, note)

    def stop(self, grace_seconds: float) -> None:
        """Ask all running jobs to stop; kill them after `grace_seconds` or at a second signal."""
        running = [(job, job.running) for job in self._jobs if job.running is not None]
        if running:
            one = "stopping 1 cell, which writes a checkpoint first; again to stop at once"
            several = "stopping {count} cells, each of which writes a checkpoint first; again to stop at once"
            self._display.print_line(say(one) if len(running) == 1 else say(several, count=len(running)))
        try:
            for _, each in running:
                each.process.ask_to_stop()
            until = self._clock.monotonic() + grace_seconds
            while self._clock.monotonic() < until and any(each.process.exit_code() is None for _, each in running):
                self._display.show()
                self._clock.sleep(POLL_SECONDS)
        finally:
            for _, each in running:
                each.process.kill()
            for job, each in running:
                self._collect(job, each, stopping=True)
