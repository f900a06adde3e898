"""Watches cells in a cluster's queue until all have ended, and says how each did."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from medqa_finetune.child_process import last_lines
from medqa_finetune.errors import Fault
from medqa_finetune.languages.translate import say
from medqa_finetune.launch.cluster.queue import ClusterQueue, End, Entry, QueueSilentError, State
from medqa_finetune.launch.display import LiveDisplay
from medqa_finetune.launch.exit_status import ExitStatus, classify_loss, read_or_none, summarize_record
from medqa_finetune.launch.scheduler import Clock, Display, Elsewhere, Job
from medqa_finetune.launch.stage import read_progress
from medqa_finetune.record.schema import Record
from medqa_finetune.stopping import stoppable

# Between two looks into the queue, which all users of a cluster share; the display shows records in between.
LOOK_SECONDS = 10.0
POLL_SECONDS = 0.5
# A job that the queue does not show at this many looks in a row is gone: one answer may be incomplete.
LOOKS_WITHOUT = 2
RESUMES = "The same command submits it again."
# How a job ended: why its cell is not done.
ENDINGS = {
    End.BY_ITSELF: Fault("job-failed", "its job ended before the cell could record why", hint=RESUMES),
    End.TIME_LIMIT: Fault(
        "time-limit",
        "its job reached its time limit before the cell had stopped",
        hint="The same command resumes it; give a longer hydra.launcher.time or grace_seconds.",
    ),
    End.CANCELLED: Fault("job-cancelled", "its job was cancelled", hint=RESUMES),
    End.NODE_LOST: Fault("node-lost", "its node failed", hint=RESUMES),
    End.OUT_OF_MEMORY: Fault(
        "out-of-memory", "it used more main memory than its job has", hint="Give hydra.launcher.memory."
    ),
    End.PREEMPTED: Fault("job-preempted", "its job was preempted, and not put back", hint=RESUMES),
    End.UNKNOWN: Fault("job-lost", "its job is gone from the queue, and nothing says how it ended", hint=RESUMES),
}
# Ends from outside; others are failures.
STOPPED = (End.TIME_LIMIT, End.CANCELLED, End.PREEMPTED)
# Statuses of a record that say how a cell ended which is not done.
CAN_SAY: dict[str, Literal["failed", "interrupted"]] = {"failed": "failed", "interrupted": "interrupted"}


def watch(jobs: Mapping[str, Job], queue: ClusterQueue, ids: Mapping[str, str]) -> None:
    """Show jobs until all have ended.

    Args:
        jobs: Jobs by the names of their cells in the queue; those that have ended are shown as they are.
        queue: The queue.
        ids: Job of each cell that has not ended, by its name.

    Raises:
        Interrupted: a signal came; the jobs stay in the queue.
    """
    with stoppable() as stop, LiveDisplay(list(jobs.values())) as display, stop.deferred():
        watcher = Watcher(jobs, queue, ids, display)
        while watcher.has_open_jobs() and stop.number is None:
            watcher.look_when_due()
            display.show()
            time.sleep(POLL_SECONDS)


class Watcher:
    """Compares jobs with the queue; arguments as for `watch`, and the display and the clock."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        queue: ClusterQueue,
        ids: Mapping[str, str],
        display: Display,
        *,
        clock: Clock = time,
    ) -> None:
        self._jobs = jobs
        self._queue = queue
        self._ids = ids
        self._display = display
        self._clock = clock
        self._next_look = 0.0
        self._missed = dict.fromkeys(ids, 0)
        self._before = {name: read_progress(jobs[name].run) for name in ids}
        self._was_silent = False

    def has_open_jobs(self) -> bool:
        """Return whether any job has not ended."""
        return any(job.exit_status is None for job in self._jobs.values())

    def look_when_due(self) -> None:
        """Look into the queue if the last look is long enough ago, and update every job."""
        if self._clock.monotonic() < self._next_look:
            return
        self._next_look = self._clock.monotonic() + LOOK_SECONDS
        try:
            found = {entry.id: entry for entry in self._queue.entries()}
        except QueueSilentError as error:
            if not self._was_silent:
                self._display.print_line(say("the queue does not answer ({words}); waiting for it", words=error))
            self._was_silent = True
            return
        self._was_silent = False
        for name, job in self._jobs.items():
            if job.exit_status is None:
                self._update(name, job, found.get(self._ids[name]))

    def _update(self, name: str, job: Job, entry: Entry | None) -> None:
        waited = job.elsewhere is not None and not job.elsewhere.is_running
        if waited and entry is not None and entry.state is State.QUEUED:
            # It still waits: of a thousand cells that do, no record is read at every look.
            self._missed[name] = 0
            job.elsewhere = Elsewhere(False, entry.detail, self._before[name])
            return
        record = read_or_none(job.run)
        if job.is_done_by(record):
            job.elsewhere = None
            job.finish(ExitStatus("done"), summarize_record(record))
        elif entry is None:
            self._missed[name] += 1
            if self._missed[name] >= LOOKS_WITHOUT:
                self._end(name, job, self._queue.end_of(self._ids[name]))
        elif entry.end is not None:
            self._end(name, job, entry.end)
        else:
            self._missed[name] = 0
            is_running = entry.state is State.RUNNING
            if is_running and job.first_start is None:
                job.first_start = self._clock.monotonic()
            job.elsewhere = Elsewhere(is_running, entry.detail, self._before[name])

    def _end(self, name: str, job: Job, end: End) -> None:
        job.elsewhere = None
        # It may have been done since its record was read.
        record = read_or_none(job.run)
        if job.is_done_by(record):
            job.finish(ExitStatus("done"), summarize_record(record))
        else:
            job.finish(self._why(name, job, record, end))

    def _why(self, name: str, job: Job, record: Record | None, end: End) -> ExitStatus:
        """Return why a job that is gone from the queue is not done: by its record, or else by the queue."""
        log = self._queue.log_path(name, job.run.path)
        lines = _last_lines(log)
        may_say = end in (End.BY_ITSELF, End.UNKNOWN) and record != job.earlier
        failure = record.failure if record is not None and may_say else None
        if record is not None and failure is not None and record.status in CAN_SAY:
            faults = list(map(Fault.from_json, failure.faults))
            return ExitStatus(CAN_SAY[record.status], failure.message, lines, faults=faults)
        fault = ENDINGS[end].but(key="job", got=self._ids[name], file=str(log) if lines else None)
        status = classify_loss(job.run, "interrupted" if end in STOPPED else "failed", fault)
        return replace(status, lines=lines)


def _last_lines(log: Path) -> Sequence[str]:
    """Return the last lines that a cell printed; none where it was never started."""
    try:
        with log.open("rb") as file:
            return last_lines(file)
    except OSError:
        return []
