"""What becomes of cells in a queue while a launcher watches it."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from medqa_finetune.launch.cluster import watch as module
from medqa_finetune.launch.cluster.queue import ClusterQueue, Element, End, Entry, QueueSilentError, State, Submission
from medqa_finetune.launch.cluster.watch import Watcher
from medqa_finetune.launch.display import view_of
from medqa_finetune.launch.exit_status import read_or_none
from medqa_finetune.launch.scheduler import Job
from medqa_finetune.progress import StageClock
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Failure, Record, Status
from tests.launch.children import PENDING


class Queue(ClusterQueue):
    """A queue of at most one job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shows: list[Entry] = []
        self.end = End.UNKNOWN
        self.silent = False

    def entries(self) -> list[Entry]:
        if self.silent:
            raise QueueSilentError("no route")
        return self.shows

    def submit(self, elements: Sequence[Element]) -> Submission:
        raise NotImplementedError

    def end_of(self, identifier: str) -> End:
        return self.end

    def log_path(self, name: str, run: Path) -> Path:
        return self.folder / f"{name}.log"

    def cancel_command(self, ids: Sequence[str]) -> str:
        return ""


class Screen:
    """A display that keeps lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def show(self) -> None:
        pass

    def print_line(self, text: str) -> None:
        self.lines.append(text)


class Watched:
    """A cell that is watched."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDir(folder / "cell")
        self.run.write(PENDING)
        self.queue, self.screen = Queue(folder), Screen()
        self.job = Job(["cell"], [], CellDir(self.run), read_or_none(CellDir(self.run)))
        self.watcher = Watcher({"cell": self.job}, self.queue, {"cell": "1_0"}, self.screen)

    def look(self, *shows: Entry) -> str:
        """Look into a queue that shows this, and return the view's state."""
        self.queue.shows = list(shows)
        self.watcher.look_when_due()
        return view_of(self.job, StageClock()).state

    def reason(self) -> tuple[str, str]:
        """Return state and fault code of the end."""
        assert self.job.exit_status is not None
        codes = [fault.code for fault in self.job.exit_status.faults]
        return self.job.exit_status.state, codes[0] if codes else ""


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    return Watched(tmp_path)


def entry(state: State, detail: str = "", end: End | None = None) -> Entry:
    return Entry("1_0", "cell", state, detail, end)


def test_cell_is_queued_then_runs_then_is_done(cell: Watched) -> None:
    assert cell.look(entry(State.QUEUED, "Priority")) == "queued"
    assert "Priority" in view_of(cell.job, StageClock()).text
    cell.run.update(status="running")
    cell.run.log_metrics({"step": 3, "steps": 9, "loss": 1.5})
    assert cell.look(entry(State.RUNNING)) == "training"
    cell.run.update(status="done")
    # The record is enough, also while the job is still ending.
    assert cell.look(entry(State.RUNNING)) == "done"
    assert not cell.watcher.has_open_jobs()


def test_cell_that_was_put_back_is_queued_again(cell: Watched) -> None:
    cell.look(entry(State.RUNNING))
    cell.run.update(status="interrupted", failure=Failure("stopped by SIGUSR2", "stopped"))
    assert cell.look(entry(State.QUEUED, "BeginTime")) == "queued"
    assert cell.watcher.has_open_jobs()


def test_failure_in_the_record_is_the_reason(cell: Watched) -> None:
    cell.look(entry(State.RUNNING))
    cell.run.update(status="failed", failure=Failure("RunError", "bad luck"))
    cell.look(entry(State.ENDED, end=End.BY_ITSELF))
    assert cell.job.exit_status is not None
    assert (cell.job.exit_status.state, cell.job.exit_status.reason) == ("failed", "bad luck")


@pytest.mark.parametrize(
    ("end", "status", "code"),
    [(End.CANCELLED, "interrupted", "job-cancelled"), (End.NODE_LOST, "failed", "node-lost"),
     (End.TIME_LIMIT, "interrupted", "time-limit"), (End.BY_ITSELF, "failed", "job-failed"),
     (End.OUT_OF_MEMORY, "failed", "out-of-memory")],
)  # fmt: skip
def test_end_that_the_cell_could_not_record_is_recorded(cell: Watched, end: End, status: Status, code: str) -> None:
    (cell.queue.folder / "cell.log").write_text("first\nmodule: command not found\n", encoding="utf-8")
    cell.run.update(status="running")
    cell.look(entry(State.ENDED, end=end))
    assert cell.reason() == (status, code)
    assert cell.job.exit_status is not None
    assert cell.job.exit_status.lines[-1] == "module: command not found"
    record = cell.run.read()
    assert record is not None
    assert record.failure is not None
    assert (record.status, record.failure.faults[0]["code"]) == (status, code)


def test_failure_of_an_earlier_submission_is_not_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    cell = Watched(tmp_path)
    cell.run.update(status="failed", failure=Failure("RunError", "long ago"))
    cell.job.earlier = read_or_none(cell.job.run)
    cell.look(entry(State.ENDED, end=End.BY_ITSELF))
    assert cell.reason() == ("failed", "job-failed")


def test_job_is_gone_only_if_it_stays_away(cell: Watched) -> None:
    cell.look(entry(State.RUNNING))
    cell.look()
    assert cell.watcher.has_open_jobs()
    cell.look(entry(State.RUNNING))
    cell.look()
    assert cell.watcher.has_open_jobs()
    cell.queue.end = End.NODE_LOST
    cell.look()
    assert cell.reason() == ("failed", "node-lost")


def test_silent_queue_ends_nothing_and_is_said_once(cell: Watched) -> None:
    cell.look(entry(State.RUNNING))
    cell.queue.silent = True
    for _ in range(5):
        cell.look()
    assert cell.watcher.has_open_jobs()
    assert len(cell.screen.lines) == 1
    assert "no route" in cell.screen.lines[0]


def test_lost_cell_that_was_done_is_done(cell: Watched) -> None:
    cell.run.update(status="done")
    cell.look(entry(State.ENDED, end=End.NODE_LOST))
    assert cell.reason() == ("done", "")
    assert json.loads(cell.run.record_path.read_text(encoding="utf-8"))["status"] == "done"


def test_record_of_a_cell_that_still_waits_is_not_read_again(cell: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[CellDir] = []

    def counted(run: CellDir) -> Record | None:
        read.append(run)
        return read_or_none(run)

    monkeypatch.setattr(module, "read_or_none", counted)
    for _ in range(3):
        cell.look(entry(State.QUEUED, "Priority"))
    assert len(read) == 1
    cell.run.update(status="done")
    assert cell.look(entry(State.RUNNING)) == "done"
