"""What runs on a node for each start: one cell, until it ends, or has to stop."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from medqa_finetune.launch.cluster.ray.element import Answer, Child, as_answer, read_answer
from medqa_finetune.launch.exit_status import ExitStatus
from medqa_finetune.launch.planned import as_text
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation
from tests.cells import cell_in
from tests.conftest import REPOSITORY
from tests.launch.children import PENDING

# Stands for a cell: it sets the status in its record.
SET = r"""
set() {
  sed -i "s/\"status\": \"[a-z]*\"/\"status\": \"$1\"/" "$run"/record.json "$run"/evaluations/*/evaluation.json
}
"""
# Stands for a training: it stops on SIGTERM, after it has written something.
TRAINS = SET + 'trap \'set interrupted; touch "$run"/checkpoint; exit 143\' TERM\nset running\ntouch "$run"/began\n'
FOR_EVER = "while :; do sleep 0.1; done\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """The run of a cell that is described in a folder."""
    cell = cell_in(tmp_path)
    (tmp_path / "cell.json").write_text(as_text(cell), encoding="utf-8")
    cell.run.write(PENDING)
    cell.evaluation.write(Evaluation("default", "e", "pending", {}))
    monkeypatch.setenv("run", str(cell.run.path))
    return cell.run


@contextlib.contextmanager
def started(run: RunDir, code: str, *more: str, start: int = 1) -> "Iterator[subprocess.Popen[str]]":
    own = [f"folder={run.path.parent}", "name=cell", "job=j", f"start={start}", "retries=0", "stalled_starts=2",
           "grace_seconds=20", "processes=1", *more]  # fmt: skip
    command = [sys.executable, "-m", "medqa_finetune.launch.cluster.ray.element", *own, "--", "bash", "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:  # fmt: skip
        yield process


def answer_of(process: "subprocess.Popen[str]") -> Answer:
    assert process.stdout is not None
    return read_answer(process.stdout.read())


def test_cell_that_is_done_says_so(run: RunDir) -> None:
    with started(run, SET + "set done") as process:
        assert answer_of(process).status.state == "done"
    assert "start 1 of job j" in (run.path.parent / "cell.log").read_text(encoding="utf-8")


def test_cell_stops_when_the_input_closes(run: RunDir) -> None:
    with started(run, TRAINS + FOR_EVER) as process:
        wait_for_file(run.path / "began")
        assert process.stdin is not None
        process.stdin.close()
        answer = answer_of(process)
    assert (answer.status.state, answer.cause) == ("interrupted", "asked")
    assert (run.path / "checkpoint").exists()


def test_cell_stops_in_its_own_time_when_the_worker_and_its_child_are_killed(run: RunDir) -> None:
    with started(run, TRAINS + FOR_EVER) as process:
        wait_for_file(run.path / "began")
        children = psutil.Process(process.pid).children()
        process.kill()
        assert process.stdin is not None
        process.stdin.close()
    wait_for_file(run.path / "checkpoint")
    psutil.wait_procs(children, timeout=20)
    record = run.read()
    assert record is not None
    assert record.status == "interrupted"


def test_time_limit_leaves_time_for_a_checkpoint(run: RunDir) -> None:
    with started(run, TRAINS + FOR_EVER, "seconds=21") as process:
        answer = answer_of(process)
    assert (answer.status.state, answer.cause) == ("interrupted", "time")
    assert (run.path / "checkpoint").exists()


def test_cell_without_progress_is_given_up(run: RunDir) -> None:
    starts = run.path.parent / "cell.starts.json"
    starts.write_text(json.dumps({"job": "j", "starts": 2, "stalled": 1, "progress": [False, 0, 0]}), encoding="utf-8")
    with started(run, TRAINS + FOR_EVER, start=3) as process:
        answer = answer_of(process)
    assert answer.status.state == "failed"
    assert answer.status.faults[0].code == "no-progress"
    assert not (run.path / "began").exists()


def test_cell_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    read, write = os.pipe()
    ready = tmp_path / "ready"

    def ask_to_stop() -> None:
        wait_for_file(ready)
        os.close(write)

    asking = threading.Thread(target=ask_to_stop)
    asking.start()
    began = time.monotonic()
    with (tmp_path / "log").open("wb") as log:
        code = Child(read, None, 0.5).run(["bash", "-c", f"trap '' TERM; touch {ready}; {FOR_EVER}"], {}, log)
    asking.join()
    os.close(read)
    assert code == -9
    assert time.monotonic() - began < 10


def test_answer_keeps_every_field() -> None:
    status = ExitStatus("failed", "no luck", ["a", "b"])
    answer = read_answer(as_answer(status, "time"))
    assert (answer.status.state, answer.status.reason, answer.status.lines) == ("failed", "no luck", ["a", "b"])
    assert answer.cause == "time"


def wait_for_file(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")
