"""What is said of a start that has ended, and what its record says afterwards."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from medqa_finetune.matrix.ending import Ending, Start, _explain, judge
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Failure, Process, Record
from tests.matrix.children import PENDING

MINE, OTHER = Process(7, "here"), Process(8, "here")
LINES = ["one", "two", "  three", "four"]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "cell")
    run.write(PENDING)
    return run


def start(run: RunDir, *, overwrites: bool = False) -> Start:
    return Start(run, run.read(), MINE, overwrites)


def on_disk(run: RunDir) -> Record:
    record = run.read()
    assert record is not None
    return record


def failure(run: RunDir) -> Failure:
    record = on_disk(run)
    assert record.status == "failed"
    assert record.failure is not None
    return record.failure


@pytest.mark.parametrize("code", [0, 1, -11])
def test_a_cell_that_is_done_is_left_as_it_recorded_itself(run: RunDir, code: int) -> None:
    started = start(run)
    done = run.update(status="done", process=MINE)
    assert judge(started, code, LINES, stopping=False) == Ending("done")
    assert on_disk(run) == done


def test_a_failure_that_the_cell_recorded_itself_stands(run: RunDir) -> None:
    started = start(run)
    failed = run.update(status="failed", process=MINE, failure=Failure("OSError", "a bad disk"))
    assert judge(started, 1, LINES, stopping=False) == Ending("failed", "a bad disk", LINES, again=True)
    assert on_disk(run) == failed


def test_what_would_fail_again_is_not_to_be_tried_again(run: RunDir) -> None:
    started = start(run)
    run.update(status="failed", process=MINE, failure=Failure("RunError", "NaN", final=True))
    assert judge(started, 1, [], stopping=False).again is False


def test_an_interruption_that_the_cell_recorded_itself_stands(run: RunDir) -> None:
    started = start(run)
    run.update(status="interrupted", process=MINE, failure=Failure("SIGTERM", "stopped from outside"))
    assert judge(started, 143, LINES, stopping=True) == Ending("interrupted", "stopped from outside", LINES)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(0, "exit code 0"), (3, "exit code 3"), (1, "exit code 1"), (-9, "SIGKILL"), (-11, "SIGSEGV"), (-60, "signal 60")],
)
def test_an_end_that_the_cell_could_not_record_is_recorded_for_it(run: RunDir, code: int, kind: str) -> None:
    started = start(run)
    run.update(status="running", process=MINE)
    ending = judge(started, code, LINES, stopping=False)
    assert (ending.state, ending.again, ending.lines) == ("failed", True, LINES)
    assert ending.reason == failure(run).message
    assert f"ended with {kind} before the run was done" in ending.reason
    assert failure(run).kind == kind
    assert failure(run).final is False
    assert on_disk(run).finished is not None


@pytest.mark.parametrize("code", [-9, 137])
def test_a_kill_from_outside_is_explained(run: RunDir, code: int) -> None:
    assert "often the system, out of memory" in judge(start(run), code, [], stopping=False).reason


def test_a_kill_by_the_launcher_is_not_blamed_on_memory(run: RunDir) -> None:
    ending = judge(start(run), -9, [], stopping=True)
    assert ending == Ending("interrupted", "it was asked to stop, did not in time, and was killed", [])
    assert on_disk(run).status == "interrupted"


@pytest.mark.parametrize("number", [1, 2, 10, 12, 15])
@pytest.mark.parametrize("kind", ["exit code", "signal"])
def test_who_stops_a_cell_from_outside_wants_it_stopped(run: RunDir, number: int, kind: str) -> None:
    ending = judge(start(run), 128 + number if kind == "exit code" else -number, [], stopping=False)
    assert (ending.state, ending.again) == ("interrupted", False)
    assert ending.reason.startswith("it was stopped from outside (")
    assert on_disk(run).status == "interrupted"


def test_bad_input_is_named_by_the_cells_own_words_and_final(run: RunDir) -> None:
    ending = judge(start(run), 2, ["noise", "error: model.path=nowhere: no such folder"], stopping=False)
    assert (ending.state, ending.reason, ending.again) == ("failed", "model.path=nowhere: no such folder", False)
    assert failure(run).final is True


def test_the_last_words_are_in_the_message_and_all_in_the_log(run: RunDir) -> None:
    judge(start(run), 3, LINES, stopping=False)
    assert failure(run).message.endswith("last words: two | three | four")
    assert run.log_path.read_text(encoding="utf-8").splitlines()[1:] == LINES


def test_the_failure_of_an_earlier_start_is_not_taken_for_this_ones(run: RunDir) -> None:
    run.update(status="failed", process=MINE, failure=Failure("RunError", "the first time"), finished="before")
    assert "exit code 1" in judge(start(run), 1, [], stopping=False).reason


def test_an_old_result_that_was_to_be_made_anew_is_no_success(run: RunDir) -> None:
    done = run.update(status="done")
    for code in (0, 1):
        ending = judge(start(run, overwrites=True), code, [], stopping=False)
        assert (ending.state, ending.again) == ("failed", True)
    assert on_disk(run) == done


def test_a_run_that_was_found_done_by_the_cell_is_done(run: RunDir) -> None:
    run.update(status="done")
    assert judge(start(run), 0, [], stopping=False) == Ending("done")


@contextmanager
def working(run: RunDir) -> Iterator[None]:
    """Another process at work on the run."""
    with run.lock():
        run.update(status="running", process=OTHER)
        yield


@pytest.mark.parametrize("code", [0, 1, -9])
@pytest.mark.parametrize("record_changed", [True, False])
def test_a_run_that_another_process_works_on_is_left_to_it(run: RunDir, code: int, record_changed: bool) -> None:
    run.update(status="running")
    started = start(run)
    with working(run) if record_changed else run.lock():
        before = on_disk(run)
        assert judge(started, code, [], stopping=False).state == "taken"
        assert on_disk(run) == before


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_what_another_process_left_is_not_taken_for_the_cells(run: RunDir, status: str) -> None:
    started = start(run)
    left = run.update(status=status, process=OTHER, failure=Failure("RunError", "of the other", final=True))
    assert judge(started, 1, [], stopping=False).state == "taken"
    assert on_disk(run) == left


def test_what_another_process_finished_is_done(run: RunDir) -> None:
    started = start(run)
    run.update(status="done", process=OTHER)
    assert judge(started, 1, [], stopping=False) == Ending("done", by_another=True)


def test_a_run_taken_over_in_the_very_moment_is_left_to_the_other(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    started = start(run)

    def lock_taken_and_left(self: RunDir) -> "nullcontext[None]":
        self.update(status="interrupted", process=OTHER)
        return nullcontext()

    monkeypatch.setattr(RunDir, "lock", lock_taken_and_left)
    assert judge(started, -9, [], stopping=False).state == "taken"
    assert on_disk(run).process == OTHER


@pytest.mark.parametrize("content", [None, "{"])
def test_a_record_that_vanished_or_was_torn_is_the_end(run: RunDir, content: str | None) -> None:
    started = start(run)
    run.record_path.unlink()
    if content:
        run.record_path.write_text(content, encoding="utf-8")
    ending = judge(started, 1, LINES, stopping=False)
    assert (ending.state, ending.again, ending.lines) == ("failed", False, LINES)
    assert "gone or torn" in ending.reason
    assert (run.record_path.read_text(encoding="utf-8") if content else None) == content


def test_a_folder_that_vanished_is_not_made_again(run: RunDir) -> None:
    started = start(run)
    run.record_path.unlink()
    run.path.rmdir()
    assert judge(started, -9, [], stopping=False).again is False
    assert list(run.path.parent.iterdir()) == []


def test_what_cannot_be_written_is_said_nevertheless(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunDir, "write", full)
    ending = judge(start(run), -9, [], stopping=False)
    assert (ending.state, ending.again) == ("failed", True)
    assert on_disk(run) == PENDING


@pytest.mark.parametrize(
    ("code", "stopping", "state", "again"),
    [
        (0, False, "done", False),
        (1, False, "failed", True),
        (-11, False, "failed", True),
        (2, False, "failed", False),
        (143, False, "interrupted", False),
        (-signal.SIGTERM, False, "interrupted", False),
        (1, True, "interrupted", False),
        (0, True, "done", False),
    ],
)
def test_a_program_without_a_record_is_judged_by_its_exit_code(
    tmp_path: Path, code: int, stopping: bool, state: str, again: bool
) -> None:
    ending = judge(Start(RunDir(tmp_path), None, MINE), code, [], stopping)
    assert (ending.state, ending.again) == (state, again)
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_another_make_is_none(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"winner": "me"}', encoding="utf-8")
    assert judge(Start(RunDir(tmp_path), None, MINE), 0, [], stopping=False) == Ending("done")


def test_of_a_crash_in_native_code_the_top_is_told() -> None:
    report = [
        "step 3/9", "Fatal Python error: Segmentation fault", "", "Current thread 0x00 (most recent call first):",
        '  File "a.py", line 1 in multiply', '  File "b.py", line 2 in main', "", "Extension modules: numpy, torch",
    ]  # fmt: skip
    told = _explain(-11, report, stopping=False)
    assert told.endswith(
        "last words: Fatal Python error: Segmentation fault | Current thread 0x00 (most recent call first): | "
        'File "a.py", line 1 in multiply'
    )
