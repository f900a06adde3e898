"""What is said of a start that has ended, and what its record says afterwards."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from medqa_finetune.errors import Fault
from medqa_finetune.launch.exit_status import Attempt, ExitStatus, _explain, classify_exit, summarize_record
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, EvaluationRecord, Failure, FileStamp, Process, Record, Score
from tests.launch.children import PENDING
from tests.report.builders import record

MINE, OTHER = Process(7, "here"), Process(8, "here")
LINES = ["one", "two", "  three", "four"]
MISSING = Fault("folder-missing", "no such folder", key="model.path", got="nowhere")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "cell")
    run.write(PENDING)
    return run


def start(run: RunDir, *, overwrites: bool = False) -> Attempt:
    return Attempt(CellDir(run), run.read(), MINE, overwrites)


def end(
    started: Attempt, code: int, lines: Sequence[str] = (), faults: Sequence[Fault] = (), *, stopping: bool = False
) -> ExitStatus:
    """Judge a start whose process has ended."""
    return classify_exit(started, code, lines, faults, stopping)


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
def test_done_cell_keeps_its_own_record(run: RunDir, code: int) -> None:
    started = start(run)
    done = run.update(status="done", process=MINE)
    assert end(started, code, LINES) == ExitStatus("done")
    assert on_disk(run) == done


def test_a_failure_that_the_cell_recorded_itself_stands(run: RunDir) -> None:
    started = start(run)
    failed = run.update(status="failed", process=MINE, failure=Failure("OSError", "a bad disk"))
    assert end(started, 1, LINES) == ExitStatus("failed", "a bad disk", LINES, may_retry=True)
    assert on_disk(run) == failed


def test_final_failure_may_not_be_retried(run: RunDir) -> None:
    started = start(run)
    run.update(status="failed", process=MINE, failure=Failure("RunError", "NaN", final=True))
    assert end(started, 1).may_retry is False


def test_an_interruption_that_the_cell_recorded_itself_stands(run: RunDir) -> None:
    started = start(run)
    run.update(status="interrupted", process=MINE, failure=Failure("SIGTERM", "stopped from outside"))
    assert end(started, 143, LINES, stopping=True) == ExitStatus("interrupted", "stopped from outside", LINES)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(0, "exit code 0"), (3, "exit code 3"), (1, "exit code 1"), (-9, "SIGKILL"), (-11, "SIGSEGV"), (-60, "signal 60")],
)
def test_unrecorded_end_is_recorded_by_the_launcher(run: RunDir, code: int, kind: str) -> None:
    started = start(run)
    run.update(status="running", process=MINE)
    ending = end(started, code, LINES)
    assert (ending.state, ending.may_retry, ending.lines) == ("failed", True, LINES)
    assert ending.reason == failure(run).message
    assert f"ended with {kind} before the run was done" in ending.reason
    assert failure(run).kind == kind
    assert failure(run).final is False
    assert on_disk(run).finished is not None


@pytest.mark.parametrize("code", [-9, 137])
def test_a_kill_from_outside_is_explained(run: RunDir, code: int) -> None:
    assert "often the system, out of memory" in end(start(run), code).reason


def test_kill_by_launcher_is_not_blamed_on_memory(run: RunDir) -> None:
    ending = end(start(run), -9, stopping=True)
    assert ending == ExitStatus("interrupted", "it was asked to stop, did not in time, and was killed")
    assert on_disk(run).status == "interrupted"


@pytest.mark.parametrize("number", [1, 2, 10, 12, 15])
@pytest.mark.parametrize("kind", ["exit code", "signal"])
def test_who_stops_cell_from_outside_wants_it_stopped(run: RunDir, number: int, kind: str) -> None:
    ending = end(start(run), 128 + number if kind == "exit code" else -number)
    assert (ending.state, ending.may_retry) == ("interrupted", False)
    assert ending.reason.startswith("it was stopped from outside (")
    assert on_disk(run).status == "interrupted"


def test_bad_input_has_the_cells_faults_and_is_final(run: RunDir) -> None:
    ending = end(start(run), 2, ["noise", "error: in words"], [MISSING])
    assert (ending.state, ending.reason, ending.may_retry) == ("failed", MISSING.line(), False)
    assert failure(run).final is True
    assert [Fault.from_json(fields) for fields in failure(run).faults] == [MISSING]


def test_bad_input_without_faults_has_the_last_line(run: RunDir) -> None:
    ending = end(start(run), 2, ["noise", "usage: cell.py NAME"])
    assert (ending.state, ending.reason, ending.may_retry) == ("failed", "usage: cell.py NAME", False)
    assert failure(run).final is True
    assert failure(run).faults == []


def test_faults_of_a_failed_run_allow_a_retry(run: RunDir) -> None:
    ending = end(start(run), 1, LINES, [MISSING])
    assert (ending.reason, ending.may_retry) == (MISSING.line(), True)
    assert failure(run).final is False


def test_last_words_are_in_message_and_log(run: RunDir) -> None:
    end(start(run), 3, LINES)
    assert failure(run).message.endswith("last words: two | three | four")
    assert run.log_path.read_text(encoding="utf-8").splitlines()[1:] == LINES


def test_failure_of_an_earlier_attempt_is_ignored(run: RunDir) -> None:
    run.update(status="failed", process=MINE, failure=Failure("RunError", "the first time"), finished="before")
    assert "exit code 1" in end(start(run), 1).reason


def test_old_result_to_overwrite_is_no_success(run: RunDir) -> None:
    done = run.update(status="done")
    for code in (0, 1):
        ending = end(start(run, overwrites=True), code)
        assert (ending.state, ending.may_retry) == ("failed", True)
    assert on_disk(run) == done


def test_run_found_done_by_the_cell_is_done(run: RunDir) -> None:
    run.update(status="done")
    assert end(start(run), 0) == ExitStatus("done")


@contextmanager
def working(run: RunDir) -> Iterator[None]:
    """Another process at work on the run."""
    with run.lock():
        run.update(status="running", process=OTHER)
        yield


@pytest.mark.parametrize("code", [0, 1, -9])
@pytest.mark.parametrize("record_changed", [True, False])
def test_run_of_another_process_is_left_to_it(run: RunDir, code: int, record_changed: bool) -> None:
    run.update(status="running")
    started = start(run)
    with working(run) if record_changed else run.lock():
        before = on_disk(run)
        assert end(started, code).state == "taken"
        assert on_disk(run) == before


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_record_of_another_process_is_not_the_cells(run: RunDir, status: str) -> None:
    started = start(run)
    left = run.update(status=status, process=OTHER, failure=Failure("RunError", "of the other", final=True))
    assert end(started, 1).state == "taken"
    assert on_disk(run) == left


def test_what_another_process_finished_is_done(run: RunDir) -> None:
    started = start(run)
    run.update(status="done", process=OTHER)
    assert end(started, 1) == ExitStatus("done", by_another=True)


def test_run_taken_over_meanwhile_is_left_alone(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    started = start(run)

    def lock_taken_and_left(self: RunDir, _: float) -> "nullcontext[None]":
        self.update(status="interrupted", process=OTHER)
        return nullcontext()

    monkeypatch.setattr(RunDir, "lock", lock_taken_and_left)
    assert end(started, -9).state == "taken"
    assert on_disk(run).process == OTHER


@pytest.mark.parametrize("content", [None, "{"])
def test_record_that_vanished_or_was_torn_is_end(run: RunDir, content: str | None) -> None:
    started = start(run)
    run.record_path.unlink()
    if content:
        run.record_path.write_text(content, encoding="utf-8")
    ending = end(started, 1, LINES)
    assert (ending.state, ending.may_retry, ending.lines) == ("failed", False, LINES)
    assert "gone or torn" in ending.reason
    assert (run.record_path.read_text(encoding="utf-8") if content else None) == content


def test_a_folder_that_vanished_is_not_made_again(run: RunDir) -> None:
    started = start(run)
    run.record_path.unlink()
    run.path.rmdir()
    assert end(started, -9).may_retry is False
    assert list(run.path.parent.iterdir()) == []


def test_what_cannot_be_written_is_said_nevertheless(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunDir, "write", full)
    ending = end(start(run), -9)
    assert (ending.state, ending.may_retry) == ("failed", True)
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
def test_program_without_a_record_counts_by_exit_code(
    tmp_path: Path, code: int, stopping: bool, state: str, again: bool
) -> None:
    ending = end(Attempt(CellDir(RunDir(tmp_path)), None, MINE), code, stopping=stopping)
    assert (ending.state, ending.may_retry) == (state, again)
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_another_make_is_none(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"winner": "me"}', encoding="utf-8")
    assert end(Attempt(CellDir(RunDir(tmp_path)), None, MINE), 0) == ExitStatus("done")


def test_of_crash_in_native_code_top_is_told() -> None:
    report = [
        "step 3/9", "Fatal Python error: Segmentation fault", "", "Current thread 0x00 (most recent call first):",
        '  File "a.py", line 1 in multiply', '  File "b.py", line 2 in main', "", "Extension modules: numpy, torch",
    ]  # fmt: skip
    explained = _explain(-11, report, [], stopping=False)
    assert explained.endswith(
        "last words: Fatal Python error: Segmentation fault | Current thread 0x00 (most recent call first): | "
        'File "a.py", line 1 in multiply'
    )


@pytest.fixture
def cell(run: RunDir) -> CellDir:
    """A second evaluation, at work on the weights of a run whose first one is done."""
    run.update(
        status="done", files={"adapter/x": FileStamp(1, "0" * 64)}, evaluation_name="default", evaluation_defaults={}
    )
    EvaluationDir(run.evaluations_path / "default").write(Evaluation("default", "d", "done", {}))
    second = EvaluationDir(run.evaluations_path / "max_samples=2")
    second.write(Evaluation("max_samples=2", "e", "pending", {"max_samples": 2}))
    return CellDir(run, second)


def evaluation_of(cell: CellDir) -> Evaluation:
    assert cell.evaluation is not None
    evaluation = cell.evaluation.read()
    assert evaluation is not None
    return evaluation


def begun(cell: CellDir, process: Process = MINE) -> Attempt:
    """A start of the cell that has come to its evaluation."""
    started = Attempt(cell, cell.read(), MINE)
    assert cell.evaluation is not None
    cell.evaluation.update(status="running", process=process)
    return started


@pytest.mark.parametrize(
    ("code", "stopping", "status"),
    [(-9, False, "failed"), (1, False, "failed"), (-15, False, "interrupted"), (-9, True, "interrupted")],
)
def test_evaluations_end_is_recorded_and_the_run_stays_done(
    cell: CellDir, code: int, stopping: bool, status: str
) -> None:
    before = cell.run.record_path.read_bytes()
    ending = end(begun(cell), code, stopping=stopping)
    assert (ending.state, ending.may_retry) == (status, status == "failed")
    evaluation = evaluation_of(cell)
    assert evaluation.status == status
    assert evaluation.failure is not None
    assert evaluation.failure.message == ending.reason
    assert cell.run.record_path.read_bytes() == before


def test_done_evaluation_keeps_its_own_record(cell: CellDir) -> None:
    started = begun(cell)
    assert cell.evaluation is not None
    done = cell.evaluation.update(status="done")
    assert end(started, -9) == ExitStatus("done")
    assert evaluation_of(cell) == done


def test_evaluation_that_never_began_is_not_done(cell: CellDir) -> None:
    ending = end(Attempt(cell, cell.read(), MINE), 0)
    assert (ending.state, ending.may_retry) == ("failed", True)
    assert evaluation_of(cell).status == "failed"


def test_evaluation_of_another_process_is_left_to_it(cell: CellDir) -> None:
    started = begun(cell, OTHER)
    assert cell.evaluation is not None
    with cell.evaluation.lock():
        assert end(started, -9).state == "taken"
    assert evaluation_of(cell).status == "running"


def test_process_at_another_evaluation_does_not_block_recording(cell: CellDir) -> None:
    other = EvaluationDir(cell.run.evaluations_path / "max_samples=3")
    started = begun(cell)
    with other.lock():
        assert end(started, -9).state == "failed"
    assert evaluation_of(cell).status == "failed"


def test_the_ending_of_a_training_is_the_runs(run: RunDir) -> None:
    cell = CellDir(run, EvaluationDir(run.evaluations_path / "default"))
    assert cell.evaluation is not None
    cell.evaluation.write(Evaluation("default", "d", "pending", {}))
    started = Attempt(cell, cell.read(), MINE)
    run.update(status="running", process=MINE)
    assert end(started, -9).state == "failed"
    assert failure(run).kind == "SIGKILL"
    assert evaluation_of(cell).status == "pending"


def test_a_done_run_ends_with_its_scores() -> None:
    done = record("lora", "20k")
    assert done.evaluation is not None
    scores = done.evaluation.scores
    expected = f"done  ROUGE-L {scores['rougeL'].value:.2f}  BLEU {scores['bleu'].value:.2f}"
    assert summarize_record(done) == expected


def test_summary_of_running_text_has_its_perplexity() -> None:
    scores = {"perplexity": Score(12.345, "perplexity|text:blocks|length:128")}
    done = record("lora", "20k").updated(evaluation=EvaluationRecord(9, scores))
    assert summarize_record(done) == "done  perplexity 12.35"


def test_a_failed_run_ends_with_its_reason() -> None:
    failed = record("lora", "20k").updated(status="failed", failure=Failure("RunError", "the loss became nan"))
    assert summarize_record(failed) == "failed: the loss became nan"
    assert summarize_record(failed.updated(failure=None)) == "failed: no reason recorded"


def test_summary_without_a_record_is_done() -> None:
    assert summarize_record(None) == "done"
