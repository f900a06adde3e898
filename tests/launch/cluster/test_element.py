"""What an element does on its node: one cell, and whether it is put back into the queue."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from medqa_finetune.launch.cluster import element as module
from medqa_finetune.launch.cluster.element import main
from medqa_finetune.launch.planned import as_text
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, Record
from tests.cells import cell_in
from tests.launch.children import PENDING
from tests.launch.cluster.conftest import FakeSlurm

RUNNING = {"JobState": "RUNNING", "PreemptTime": "None"}
# Stands for a cell: it sets the status in its record.
SET = r"""
set() {
  sed -i "s/\"status\": \"[a-z]*\"/\"status\": \"$1\"/" "$run"/record.json "$run"/evaluations/*/evaluation.json
}
"""
DONE = SET + "set done\n"


def stopped(code: int) -> str:
    return f"{SET}set running; set interrupted; exit {code}\n"


@pytest.fixture
def run(slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """The run of a cell that is described in a folder, on a node of a job that runs."""
    monkeypatch.setattr(module, "REQUEUE_SECONDS", 0.0)
    monkeypatch.setattr(module, "PASSED_BY", ())
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    slurm.set(shown=RUNNING)
    cell = cell_in(tmp_path)
    (tmp_path / "cell.json").write_text(as_text(cell), encoding="utf-8")
    cell.run.write(PENDING)
    cell.evaluation.write(Evaluation("default", "e", "pending", {}))
    monkeypatch.setenv("run", str(cell.run.path))
    return cell.run


def start(run: RunDir, code: str, *, restarts: int = 0, retries: int = 0, more: Sequence[str] = ()) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_RESTART_COUNT", str(restarts))
        folder = run.path.parents[0]
        own = [f"folder={folder}", "name=cell", f"retries={retries}", "stalled_starts=3"]
        return main([*own, *more, "--", "bash", "-c", code])


def requeued(slurm: FakeSlurm) -> bool:
    return ["requeue", "12"] in slurm.calls("scontrol")


def on_disk(run: RunDir) -> Record:
    record = run.read()
    assert record is not None
    return record


def test_cell_that_is_done_ends_the_job(slurm: FakeSlurm, run: RunDir) -> None:
    assert start(run, DONE) == 0
    assert not requeued(slurm)


@pytest.mark.parametrize(
    ("code", "job", "put_back"),
    [
        (140, {}, True),
        (140, {"PreemptTime": "2026-01-01T00:00:00"}, True),
        (143, {"PreemptTime": "2026-01-01T00:00:00"}, True),
        # `scancel`: the job is ending; `scancel --signal=TERM`: a wish to stop.
        (143, {"JobState": "COMPLETING"}, False),
        (143, {}, False),
    ],
)
def test_cell_that_was_cut_short_is_put_back(
    slurm: FakeSlurm, run: RunDir, code: int, job: dict[str, str], put_back: bool
) -> None:
    slurm.set(shown=RUNNING | job)
    assert start(run, stopped(code)) == code
    assert requeued(slurm) is put_back
    assert on_disk(run).status == "interrupted"


@pytest.mark.parametrize(("more", "shown"), [([], "none"), (["processes=2"], "2")])
def test_each_gpu_trains_with_a_process(run: RunDir, more: list[str], shown: str) -> None:
    assert start(run, f'echo "trains with ${{MEDQA_TRAINING_PROCESSES:-none}}"\n{DONE}', more=more) == 0
    assert f"trains with {shown}\n" in (run.path.parent / "cell.log").read_text(encoding="utf-8")


def test_failure_is_not_put_back(slurm: FakeSlurm, run: RunDir) -> None:
    assert start(run, SET + "set running; echo no luck; exit 3\n") == 3
    assert not requeued(slurm)
    record = on_disk(run)
    assert record.status == "failed"
    assert "no luck" in (run.path.parent / "cell.log").read_text(encoding="utf-8")
    assert record.failure is not None
    assert "no luck" in record.failure.message


def test_crash_is_tried_again_within_the_job(run: RunDir) -> None:
    crash_once = SET + 'set running; [ -e "$run"/again ] || { touch "$run"/again; kill -ABRT $$; }; set done\n'
    assert start(run, crash_once, retries=1) == 0
    assert on_disk(run).status == "done"


def test_cell_in_use_is_put_back(slurm: FakeSlurm, run: RunDir) -> None:
    with run.lock():
        start(run, SET + "exit 1\n")
    assert requeued(slurm)


def test_cell_without_progress_is_given_up_at_last(slurm: FakeSlurm, run: RunDir) -> None:
    codes = [start(run, stopped(140), restarts=restarts) for restarts in range(4)]
    assert codes == [140, 140, 140, 1]
    assert slurm.calls("scontrol").count(["requeue", "12"]) == 3
    record = on_disk(run)
    assert record.failure is not None
    assert (record.status, record.failure.faults[0]["code"]) == ("failed", "no-progress")


def test_progress_starts_the_count_anew(run: RunDir) -> None:
    for restarts in range(3):
        start(run, stopped(140), restarts=restarts)
    stalled = json.loads((run.path.parent / "cell.starts.json").read_text(encoding="utf-8"))["stalled"]
    assert stalled == 2
    (run.evaluations_path / "default" / "answering.jsonl").write_text('{"answered": 9}\n', encoding="utf-8")
    start(run, DONE, restarts=3)
    assert json.loads((run.path.parent / "cell.starts.json").read_text(encoding="utf-8"))["stalled"] == 0


def test_another_job_of_the_cell_counts_from_the_beginning(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    for restarts in range(3):
        start(run, stopped(140), restarts=restarts)
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    assert start(run, DONE) == 0


def test_job_that_slurm_does_not_put_back_says_so(
    slurm: FakeSlurm, run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.set(requeue_fails=1)
    began = time.monotonic()
    assert start(run, stopped(140)) == 140
    assert time.monotonic() - began < 30
    assert "submits it again" in capsys.readouterr().out
