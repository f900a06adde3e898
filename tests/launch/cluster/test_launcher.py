"""Which cells a launch submits, which it leaves to their jobs, and what it returns."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobStatus

from medqa_finetune.cell import Cell
from medqa_finetune.errors import ConfigError
from medqa_finetune.launch.cluster import watch
from medqa_finetune.launch.cluster.launcher import SlurmLauncher
from medqa_finetune.launch.cluster.naming import job_name
from medqa_finetune.run_state.claim import ensure_records
from medqa_finetune.stopping import Interrupted
from tests.cells import cell_in, evaluate
from tests.faulty import only_fault
from tests.launch.cluster.conftest import FakeSlurm


def cells_in(tmp_path: Path, count: int, **values: Any) -> list[Cell]:
    """Return cells of as many studies, whose records are written as a matrix does it."""
    cells = [cell_in(tmp_path / str(number), **values) for number in range(count)]
    for cell in cells:
        ensure_records(cell)
    return cells


def launch(cells: Sequence[Cell], *, wait: bool = False) -> list[JobStatus]:
    return [result.status for result in SlurmLauncher(gpus_per_cell=0, wait=wait).launch_cells(cells)]


def sent(slurm: FakeSlurm) -> list[str]:
    """Return the numbers of elements of every submission."""
    calls = [call for call in slurm.calls("sbatch") if "--test-only" not in call]
    return [option.partition("=")[2] for call in calls for option in call if option.startswith("--array=")]


def test_same_command_submits_what_is_neither_done_nor_queued(slurm: FakeSlurm, tmp_path: Path) -> None:
    cells = cells_in(tmp_path, 4)
    evaluate(cells[0])
    assert launch(cells) == [JobStatus.COMPLETED, *[JobStatus.UNKNOWN] * 3]
    assert launch(cells)[1:] == [JobStatus.UNKNOWN] * 3
    assert sent(slurm) == ["0-2"]
    slurm.change(job_name(cells[1]), state="RUNNING")
    slurm.change(job_name(cells[2]), state="CANCELLED")
    evaluate(cells[3])
    slurm.change(job_name(cells[3]), state="COMPLETED")
    assert launch(cells).count(JobStatus.UNKNOWN) == 2
    assert sent(slurm) == ["0-2", "0-0"]
    assert list(slurm.jobs()).count(job_name(cells[2])) == 1


def test_nothing_is_submitted_where_all_is_done(slurm: FakeSlurm, tmp_path: Path) -> None:
    cells = cells_in(tmp_path, 1)
    evaluate(cells[0])
    assert launch(cells) == [JobStatus.COMPLETED]
    assert sent(slurm) == []


def test_what_is_queued_must_be_known(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.set(silent=True)
    with pytest.raises(ConfigError) as caught:
        launch(cells_in(tmp_path, 1))
    assert only_fault(caught).code == "not-answering"
    assert sent(slurm) == []


def test_refused_cells_leave_what_was_there(slurm: FakeSlurm, tmp_path: Path) -> None:
    done = cell_in(tmp_path)
    evaluate(done)
    slurm.set(refuses="Invalid account")
    with pytest.raises(ConfigError):
        launch([cell_in(tmp_path, overwrite=True)])
    assert done.folder.read() is not None
    assert not list(tmp_path.glob("*.old-*"))


def test_run_is_moved_aside_once_and_its_job_overwrites_nothing(slurm: FakeSlurm, tmp_path: Path) -> None:
    evaluate(cell_in(tmp_path))
    cells = [cell_in(tmp_path, overwrite=True), cell_in(tmp_path, overwrite=True, evaluate__max_samples=9)]
    assert launch(cells) == [JobStatus.UNKNOWN] * 2
    assert len(list(tmp_path.glob("*.old-*"))) == 1
    (described,) = tmp_path.glob(f"slurm/{job_name(cells[0])}.json")
    assert '"overwrite": false' in described.read_text(encoding="utf-8")
    launch(cells)
    assert len(list(tmp_path.glob("*.old-*"))) == 1
    assert sent(slurm) == ["0-1"]


def test_evaluations_of_a_run_wait_for_its_training(slurm: FakeSlurm, tmp_path: Path) -> None:
    cells = [cell_in(tmp_path), cell_in(tmp_path, evaluate__max_samples=9)]
    launch(cells)
    first, second = (slurm.jobs()[job_name(cell)].get("after") for cell in cells)
    assert (first, second) == (None, "afterok:1_0")
    # Also where the training was submitted before, and not where it is done.
    launch([*cells, third := cell_in(tmp_path, evaluate__max_samples=8)])
    assert slurm.jobs()[job_name(third)]["after"] == "afterok:1_0"
    evaluate(cells[0])
    launch([fourth := cell_in(tmp_path, evaluate__max_samples=7)])
    assert slurm.jobs()[job_name(fourth)].get("after") is None


def test_waits_until_every_job_has_ended(slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.0)
    cells = cells_in(tmp_path, 2)
    launch(cells)
    evaluate(cells[0])
    look = watch.Watcher.look_when_due

    def lose_node(watcher: watch.Watcher) -> None:
        look(watcher)
        slurm.change(job_name(cells[1]), state="NODE_FAIL")

    monkeypatch.setattr(watch.Watcher, "look_when_due", lose_node)
    assert launch(cells, wait=True) == [JobStatus.COMPLETED, JobStatus.FAILED]
    record = cells[1].folder.read()
    assert record is not None
    assert record.failure is not None
    assert record.failure.faults[0]["code"] == "node-lost"


def test_interrupted_launch_leaves_its_jobs(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch.Watcher, "look_when_due", lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted):
        launch(cells_in(tmp_path, 2), wait=True)
    assert {job["state"] for job in slurm.jobs().values()} == {"PENDING"}
    assert slurm.calls("scancel") == []
    assert "scancel 1" in capsys.readouterr().err


def test_sweeper_that_needs_results_waits_for_them() -> None:
    SlurmLauncher(wait=True).check_waits()
    with pytest.raises(ConfigError) as caught:
        SlurmLauncher(wait=False).launch([["seed=1"]], 0)
    assert only_fault(caught).key == "hydra.launcher.wait"
