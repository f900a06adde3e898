"""One cell in a process of its own: small children that end in every way a process can."""

import sys
import threading
import time
from pathlib import Path

import pytest

from medqa_finetune.matrix import process
from medqa_finetune.matrix.process import cell_command, run_cell
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Failure, Record

ROOT = Path(__file__).parents[2]
PENDING = Record(
    name="cell", identity="i", status="pending", method="lora", data="20k", model="tiny", seed=0, config={}
)
# What a child begins with: it has its record at hand as an experiment has.
IMPORTS = (
    f"import os, signal, subprocess, sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
    "from pathlib import Path\n"
    "from medqa_finetune.record.run_dir import RunDir\n"
    "from medqa_finetune.record.schema import Failure\n"
    "run = RunDir(Path(sys.argv[1]))\n"
)
RUNNING = "run.update(status='running', started='now', failure=None)\n"
BEGIN = IMPORTS + RUNNING
DONE = "run.update(status='done')\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "cell")
    run.write(PENDING)
    return run


def child(run: RunDir, code: str) -> list[str]:
    return [sys.executable, "-c", code, str(run.path)]


def ended(run: RunDir, code: str) -> Record:
    """Run a child to its end; return the record, which is also the one on disk."""
    record = run_cell(child(run, code), run, lambda _: None)
    assert record is not None
    assert record == run.read()
    return record


def failure(record: Record) -> Failure:
    assert record.status == "failed"
    assert record.failure is not None
    return record.failure


def test_a_cell_that_is_done_is_left_as_it_recorded_itself(run: RunDir) -> None:
    record = ended(run, BEGIN + DONE)
    assert (record.status, record.failure) == ("done", None)


def test_a_failure_that_the_cell_recorded_itself_stands(run: RunDir) -> None:
    record = ended(run, BEGIN + "run.update(status='failed', failure=Failure('RunError', 'NaN')); sys.exit(1)")
    assert failure(record) == Failure("RunError", "NaN")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("sys.exit(0)", "exit code 0"),
        ("os._exit(3)", "exit code 3"),
        ("raise ValueError('lost')", "exit code 1"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
    ],
)
def test_an_end_that_the_cell_could_not_record_is_recorded_for_it(run: RunDir, code: str, kind: str) -> None:
    found = failure(ended(run, BEGIN + code))
    assert found.kind == kind
    assert f"ended with {kind} before the run was done" in found.message


def test_a_kill_from_outside_is_explained(run: RunDir) -> None:
    assert "out of memory" in failure(ended(run, BEGIN + "os.kill(os.getpid(), signal.SIGKILL)")).message


def test_the_last_words_are_in_the_message_and_all_in_the_log(run: RunDir) -> None:
    code = "for n in range(50): print(f'word {n}', file=sys.stderr)\nsys.stderr.flush(); os._exit(3)"
    message = failure(ended(run, BEGIN + code)).message
    assert message.endswith("last words: word 47 | word 48 | word 49")
    assert run.log_path.read_text(encoding="utf-8").splitlines()[1:] == [f"word {n}" for n in range(30, 50)]


def test_text_of_another_encoding_is_shown_as_well_as_can_be(run: RunDir) -> None:
    code = "sys.stderr.buffer.write(b'\\xff\\xfe' + '完'.encode()); sys.stderr.flush(); os._exit(3)"
    assert "完" in failure(ended(run, BEGIN + code)).message


def test_a_child_that_dies_before_it_begins_is_recorded(run: RunDir) -> None:
    assert "no such module" in failure(ended(run, "raise SystemExit('no such module')")).message


def test_the_failure_of_an_earlier_start_is_not_taken_for_this_ones(run: RunDir) -> None:
    run.update(status="failed", failure=Failure("RunError", "the first time"), finished="before")
    found = failure(ended(run, "raise SystemExit('the second time')"))
    assert "the second time" in found.message


def test_a_done_run_is_not_called_done_when_its_next_start_fails(run: RunDir) -> None:
    run.update(status="done")
    record = run_cell(child(run, "raise SystemExit('locked')"), run, lambda _: None)
    assert record is not None
    assert "locked" in failure(record).message
    on_disk = run.read()
    assert on_disk is not None
    assert on_disk.status == "done"


def test_the_record_of_another_process_at_work_is_not_written(run: RunDir) -> None:
    run.update(status="running")
    with run.lock():
        record = run_cell(child(run, "raise SystemExit('another process is working on it')"), run, lambda _: None)
        on_disk = run.read()
    assert record is not None
    assert "another process" in failure(record).message
    assert on_disk is not None
    assert on_disk.status == "running"


@pytest.mark.parametrize("content", [None, "{"])
def test_a_cell_without_a_readable_record_has_none(run: RunDir, content: str | None) -> None:
    run.record_path.unlink()
    if content:
        run.record_path.write_text(content, encoding="utf-8")
    assert run_cell(child(run, ""), run, lambda _: None) is None


def test_much_output_does_not_block_the_cell(run: RunDir) -> None:
    code = "print('x' * 10**6); print('y' * 10**6, file=sys.stderr)\n"
    assert ended(run, BEGIN + code + DONE).status == "done"


def test_a_cell_reads_nothing_from_the_terminal(run: RunDir) -> None:
    assert ended(run, BEGIN + "assert sys.stdin.read() == ''\n" + DONE).status == "done"


def test_what_a_cell_leaves_running_is_ended_with_it(run: RunDir) -> None:
    started = time.monotonic()
    code = "left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    code += "Path(sys.argv[1], 'left').write_text(str(left.pid))\n" + DONE + "os._exit(0)"
    assert ended(run, BEGIN + code).status == "done"
    assert time.monotonic() - started < 30
    left = int((run.path / "left").read_text(encoding="utf-8"))
    assert gone(left)


def gone(pid: int) -> bool:
    """Say whether a process ends within some seconds; a zombie that nobody waits for counts as ended."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_the_cell_is_watched_with_the_seconds_since_its_start(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "POLL_SECONDS", 0.02)
    seconds: list[float] = []
    run_cell(child(run, BEGIN + "time.sleep(0.2)\n" + DONE), run, seconds.append)
    assert len(seconds) > 3
    assert seconds == sorted(seconds)


class Interrupting:
    """A watcher that interrupts the launcher once the cell is at work."""

    def __init__(self, run: RunDir) -> None:
        self.run = run

    def __call__(self, seconds: float) -> None:
        record = self.run.read()
        if record is not None and record.status == "running":
            raise KeyboardInterrupt
        assert seconds < 30, "the cell never began"


def interrupted(run: RunDir, code: str) -> Record:
    with pytest.raises(KeyboardInterrupt):
        run_cell(child(run, code), run, Interrupting(run))
    record = run.read()
    assert record is not None
    return record


def test_interrupting_the_launcher_ends_the_cell_in_good_order(run: RunDir) -> None:
    code = (
        "def stop(*_): run.update(status='interrupted', failure=Failure('SystemExit', 'in order')); os._exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
    )
    record = interrupted(run, IMPORTS + code + RUNNING + "time.sleep(60)")
    assert (record.status, record.failure) == ("interrupted", Failure("SystemExit", "in order"))


def test_a_cell_that_ignores_the_request_is_killed_after_a_while_and_recorded(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.3)
    started = time.monotonic()
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + RUNNING + "time.sleep(60)"
    record = interrupted(run, IMPORTS + code)
    assert time.monotonic() - started < 30
    assert record.status == "interrupted"
    assert record.failure is not None
    assert record.failure.kind == "SIGKILL"


def test_no_thread_is_left_behind(run: RunDir) -> None:
    before = threading.active_count()
    ended(run, BEGIN + DONE)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        (["-m", "data=20k,50k"], []),
        (["-m", "--config-dir", "my conf", "data=20k"], ["--config-dir", "my conf"]),
        (["--config-dir=mine", "-m"], ["--config-dir=mine"]),
        (["-cd", "a", "-cn", "b", "-m"], ["-cd", "a", "-cn", "b"]),
    ],
)
def test_a_cell_looks_for_configuration_where_the_launcher_did(
    typed: list[str], passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *typed])
    command = cell_command(["data=20k"])
    assert command[0] == sys.executable
    assert command[-1 - len(passed) :] == [*passed, "data=20k"]


def test_a_cell_is_run_by_the_program_that_is_running() -> None:
    assert cell_command(["a=1"])[1:3] == ["-m", "pytest.__main__"]


def test_a_script_is_run_again_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "medqa-train"), "-m"])
    assert cell_command(["a=1"]) == [sys.executable, str(tmp_path / "medqa-train"), "a=1"]
