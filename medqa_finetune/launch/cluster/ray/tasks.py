"""Runs cells as tasks of Ray: starts them, puts back those that were cut short, and says how each ended."""

import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medqa_finetune.errors import Fault
from medqa_finetune.languages.translate import Kind, say, translated
from medqa_finetune.launch.cluster.naming import RAY, queue_folder
from medqa_finetune.launch.cluster.queue import Element, End
from medqa_finetune.launch.cluster.ray.cluster import TaskLostError
from medqa_finetune.launch.cluster.ray.element import read_answer
from medqa_finetune.launch.cluster.ray.settings import RayLauncherConfig
from medqa_finetune.launch.cluster.ray.task import run_command
from medqa_finetune.launch.cluster.script import cell_command
from medqa_finetune.launch.cluster.settings import seconds_of
from medqa_finetune.launch.cluster.start import starts_path
from medqa_finetune.launch.exit_status import ExitStatus, classify_loss, read_or_none, summarize_record
from medqa_finetune.launch.planned import as_text
from medqa_finetune.launch.scheduler import CHECK_AGAIN_SECONDS, Display, Elsewhere, Job
from medqa_finetune.launch.stage import ProgressRows, read_progress
from medqa_finetune.record.files import write_text
from medqa_finetune.record.schema import Record

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell

ELEMENT = "medqa_finetune.launch.cluster.ray.element"
POLL_SECONDS = 0.5
# Between two looks whether a task that waited runs now.
LOOK_SECONDS = 2.0
# More than a cell's grace, for the way of the answer.
MORE_SECONDS = 30.0
# How a task was lost whose cell is put back, as other tasks of the node may have been the cause.
LOST: Mapping[End, Fault] = {
    End.NODE_LOST: Fault("node-lost", "its node or its worker of Ray failed"),
    End.OUT_OF_MEMORY: Fault(
        "out-of-memory",
        "its node ran out of main memory, and Ray killed its worker",
        hint="Give hydra.launcher.memory.",
    ),
}
FAILED = Fault("job-failed", "its task of Ray failed")
CANCELLED = Fault("job-cancelled", "its task of Ray was cancelled", hint="The same command submits it again.")


class Tasks(Protocol):
    """A cluster, as far as cells need it; members as in `RayCluster`."""

    def start(self, function: Any, *arguments: object) -> Any:
        """Start a task; return it."""

    def ended(self, tasks: Any, seconds: float) -> list[Any]:
        """Return the tasks that have ended."""

    def result(self, task: Any) -> str:
        """Return the result of a task that has ended."""

    def cancel(self, task: Any) -> None:
        """Tell a task to stop."""


@dataclass
class InRay:
    """A start of a cell in Ray's queue, or running.

    Attributes:
        task: Its task.
        before: The file with the cell's starts when the task was started; it changes as soon as the task runs.
        progress_before: The run's progress then.
        next_look: Monotonic time at which to look again whether it runs.
        runs: Whether it runs.
    """

    task: Any
    before: bytes
    progress_before: ProgressRows
    next_look: float = 0.0
    runs: bool = False


class RayTasks:
    """Runs jobs that have not ended as tasks.

    Args:
        jobs: Jobs by the names of their cells; in starting order.
        cells: Their cells, likewise.
        cluster: Where they run.
        settings: Settings of the launcher.
        display: Receives messages.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        cells: "Mapping[str, Cell]",
        cluster: Tasks,
        settings: RayLauncherConfig,
        display: Display,
    ) -> None:
        self._jobs = jobs
        self._cells = cells
        self._cluster = cluster
        self._settings = settings
        self._display = display
        self._tasks: dict[str, InRay] = {}
        # Losses in a row before the cell had begun.
        self._unbegun = dict.fromkeys(jobs, 0)
        # Starts of another launch do not count.
        self._launch = secrets.token_hex(4)
        for name, cell in cells.items():
            folder = queue_folder(cell.run.path, RAY)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / f"{name}.json", as_text(cell))

    def has_open_jobs(self) -> bool:
        """Return whether any job has not ended."""
        return any(job.exit_status is None for job in self._jobs.values())

    def start_due(self) -> None:
        """Start jobs, as many as may run at a time; one that another process works on is looked at again later."""
        in_use = {self._jobs[name].run.path for name in self._tasks}
        for name, job in self._jobs.items():
            if len(self._tasks) >= (self._settings.max_parallel or len(self._jobs)):
                return
            if name in self._tasks or not job.is_due():
                continue
            record = read_or_none(job.run)
            if job.run.path in in_use and not (record is not None and record.is_trained):
                continue
            if job.is_done_by(record):
                job.finish(ExitStatus("done", by_another=True), "done by another process")
            elif job.run.is_locked():
                job.next_check = time.monotonic() + CHECK_AGAIN_SECONDS
            else:
                self._start(name, job)
                in_use.add(job.run.path)

    def _start(self, name: str, job: Job) -> None:
        job.attempts += 1
        job.next_check = 0.0
        before = _bytes_of(starts_path(queue_folder(job.run.path, RAY), name))
        task = self._cluster.start(run_command, self._command(name, job), str(Path.cwd()))
        self._tasks[name] = InRay(task, before, read_progress(job.run))
        job.elsewhere = Elsewhere(False, "", self._tasks[name].progress_before)

    def _command(self, name: str, job: Job) -> list[str]:
        settings = self._settings
        given = {
            "folder": queue_folder(job.run.path, RAY),
            "name": name,
            "job": self._launch,
            "start": job.attempts,
            "retries": settings.retries,
            "stalled_starts": settings.stalled_starts,
            "grace_seconds": settings.grace_seconds,
            # Each GPU trains with a process of its own, as under the local launcher.
            "processes": max(1, settings.gpus_per_cell),
        }
        if settings.time is not None:
            given["seconds"] = seconds_of(settings.time)
        options = [f"{key}={value}" for key, value in given.items()]
        return [sys.executable, "-m", ELEMENT, *options, "--", *cell_command(Element(name, self._cells[name]))]

    def collect(self, seconds: float = POLL_SECONDS) -> None:
        """Wait some seconds for a task to end; finish or put back the jobs of those that have."""
        self._look_which_run()
        if not self._tasks:
            time.sleep(seconds)
            return
        by_task = {each.task: name for name, each in self._tasks.items()}
        for task in self._cluster.ended(list(by_task), seconds):
            self._end(by_task[task])

    def _look_which_run(self) -> None:
        for name, each in self._tasks.items():
            if each.runs or time.monotonic() < each.next_look:
                continue
            each.next_look = time.monotonic() + LOOK_SECONDS
            job = self._jobs[name]
            if _bytes_of(starts_path(queue_folder(job.run.path, RAY), name)) != each.before:
                each.runs = True
                job.first_start = job.first_start or time.monotonic()
                job.elsewhere = Elsewhere(True, "", each.progress_before)

    def _end(self, name: str, *, is_stopping: bool = False) -> None:
        job, each = self._jobs[name], self._tasks[name]
        answer, loss = None, None
        try:
            answer = read_answer(self._cluster.result(each.task))
        except TaskLostError as error:
            loss = error
        # Whether it had begun.
        each.next_look = 0.0
        self._look_which_run()
        del self._tasks[name]
        job.elsewhere = None
        if answer is None:
            assert loss is not None, "a task has a result, or is lost"  # noqa: S101
            self._lose(name, each, loss, is_stopping=is_stopping)
            return
        self._unbegun[name] = 0
        status = answer.status
        if status.state == "taken":
            job.next_check = time.monotonic() + CHECK_AGAIN_SECONDS
        elif status.state == "interrupted" and answer.cause == "time" and not is_stopping:
            self._put_back(job, say("its time limit is near"))
        else:
            job.finish(status, summarize_record(read_or_none(job.run)))

    def _lose(self, name: str, each: InRay, error: TaskLostError, *, is_stopping: bool) -> None:
        job = self._jobs[name]
        record = read_or_none(job.run)
        self._unbegun[name] = 0 if each.runs else self._unbegun[name] + 1
        fault = LOST.get(error.end)
        if job.is_done_by(record):
            job.finish(ExitStatus("done"), summarize_record(record))
        elif is_stopping or error.end is End.CANCELLED:
            job.finish(_interrupted(job, record, each.runs))
        elif fault is not None and self._unbegun[name] < self._settings.stalled_starts:
            self._put_back(job, translated(fault.problem, Kind.FAULT))
        else:
            fault = fault or FAILED.but(problem=f"{FAILED.problem}: {error}")
            job.finish(classify_loss(job.run, "failed", fault))

    def _put_back(self, job: Job, cause: str) -> None:
        back = say("the cell is put back, and resumes from its checkpoint")
        self._display.print_line(f"{job.label}  {cause}; {back}")
        # What is left of it on its node may still be writing a checkpoint, and holds the run.
        job.next_check = time.monotonic() + CHECK_AGAIN_SECONDS

    def stop(self) -> None:
        """Tell all tasks to stop, and wait as long as their cells may take for a checkpoint, or until a second signal.

        Cells stop in their own time in any case, also when this process has ended.
        """
        if not self._tasks:
            return
        running = sum(each.runs for each in self._tasks.values())
        if running:
            said = "stopping {count} cells, each of which writes a checkpoint first; again to leave them to that"
            self._display.print_line(say(said, count=running))
        for each in self._tasks.values():
            self._cluster.cancel(each.task)
        until = time.monotonic() + self._settings.grace_seconds + MORE_SECONDS
        while self._tasks and time.monotonic() < until:
            by_task = {each.task: name for name, each in self._tasks.items()}
            for task in self._cluster.ended(list(by_task), POLL_SECONDS):
                self._end(by_task[task], is_stopping=True)
            self._display.show()


def _interrupted(job: Job, record: Record | None, has_run: bool) -> ExitStatus:
    """Return the status of a cell whose task was cancelled; its record says so only if it had begun."""
    if has_run or record != job.earlier:
        return classify_loss(job.run, "interrupted", CANCELLED)
    return ExitStatus("interrupted", CANCELLED.line(), faults=[CANCELLED])


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
