"""The order in which cells are started, where, how often, and how they are stopped; cells are small programs."""

import json
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from medqa_finetune.launch import scheduler
from medqa_finetune.launch.display import LiveDisplay, view_of
from medqa_finetune.launch.gpus import Gpu, Slot, keep_gpus
from medqa_finetune.launch.scheduler import Job, Scheduler
from medqa_finetune.progress import StageClock
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Process, Record
from tests.launch.children import BEGIN, DONE, IMPORTS, PENDING, RUNNING

CPU = Slot(None)
NOTE = "run.path.parent.joinpath('order').open('a').write(run.path.name)\n"
COUNT = "starts = run.path / 'starts'\nstarts.open('a').write('x')\n"
# A cell that stops when asked to, after it has said so.
STOPPABLE = (
    IMPORTS + "def stop(*_):\n    run.update(status='interrupted', failure=Failure('SIGTERM', 'in order'))\n"
    "    os._exit(143)\nsignal.signal(signal.SIGTERM, stop)\n" + RUNNING + "time.sleep(60)"
)
STUBBORN = IMPORTS + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + RUNNING + "time.sleep(60)"


pytestmark = pytest.mark.usefixtures("forked_children")
RUN_CODE = str(Path(__file__).with_name("run_code.py"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "cell_command", lambda overrides: [sys.executable, RUN_CODE, *overrides])
    monkeypatch.setattr(scheduler, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(scheduler, "CHECK_AGAIN_SECONDS", 0.1)


def job(folder: Path, code: str, *, overwrites: bool = False) -> Job:
    """A cell that runs `code`, with a record if the code uses one."""
    run = CellDir(RunDir(folder))
    if IMPORTS in code and run.read() is None:
        run.run.write(PENDING)
    return Job([folder.name], [code, str(folder)], run, run.read(), overwrites, label=folder.name)


def run_all(jobs: Sequence[Job], slots: Sequence[Slot] = (CPU,), *, retries: int = 0) -> None:
    with LiveDisplay(jobs) as display:
        each = Scheduler(jobs, slots, retries=retries, display=display)
        until = time.monotonic() + 60
        try:
            while each.has_open_jobs() and time.monotonic() < until:
                each.start_due_jobs()
                each.collect_exits()
                time.sleep(0.02)
        finally:
            each.stop(0)


def states(jobs: Sequence[Job]) -> list[str]:
    return [each.exit_status.state if each.exit_status is not None else "open" for each in jobs]


def record_of(each: Job) -> Record:
    record = each.run.read()
    assert record is not None
    return record


def starts(each: Job) -> int:
    return len((each.run.path / "starts").read_text(encoding="utf-8"))


def test_cells_are_started_in_order_one_at_time(tmp_path: Path) -> None:
    jobs = [job(tmp_path / name, BEGIN + NOTE + DONE) for name in "abc"]
    run_all(jobs)
    assert states(jobs) == ["done"] * 3
    assert (tmp_path / "order").read_text(encoding="utf-8") == "abc"


def test_cell_that_fails_does_not_stop_others(tmp_path: Path) -> None:
    ends = [
        "sys.exit(0)",
        "os._exit(1)",
        "os.kill(os.getpid(), 9)",
        "os.kill(os.getpid(), 11)",
        "raise ValueError",
        DONE,
    ]
    jobs = [job(tmp_path / str(number), BEGIN + end) for number, end in enumerate(ends)]
    run_all(jobs, [CPU, CPU])
    assert states(jobs) == ["failed"] * 5 + ["done"]
    assert [record_of(each).status for each in jobs] == ["failed"] * 5 + ["done"]


def test_every_slot_runs_a_cell_on_its_gpu(tmp_path: Path) -> None:
    # Each waits for the other: together they can end, one after the other they cannot.
    meet = (
        "import os, sys, time; from pathlib import Path; me = Path(sys.argv[1]); other = Path(sys.argv[2])\n"
        "me.write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "while not other.exists(): time.sleep(0.02)\n"
    )
    jobs = [
        Job(
            [name], [meet, str(tmp_path / name), str(tmp_path / other)], CellDir(RunDir(tmp_path / f"run-{name}")), None
        )
        for name, other in ("ab", "ba", "cd", "dc")
    ]
    run_all(jobs, [Slot((Gpu("0", "0"),)), Slot((Gpu("MIG-x", "x"),))])
    assert states(jobs) == ["done"] * 4
    seen = [(tmp_path / name).read_text(encoding="utf-8") for name in "abcd"]
    assert sorted(seen[:2]) == sorted(seen[2:]) == ["0", "MIG-x"]


def test_two_launches_share_the_gpus_of_a_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = (
        "import pathlib, sys, time; me = pathlib.Path(sys.argv[1]); gpu = me.parent / 'in use'\n"
        "gpu.touch(exist_ok=False); time.sleep(0.2); gpu.unlink(); me.touch()\n"
    )
    slots = [Slot((Gpu("0", "0", f"GPU-{uuid.uuid4()}"),))]
    launches = []
    for launch in "ab":
        jobs = [
            Job([name], [alone, str(tmp_path / (launch + name))], CellDir(RunDir(tmp_path / launch / name)), None)
            for name in "12"
        ]
        with LiveDisplay(jobs) as display:
            launches.append((jobs, Scheduler(jobs, slots, retries=0, display=display, keep=keep_gpus)))
    until = time.monotonic() + 30
    while any(each.has_open_jobs() for _, each in launches) and time.monotonic() < until:
        for _, each in launches:
            each.start_due_jobs()
            each.collect_exits()
        time.sleep(0.02)
    assert [states(jobs) for jobs, _ in launches] == [["done"] * 2] * 2
    assert capsys.readouterr().err.count("waiting for GPUs that other launches on this machine use: 0") == 2


@pytest.mark.parametrize("retries", [0, 2])
def test_crash_is_tried_again_as_often_as_allowed(
    tmp_path: Path, retries: int, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [job(tmp_path / "cell", BEGIN + COUNT + "os._exit(1)")]
    run_all(jobs, retries=retries)
    assert states(jobs) == ["failed"]
    assert starts(jobs[0]) == 1 + retries
    assert capsys.readouterr().err.count("trying again") == retries


def test_cell_that_succeeds_second_time_is_done(tmp_path: Path) -> None:
    again = COUNT + "if len(starts.read_text()) == 1: os.kill(os.getpid(), 9)\n"
    jobs = [job(tmp_path / "cell", BEGIN + again + DONE)]
    run_all(jobs, retries=1)
    assert states(jobs) == ["done"]
    assert record_of(jobs[0]).failure is None


@pytest.mark.parametrize(
    "end",
    [
        "print('error: no such model'); sys.exit(2)",
        "sys.exit(143)",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "run.update(status='failed', failure=Failure('RunError', 'the loss became nan', final=True)); sys.exit(1)",
        "run.update(status='interrupted', failure=Failure('SIGTERM', 'by hand')); sys.exit(143)",
        "run.record_path.unlink(); os._exit(1)",
    ],
)
def test_final_failure_is_not_retried(tmp_path: Path, end: str) -> None:
    jobs = [job(tmp_path / "cell", BEGIN + COUNT + end)]
    run_all(jobs, retries=3)
    assert starts(jobs[0]) == 1
    assert states(jobs) != ["done"]


def test_processes_of_a_dead_cell_are_not_others(tmp_path: Path) -> None:
    # The fork inherits the lock, as workers of a data loader do.
    left = COUNT + "lock = run.lock(); lock.__enter__()\nif os.fork() == 0: time.sleep(60)\nos.kill(os.getpid(), 9)"
    jobs = [job(tmp_path / "cell", BEGIN + left)]
    run_all(jobs, retries=1)
    assert states(jobs) == ["failed"]
    assert starts(jobs[0]) == 2


def test_a_process_that_cannot_be_started_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job(tmp_path / "a", "no such program"), job(tmp_path / "b", BEGIN + DONE)]
    monkeypatch.setattr(
        scheduler, "cell_command",
        lambda overrides: overrides if "no such" in overrides[0] else [sys.executable, "-c", *overrides],
    )  # fmt: skip
    run_all(jobs, retries=1)
    assert states(jobs) == ["failed", "done"]
    assert jobs[0].exit_status is not None
    assert "could not be started" in jobs[0].exit_status.reason


@contextmanager
def another_at_work(run: RunDir) -> Iterator[None]:
    with run.lock():
        run.update(status="running", process=Process(1, "elsewhere"))
        yield


def test_busy_run_lets_others_go_first(tmp_path: Path) -> None:
    jobs = [job(tmp_path / name, BEGIN + COUNT + NOTE + DONE) for name in "abc"]
    with LiveDisplay(jobs) as display:
        each = Scheduler(jobs, [CPU], retries=0, display=display)
        with another_at_work(jobs[0].run.run):
            while states(jobs)[1:] != ["done", "done"]:
                each.start_due_jobs()
                each.collect_exits()
                time.sleep(0.02)
            assert states(jobs) == ["open", "done", "done"]
            jobs[0].run.run.update(status="done")
        while each.has_open_jobs():
            each.start_due_jobs()
            time.sleep(0.02)
    assert jobs[0].note == "done by another process"
    assert (tmp_path / "order").read_text(encoding="utf-8") == "bc"


def test_unfinished_run_of_another_process_is_taken_over(tmp_path: Path) -> None:
    jobs = [job(tmp_path / "cell", BEGIN + COUNT + DONE)]
    with LiveDisplay(jobs) as display:
        each = Scheduler(jobs, [CPU], retries=0, display=display)
        with another_at_work(jobs[0].run.run):
            each.start_due_jobs()
            assert jobs[0].running is None
        while each.has_open_jobs():
            each.start_due_jobs()
            each.collect_exits()
            time.sleep(0.02)
    assert states(jobs) == ["done"]
    assert starts(jobs[0]) == 1


def lease_elsewhere(run: RunDir, seconds: float) -> None:
    """Leave the lease of a process on another machine, which is not renewed any more."""
    holder = {"owner": "0123abcd", "host": "node7", "host_identity": "node7 boot", "pid": 4711, "started": "1"}
    fields = {**holder, "seconds": seconds, "renewals": "000000000000"}
    run.lock_path.with_suffix(".lease").write_text(json.dumps(fields), encoding="utf-8")


def test_run_of_another_machine_is_waited_for_and_taken_over_once_its_lease_has_expired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locked = COUNT + "with run.lock(watches=True):\n    run.update(status='done')\n"
    jobs = [job(tmp_path / "cell", BEGIN + locked)]
    lease_elsewhere(jobs[0].run.run, seconds=2)
    began = time.monotonic()
    with LiveDisplay(jobs) as display:
        each = Scheduler(jobs, [CPU], retries=0, display=display)
        each.start_due_jobs()
        assert view_of(jobs[0], StageClock()).text == "running elsewhere: process 4711 on node7"
        while each.has_open_jobs():
            each.start_due_jobs()
            each.collect_exits()
            time.sleep(0.02)
    assert states(jobs) == ["done"]
    assert starts(jobs[0]) == 1
    # The launcher has watched the lease; the cell does not do so again.
    assert 2 <= time.monotonic() - began < 4
    assert any("taken over from process 4711 on node7" in message for message in caplog.messages)


def test_taken_run_costs_no_retry(tmp_path: Path) -> None:
    # The lock is taken by the cell's own child, which outlives it by belonging to another session: another process.
    other = (
        IMPORTS + "with run.lock():\n    run.update(status='running', process=this_process())\n"
        "    run.path.joinpath('locked').write_text('x')\n    time.sleep(3)\n    run.update(status='done')\n"
    )
    taken = COUNT + (
        f"subprocess.Popen([sys.executable, '-c', {other!r}, sys.argv[1]], start_new_session=True)\n"
        "while not run.path.joinpath('locked').exists(): time.sleep(0.02)\n"
        "sys.exit(1)\n"
    )
    jobs = [job(tmp_path / "cell", IMPORTS + taken)]
    run_all(jobs, retries=0)
    assert states(jobs) == ["done"]
    assert jobs[0].note == "done by another process"
    assert (jobs[0].attempts, starts(jobs[0])) == (0, 1)


def test_program_that_restarts_itself_is_believed_in_the_end(tmp_path: Path) -> None:
    inner = BEGIN + "run.update(status='failed', failure=Failure('RunError', 'bad luck'))\nsys.exit(1)"
    outer = IMPORTS + COUNT + f"sys.exit(subprocess.run([sys.executable, '-c', {inner!r}, sys.argv[1]]).returncode)"
    jobs = [job(tmp_path / "cell", outer)]
    run_all(jobs, retries=1)
    assert jobs[0].exit_status is not None
    assert (jobs[0].exit_status.state, jobs[0].exit_status.reason) == ("failed", "bad luck")
    assert starts(jobs[0]) == 3


def test_overwriting_happens_once_and_a_crash_resumes(tmp_path: Path) -> None:
    RunDir(tmp_path / "cell").write(PENDING.updated(status="done"))
    # Killed twice: the first time before the old result is touched, the second time after.
    code = (
        "asked = run.path / 'asked'\nif asked.exists(): "
        + RUNNING
        + "asked.open('a').write(' '.join(sys.argv[2:]) + ';')\n"
        "if asked.read_text().count(';') < 3: os.kill(os.getpid(), 9)\n"
    )
    jobs = [job(tmp_path / "cell", IMPORTS + code + DONE, overwrites=True)]
    run_all(jobs, retries=2)
    assert states(jobs) == ["done"]
    assert (tmp_path / "cell" / "asked").read_text(encoding="utf-8") == ";;overwrite=false;"


def stopped(jobs: Sequence[Job], grace: float) -> float:
    """Start all cells, wait until they are at work, stop them; return the seconds that took."""
    with LiveDisplay(jobs) as display:
        each = Scheduler(jobs, [CPU] * len(jobs), retries=1, display=display)
        each.start_due_jobs()
        while not all(record_of(one).status == "running" for one in jobs):
            time.sleep(0.02)
        began = time.monotonic()
        each.stop(grace)
        return time.monotonic() - began


def test_cells_asked_to_stop_end_as_interrupted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job(tmp_path / name, STOPPABLE) for name in "ab"]
    stopped(jobs, grace=30)
    assert states(jobs) == ["interrupted"] * 2
    assert [failure.message for each in jobs if (failure := record_of(each).failure)] == ["in order"] * 2
    assert "stopping 2 cells, each of which writes a checkpoint first; again to stop at once" in capsys.readouterr().err


def test_cell_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    jobs = [job(tmp_path / "a", STUBBORN), job(tmp_path / "b", STOPPABLE)]
    assert 0.5 <= stopped(jobs, grace=0.5) < 30
    assert [record_of(each).status for each in jobs] == ["interrupted"] * 2
    failures = [record_of(each).failure for each in jobs]
    assert [each.kind for each in failures if each] == ["SIGKILL", "SIGTERM"]


def test_a_second_signal_ends_the_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job(tmp_path / "a", STUBBORN)]

    def second_signal(_: object) -> None:
        raise SystemExit(130)

    monkeypatch.setattr(LiveDisplay, "show", second_signal)
    with pytest.raises(SystemExit):
        stopped(jobs, grace=60)
    assert record_of(jobs[0]).status == "interrupted"


def test_nothing_is_said_when_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job(tmp_path / "a", BEGIN + DONE)]
    with LiveDisplay(jobs) as display:
        Scheduler(jobs, [CPU], retries=0, display=display).stop(10)
    assert capsys.readouterr().err == ""


# A cell as an experiment is one: the run is locked while it trains, then the evaluation alone.
LIFE = (
    IMPORTS + "import contextlib\n"
    "from medqa_finetune.record.evaluation_dir import EvaluationDir\n"
    "from medqa_finetune.record.evaluations import CellDir\n"
    "evaluation = EvaluationDir(run.evaluations_path / sys.argv[2])\n"
    "def note(what):\n    run.path.parent.joinpath('order').open('a').write(f'{what} {sys.argv[2]}\\n')\n"
    "with contextlib.ExitStack() as held, contextlib.ExitStack() as training:\n"
    "    training.enter_context(run.lock())\n"
    "    if 'overwrite=false' not in sys.argv and 'overwrite=true' in sys.argv:\n"
    "        old = run.read()\n        run.move_aside()\n"
    "        run.write(old.updated(status='pending', evaluation_name=None, seed=old.seed + 1))\n"
    "    if not run.read().is_trained:\n"
    "        run.update(status='running', process=this_process())\n"
    "        note('trains'); time.sleep(float(sys.argv[3]))\n"
    "        if sys.argv[4] == 'crash' and not run.path.joinpath('crashed').exists():\n"
    "            run.path.joinpath('crashed').touch(); os._exit(1)\n"
    "    held.enter_context(evaluation.lock())\n"
    "    begun = evaluation.read() or Evaluation(sys.argv[2], sys.argv[2], 'pending', {})\n"
    "    evaluation.write(begun.updated(status='running', process=this_process()))\n"
    "    if run.read().status != 'done': run.update(status='trained', process=this_process())\n"
    "    training.close()\n"
    "    note('evaluates'); time.sleep(float(sys.argv[3]))\n"
    "    evaluation.update(status='done')\n"
    "    with run.lock(60):\n"
    "        if run.read().status != 'done': run.update(status='done', evaluation_name=sys.argv[2])\n"
    "    note('done')\n"
).replace("import Failure", "import Evaluation, Failure")


def cells_of_one_run(
    folder: Path, names: Sequence[str], *, seconds: float = 0.5, how: str = "well", overwrites: bool = False
) -> list[Job]:
    """Return cells that are evaluations of one training."""
    run = RunDir(folder)
    if run.read() is None:
        run.write(PENDING)
    jobs = []
    for name in names:
        cell = CellDir(run, EvaluationDir(run.evaluations_path / name))
        typed = [LIFE, str(folder), name, str(seconds), how, *(["overwrite=true"] if overwrites else [])]
        jobs.append(Job([folder.name, name], typed, cell, cell.read(), overwrites, label=name))
    return jobs


def order(folder: Path) -> list[str]:
    return (folder.parent / "order").read_text(encoding="utf-8").splitlines()


def test_evaluation_waits_for_its_training(tmp_path: Path) -> None:
    # Long enough for the second process to start on a busy machine while the first one evaluates.
    jobs = cells_of_one_run(tmp_path / "run", ["default", "few"], seconds=4)
    run_all(jobs, [CPU, CPU])
    assert states(jobs) == ["done", "done"]
    assert [each.attempts for each in jobs] == [1, 1]
    # Trained once, and both evaluations at the same time.
    assert order(tmp_path / "run")[:3] == ["trains default", "evaluates default", "evaluates few"]
    assert [record_of(each).evaluation_name for each in jobs] == ["default", "few"]
    first = RunDir(tmp_path / "run").read()
    assert first is not None
    assert first.status == "done"


def test_other_runs_start_while_a_cell_waits(tmp_path: Path) -> None:
    jobs = [
        *cells_of_one_run(tmp_path / "run", ["default", "few"], seconds=2),
        job(tmp_path / "b", BEGIN + NOTE + DONE),
    ]
    run_all(jobs, [CPU, CPU])
    assert states(jobs) == ["done"] * 3
    text = (tmp_path / "order").read_text(encoding="utf-8")
    assert "b" in text.partition("evaluates few")[0]


def test_crashed_training_is_retried_before_its_evaluations(tmp_path: Path) -> None:
    jobs = cells_of_one_run(tmp_path / "run", ["default", "few"], how="crash")
    run_all(jobs, [CPU, CPU], retries=1)
    assert states(jobs) == ["done", "done"]
    assert [each.attempts for each in jobs] == [2, 1]
    assert order(tmp_path / "run")[:2] == ["trains default"] * 2


def test_one_slot_runs_cells_of_a_run_in_turn(tmp_path: Path) -> None:
    jobs = cells_of_one_run(tmp_path / "run", ["default", "few"], seconds=0.1)
    run_all(jobs)
    assert states(jobs) == ["done", "done"]
    assert order(tmp_path / "run") == [
        "trains default", "evaluates default", "done default", "evaluates few", "done few",
    ]  # fmt: skip


def test_overwriting_is_done_once_for_all_evaluations(tmp_path: Path) -> None:
    run_all(cells_of_one_run(tmp_path / "run", ["default", "few"], seconds=0.1))
    (tmp_path / "order").unlink()
    jobs = cells_of_one_run(tmp_path / "run", ["default", "few"], overwrites=True)
    run_all(jobs, [CPU, CPU])
    assert states(jobs) == ["done", "done"]
    assert [line for line in order(tmp_path / "run") if line.startswith("trains")] == ["trains default"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["run", "run.old-1"]
