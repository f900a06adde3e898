"""Which cells a launch runs or submits, which it leaves to their jobs, and what it returns."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobStatus

from medqa_finetune.cell import Cell
from medqa_finetune.errors import ConfigError
from medqa_finetune.launch.cluster import watch
from medqa_finetune.launch.cluster.naming import RAY, job_name, queue_folder
from medqa_finetune.launch.cluster.queue import QueueSilentError, State
from medqa_finetune.launch.cluster.ray import jobs as module
from medqa_finetune.launch.cluster.ray import tasks
from medqa_finetune.launch.cluster.ray.jobs import write_place
from medqa_finetune.launch.cluster.ray.launcher import RayLauncher
from medqa_finetune.record.run_dir import find_runs
from medqa_finetune.report.load import load_runs
from medqa_finetune.run_state.claim import ensure_records
from medqa_finetune.stopping import Interrupted
from medqa_finetune.summarize import _with_queue
from tests.cells import cell_in, evaluate
from tests.faulty import only_fault
from tests.launch.cluster.ray.fakes import FakeCluster, FakeJobs, done, ended

pytestmark = pytest.mark.usefixtures("cluster", "dashboard")


def cells_in(tmp_path: Path, count: int, **values: Any) -> list[Cell]:
    """Return cells of as many studies, whose records are written as a matrix does it."""
    cells = [cell_in(tmp_path / str(number), **values) for number in range(count)]
    for cell in cells:
        ensure_records(cell)
    return cells


def launch(cells: Sequence[Cell], *, wait: bool = False) -> list[JobStatus]:
    return [result.status for result in RayLauncher(gpus_per_cell=0, wait=wait).launch_cells(cells)]


def test_cells_run_as_tasks_and_those_that_are_done_do_not(cluster: FakeCluster, tmp_path: Path) -> None:
    cells = cells_in(tmp_path, 3)
    evaluate(cells[0])
    cluster.does += [done(cells[1]), ended("failed")]
    assert launch(cells, wait=True) == [JobStatus.COMPLETED, JobStatus.COMPLETED, JobStatus.FAILED]
    assert len(cluster.commands) == 2


def test_nothing_is_connected_to_where_all_is_done(cluster: FakeCluster, tmp_path: Path) -> None:
    cells = cells_in(tmp_path, 1)
    evaluate(cells[0])
    cluster.check = None  # type: ignore[assignment, method-assign]
    assert launch(cells, wait=True) == [JobStatus.COMPLETED]


def test_same_command_submits_what_is_neither_done_nor_queued(
    cluster: FakeCluster, dashboard: FakeJobs, tmp_path: Path
) -> None:
    cells = cells_in(tmp_path, 4)
    names = [job_name(cell) for cell in cells]
    evaluate(cells[0])
    assert launch(cells) == [JobStatus.COMPLETED, *[JobStatus.UNKNOWN] * 3]
    assert list(dashboard.jobs) == names[1:]
    assert launch(cells)[1:] == [JobStatus.UNKNOWN] * 3
    dashboard.set(names[1], "RUNNING")
    dashboard.set(names[2], "STOPPED")
    evaluate(cells[3])
    dashboard.set(names[3], "SUCCEEDED")
    assert launch(cells).count(JobStatus.UNKNOWN) == 2
    # A name serves once: what has ended makes room.
    assert dashboard.deleted == [names[2]]
    assert cluster.commands == []


def test_job_has_time_to_stop_and_the_variables_of_the_command(
    dashboard: FakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", "/models")
    launch(cells_in(tmp_path, 1))
    (job,) = dashboard.jobs.values()
    variables = job.given["runtime_env"]["env_vars"]
    assert int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) > 120
    assert variables["HF_HOME"] == "/models"


def test_jobs_of_an_earlier_launch_are_watched_not_run(
    cluster: FakeCluster, dashboard: FakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.0)
    cells = cells_in(tmp_path, 2)
    launch(cells[:1])
    cluster.does.append(done(cells[1]))
    look = watch.Watcher.look_when_due

    def finish(watcher: watch.Watcher) -> None:
        look(watcher)
        if cells[0].folder.read() is not None and dashboard.jobs[job_name(cells[0])].status == "PENDING":
            evaluate(cells[0])
            dashboard.set(job_name(cells[0]), "SUCCEEDED")

    monkeypatch.setattr(watch.Watcher, "look_when_due", finish)
    assert launch(cells, wait=True) == [JobStatus.COMPLETED] * 2
    assert len(cluster.commands) == 1


def test_refused_cells_leave_no_job(dashboard: FakeJobs, tmp_path: Path) -> None:
    dashboard.refuses = True
    with pytest.raises(ConfigError) as caught:
        launch(cells_in(tmp_path, 2))
    assert only_fault(caught).code == "cluster-refused"
    assert dashboard.jobs == {}


def test_cluster_without_dashboard_runs_but_takes_no_jobs(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.dashboard = ""
    cells = cells_in(tmp_path, 1)
    with pytest.raises(ConfigError) as caught:
        launch(cells)
    assert only_fault(caught).key == "hydra.launcher.wait"
    cluster.does.append(done(cells[0]))
    assert launch(cells, wait=True) == [JobStatus.COMPLETED]


def test_dashboard_must_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: str) -> None:
        raise QueueSilentError("no route")

    monkeypatch.setattr(module, "client_at", silent)
    with pytest.raises(ConfigError) as caught:
        launch(cells_in(tmp_path, 1))
    assert only_fault(caught).code == "not-answering"


def test_interrupted_launch_stops_its_cells_and_leaves_jobs(
    cluster: FakeCluster,
    dashboard: FakeJobs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = cells_in(tmp_path, 2)
    launch(cells[:1])
    monkeypatch.setattr(tasks.RayTasks, "collect", lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted):
        launch(cells, wait=True)
    assert cluster.cancelled == [0]
    assert [job.status for job in dashboard.jobs.values()] == ["PENDING"]
    assert f"ray job stop --address http://here {job_name(cells[0])}" in capsys.readouterr().err


def test_summary_says_which_cells_wait_and_run(dashboard: FakeJobs, tmp_path: Path) -> None:
    cells = cells_in(tmp_path, 3)
    launch(cells)
    for cell in cells[1:]:
        dashboard.set(job_name(cell), "RUNNING")
    # A driver runs also while its cell waits for a node.
    write_place(queue_folder(cells[2].run.path, RAY), job_name(cells[2]), State.RUNNING)
    runs = load_runs(find_runs(tmp_path), tmp_path)
    assert {run.study: run.in_queue for run in _with_queue(runs)} == {"0": "queued", "1": "queued", "2": "running"}


def test_sweeper_that_needs_results_waits_for_them() -> None:
    RayLauncher(wait=True).check_waits()
    with pytest.raises(ConfigError) as caught:
        RayLauncher(wait=False).launch([["seed=1"]], 0)
    assert only_fault(caught).key == "hydra.launcher.wait"
