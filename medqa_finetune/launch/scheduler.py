"""The cells of a launch: which is started where and when, what becomes of it, and how all are stopped."""

import time
from collections import deque
from collections.abc import Sequence

from medqa_finetune.launch.exit_status import Ending, Start, judge, read_or_none
from medqa_finetune.launch.gpus import Slot
from medqa_finetune.launch.job import Job, Running
from medqa_finetune.launch.progress import Progress, outcome
from medqa_finetune.launch.stage import read_marks
from medqa_finetune.launch.worker import CellProcess, cell_command
from medqa_finetune.record.schema import Record

POLL_SECONDS = 0.2
LOOK_AGAIN_SECONDS = 1.0


class Queue:
    """Starts cells in order, each in a slot of its own.

    Args:
        jobs: The cells, in the order they are to be started in.
        slots: Where they run; as many at the same time as there are.
        retries: How often a cell that crashed is started again.
        progress: Told what happens.
    """

    def __init__(self, jobs: Sequence[Job], slots: Sequence[Slot], *, retries: int, progress: Progress) -> None:
        self._jobs = jobs
        self._free = deque(slots)
        self._retries = retries
        self._progress = progress

    def is_open(self) -> bool:
        """Say whether a cell has not come to its end."""
        return any(job.ending is None for job in self._jobs)

    def start_what_fits(self) -> None:
        """Start cells while slots are free; one that another process works on lets others go first."""
        for job in self._jobs:
            if not self._free:
                return
            if not job.is_due():
                continue
            record = read_or_none(job.run)
            if self._waits_for_training(job, record):
                continue
            if job.is_done_by(record):
                job.end(Ending("done", by_another=True), "done by another process")
            elif job.run.is_locked():
                job.look_again_at = time.monotonic() + LOOK_AGAIN_SECONDS
            else:
                self._start(job)

    def _waits_for_training(self, job: Job, record: Record | None) -> bool:
        """Return whether another cell of this launch is at work on the training that a cell is an evaluation of."""
        at_work = any(other.running and other.run.path == job.run.path for other in self._jobs if other is not job)
        # A result to be made anew is made once for all its evaluations.
        is_old = job.overwrites and record == job.found
        return at_work and (is_old or record is None or not record.is_trained)

    def _start(self, job: Job) -> None:
        before, marks = read_or_none(job.run), read_marks(job.run)
        try:
            process = CellProcess(cell_command(job.overrides_now(before)), self._free[0].environment())
        except OSError as error:
            job.end(Ending("failed", f"its process could not be started ({error})"))
            return
        identity = None if job.lost else process.identity
        start = Start(job.run, before, identity, job.overwrites and before == job.found)
        job.running = Running(process, self._free.popleft(), start, marks)
        job.starts += 1
        job.look_again_at = 0.0
        job.first_start = job.first_start or time.monotonic()

    def collect(self) -> None:
        """See which cells have ended, and what becomes of them."""
        for job in self._jobs:
            if job.running is not None and job.running.process.exit_code() is not None:
                self._settle(job, job.running, stopping=False)

    def _settle(self, job: Job, running: Running, *, stopping: bool) -> None:
        code, lines = running.process.end()
        ending = judge(running.start, code, lines, running.process.faults, stopping)
        job.running = None
        self._free.append(running.slot)
        if ending.state == "taken":
            job.starts -= 1  # it never began
            job.lost = job.lost or not job.run.is_locked()
            job.look_again_at = time.monotonic() + LOOK_AGAIN_SECONDS
        elif ending.again and job.starts <= self._retries:
            self._progress.say(f"{job.label}  {ending.reason}; trying again ({job.starts} of {self._retries})")
        else:
            job.end(ending, "done by another process" if ending.by_another else outcome(read_or_none(job.run)))

    def stop(self, grace_seconds: float) -> None:
        """Stop what still runs: cells are asked to, and killed if they take too long, or a second signal comes."""
        running = [(job, job.running) for job in self._jobs if job.running is not None]
        if running:
            cells = "1 cell, which writes" if len(running) == 1 else f"{len(running)} cells, each of which writes"
            self._progress.say(f"stopping {cells} a checkpoint first; again to stop at once")
        try:
            for _, each in running:
                each.process.ask_to_stop()
            until = time.monotonic() + grace_seconds
            while time.monotonic() < until and any(each.process.exit_code() is None for _, each in running):
                self._progress.show()
                time.sleep(POLL_SECONDS)
        finally:
            for _, each in running:
                each.process.kill()
            for job, each in running:
                self._settle(job, each, stopping=True)
