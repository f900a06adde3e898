"""What becomes of cells whose tasks end in every way."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.cell import Cell
from medqa_finetune.launch.cluster.cells import jobs_of
from medqa_finetune.launch.cluster.naming import RAY, job_name, queue_folder
from medqa_finetune.launch.cluster.queue import End
from medqa_finetune.launch.cluster.ray import tasks as module
from medqa_finetune.launch.cluster.ray.settings import RayLauncherConfig
from medqa_finetune.launch.cluster.ray.tasks import RayTasks
from medqa_finetune.launch.cluster.start import starts_path
from medqa_finetune.launch.scheduler import Job
from medqa_finetune.run_state.claim import ensure_records
from tests.cells import cell_in, evaluate, train
from tests.launch.cluster.ray.fakes import Does, FakeCluster, done, ended, lost


class Screen:
    """A display that keeps lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def show(self) -> None:
        pass

    def print_line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)


def tasks_of(cells: Sequence[Cell], cluster: FakeCluster, **settings: Any) -> tuple[RayTasks, list[Job], Screen]:
    for cell in cells:
        ensure_records(cell)
    jobs, screen = jobs_of(cells), Screen()
    own = RayTasks(jobs, dict(zip(jobs, cells, strict=True)), cluster, RayLauncherConfig(**settings), screen)
    return own, list(jobs.values()), screen


def run(cells: Sequence[Cell], does: list[Does], **settings: Any) -> tuple[FakeCluster, list[Job], Screen]:
    cluster = FakeCluster(does)
    tasks, jobs, screen = tasks_of(cells, cluster, **settings)
    until = time.monotonic() + 20
    while tasks.has_open_jobs() and time.monotonic() < until:
        tasks.start_due()
        tasks.collect(0.01)
    return cluster, jobs, screen


def states(jobs: Sequence[Job]) -> list[str]:
    return [job.exit_status.state if job.exit_status else "open" for job in jobs]


def codes(job: Job) -> list[str]:
    return [fault.code for fault in job.exit_status.faults] if job.exit_status else []


def begun(cell: Cell, does: Does) -> Does:
    """Return what a task does whose cell has begun on a node."""

    def all_of_it() -> str:
        path = starts_path(queue_folder(cell.run.path, RAY), job_name(cell))
        path.write_text(str(time.monotonic()), encoding="utf-8")
        return does()

    return all_of_it


def test_each_cell_gets_its_verdict(tmp_path: Path) -> None:
    cells = [cell_in(tmp_path / each) for each in "abc"]
    cluster, jobs, _ = run(cells, [done(cells[0]), ended("failed"), done(cells[2])], max_parallel=1)
    assert states(jobs) == ["done", "failed", "done"]
    assert cluster.most == 1


def test_node_is_given_plain_texts(tmp_path: Path) -> None:
    cell = cell_in(tmp_path)
    cluster, _, _ = run([cell], [done(cell)], time="1:00:00", gpus_per_cell=2)
    (command,) = cluster.commands
    assert all(type(each) is str for each in command)
    assert {"start=1", "seconds=3600", "processes=2", "grace_seconds=120", f"name={job_name(cell)}"} <= set(command)
    assert command[command.index("--") + 2 :] == list(cell.command[1:])


@pytest.mark.parametrize("end", [End.NODE_LOST, End.OUT_OF_MEMORY])
def test_lost_cell_is_put_back(end: End, tmp_path: Path) -> None:
    cell = cell_in(tmp_path)
    cluster, jobs, screen = run([cell], [*[begun(cell, lost(end))] * 5, done(cell)], stalled_starts=2)
    assert states(jobs) == ["done"]
    assert [next(each for each in command if each.startswith("start=")) for command in cluster.commands] == [
        f"start={number}" for number in range(1, 7)
    ]
    assert len(screen.lines) == 5


def test_cell_that_never_begins_is_given_up(tmp_path: Path) -> None:
    cell = cell_in(tmp_path)
    cluster, jobs, _ = run([cell], [lost(End.NODE_LOST)] * 5, stalled_starts=3)
    assert states(jobs) == ["failed"]
    assert codes(jobs[0]) == ["node-lost"]
    assert len(cluster.commands) == 3
    record = cell.folder.read()
    assert record is not None
    assert record.status == "failed"


def test_cell_near_its_time_limit_is_put_back(tmp_path: Path) -> None:
    cell = cell_in(tmp_path)
    cluster, jobs, _ = run([cell], [ended("interrupted", "time"), done(cell)], time="1:00:00")
    assert states(jobs) == ["done"]
    assert len(cluster.commands) == 2


def test_cell_that_was_stopped_from_outside_is_not_put_back(tmp_path: Path) -> None:
    cell = cell_in(tmp_path)
    cluster, jobs, _ = run([cell], [ended("interrupted")])
    assert states(jobs) == ["interrupted"]
    assert len(cluster.commands) == 1


def test_cell_in_use_waits(tmp_path: Path) -> None:
    cell = cell_in(tmp_path)
    cluster = FakeCluster([ended("taken"), done(cell)])
    tasks, jobs, _ = tasks_of([cell], cluster)
    with cell.run.lock():
        tasks.start_due()
    assert cluster.commands == []
    for _ in range(2):
        tasks.start_due()
        tasks.collect(0.01)
    assert states(jobs) == ["done"]


def test_task_that_failed_has_the_words_of_ray(tmp_path: Path) -> None:
    _, jobs, _ = run([cell_in(tmp_path)], [lost(End.BY_ITSELF)])
    assert codes(jobs[0]) == ["job-failed"]
    assert jobs[0].exit_status is not None
    assert "gone" in jobs[0].exit_status.reason


def test_cell_that_was_done_before_its_node_was_lost_is_done(tmp_path: Path) -> None:
    cell = cell_in(tmp_path)

    def does() -> str:
        evaluate(cell)
        return lost(End.NODE_LOST)()

    _, jobs, _ = run([cell], [does])
    assert states(jobs) == ["done"]


def test_evaluations_of_a_run_wait_for_its_training(tmp_path: Path) -> None:
    cells = [cell_in(tmp_path), cell_in(tmp_path, evaluate__max_samples=9)]
    cluster = FakeCluster([])
    tasks, _, _ = tasks_of(cells, cluster)
    tasks.start_due()
    tasks.start_due()
    assert len(cluster.commands) == 1
    from medqa_finetune.run_state.claim import claimed

    with claimed(cells[0]) as claim:
        train(claim)
    tasks.start_due()
    assert len(cluster.commands) == 2


def test_stop_cancels_all_and_leaves_what_never_began_pending(tmp_path: Path) -> None:
    cells = [cell_in(tmp_path / each) for each in "ab"]
    cluster = FakeCluster([])
    tasks, jobs, screen = tasks_of(cells, cluster)
    tasks.start_due()
    path = starts_path(queue_folder(cells[0].run.path, RAY), job_name(cells[0]))
    path.write_text("runs", encoding="utf-8")
    tasks.collect(0.01)
    assert [job.elsewhere is not None and job.elsewhere.is_running for job in jobs] == [True, False]
    tasks.stop()
    assert cluster.cancelled == [0, 1]
    assert states(jobs) == ["interrupted", "interrupted"]
    assert len(screen.lines) == 1
    records = [cell.folder.read() for cell in cells]
    assert [record.status for record in records if record is not None] == ["interrupted", "pending"]
