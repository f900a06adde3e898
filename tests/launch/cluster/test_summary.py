"""What `summarize` says of cells in a queue."""

from pathlib import Path

import pytest

from medqa_finetune.launch.cluster.launcher import SlurmLauncher
from medqa_finetune.launch.cluster.naming import job_name
from medqa_finetune.record.run_dir import find_runs
from medqa_finetune.report.load import load_runs
from medqa_finetune.run_state.claim import ensure_records
from medqa_finetune.summarize import _with_queue
from tests.cells import cell_in
from tests.launch.cluster.conftest import FakeSlurm


def places(outputs: Path) -> dict[str, str]:
    runs = load_runs(find_runs(outputs), outputs)
    return {run.study: run.in_queue for run in _with_queue(runs)}


@pytest.fixture
def outputs(slurm: FakeSlurm, tmp_path: Path) -> Path:
    """Three studies with a cell each: queued, running, cancelled."""
    cells = [cell_in(tmp_path / "outputs" / name) for name in ("queued", "running", "cancelled")]
    for cell in cells:
        ensure_records(cell)
    SlurmLauncher(gpus_per_cell=0, wait=False).launch_cells(cells)
    slurm.change(job_name(cells[1]), state="RUNNING")
    slurm.change(job_name(cells[2]), state="CANCELLED")
    return tmp_path / "outputs"


def test_cells_are_queued_or_running_as_the_queue_has_them(outputs: Path) -> None:
    assert places(outputs) == {"queued": "queued", "running": "running", "cancelled": ""}


def test_queue_that_does_not_answer_is_said(
    slurm: FakeSlurm, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.set(silent=True)
    assert set(places(outputs).values()) == {""}
    assert "Unable to contact" in capsys.readouterr().out


def test_nothing_is_asked_where_nothing_was_submitted(slurm: FakeSlurm, tmp_path: Path) -> None:
    ensure_records(cell_in(tmp_path))
    slurm.set(silent=True)
    assert set(places(tmp_path).values()) == {""}
    assert slurm.calls("squeue") == []
