"""A cell's status: who may claim its folders, and what is written however its run ends."""

import contextlib
import dataclasses
import errno
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.cell import Cell
from medqa_finetune.errors import ConfigError, DataError, Fault, MedQAError, ModelError, RunError
from medqa_finetune.record.environment import installed_versions
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.files import write_text
from medqa_finetune.record.lease import SECONDS_VARIABLE, check_held
from medqa_finetune.record.run_dir import RunDir, this_process
from medqa_finetune.record.schema import Environment, Failure, Record
from medqa_finetune.run_state.claim import Claim, claimed, ensure_records, explain_failure
from medqa_finetune.run_state.resume import check_free, earlier_record, needs_training, warn_of_changed_files
from medqa_finetune.stopping import Interrupted
from medqa_finetune.training.checkpoints import Checkpoints
from tests.cells import HERE, TRAIN, answer, cell_in, evaluate, result, train
from tests.config.builders import VALID
from tests.evaluations import evaluation_of, record_of
from tests.faulty import only_fault

log_of_package = logging.getLogger("medqa_finetune")

OTHER: dict[str, Any] = {"train__epochs": 3.0}


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def cell(outputs: Path) -> Cell:
    return cell_in(outputs)


@pytest.fixture
def run(cell: Cell) -> RunDir:
    return cell.run


@pytest.fixture
def begun(cell: Cell) -> Cell:
    """A cell whose process ended in training, without a word."""
    with claimed(cell) as claim:
        assert claim.begin_training().status == "running"
    return cell


@contextlib.contextmanager
def training(cell: Cell) -> Iterator[Claim]:
    with claimed(cell) as claim:
        claim.begin_training()
        yield claim


@contextlib.contextmanager
def evaluating(cell: Cell) -> Iterator[Claim]:
    with claimed(cell) as claim:
        claim.begin_evaluation()
        yield claim


def begin(cell: Cell) -> Record:
    with training(cell) as claim:
        return claim.record


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".lock", ".lease")
    }


def fault_of(error: "pytest.ExceptionInfo[MedQAError]") -> tuple[str, str | None]:
    return only_fault(error).code, only_fault(error).file


# Before it begins.


def test_announcing_new_cell_makes_both_its_records_pending(cell: Cell, run: RunDir) -> None:
    assert ensure_records(cell).status == "pending"
    record, evaluation = record_of(run), evaluation_of(cell)
    assert (record.status, record.method, record.data, record.model) == ("pending", "lora", "20k", "tiny")
    assert (record.started, record.identity) == (None, cell.identity)
    assert record.evaluation_defaults == dataclasses.asdict(VALID.evaluate)
    assert (evaluation.status, evaluation.name, evaluation.identity) == ("pending", "default", cell.evaluation_identity)
    assert evaluation.settings == cell.settings["evaluate"]


def test_announcing_again_changes_nothing(cell: Cell, run: RunDir) -> None:
    ensure_records(cell)
    run.update(status="failed", failure=Failure("RunError", "why"))
    before = content(run.path)
    assert ensure_records(cell).status == "failed"
    assert content(run.path) == before


def test_a_second_evaluation_is_announced_beside_the_first(cell: Cell, run: RunDir, outputs: Path) -> None:
    ensure_records(cell)
    before = content(run.path)
    ensure_records(cell_in(outputs, evaluate__max_samples=9))
    after = content(run.path)
    assert after.keys() - before.keys() == {"evaluations/max_samples=9/evaluation.json"}
    assert {name: after[name] for name in before} == before


def test_run_that_trains_nothing_has_no_data_size(outputs: Path) -> None:
    assert ensure_records(cell_in(outputs, method__trains="nothing")).data == "none"


@pytest.mark.parametrize("claim", [earlier_record, ensure_records, begin])
def test_another_training_in_the_folder_is_refused_with_keys(claim: Any, begun: Cell, outputs: Path) -> None:
    before = content(begun.run.path)
    with pytest.raises(ConfigError) as caught:
        claim(cell_in(outputs, **OTHER))
    assert fault_of(caught) == ("another-run", str(begun.run.path))
    assert "train.epochs: 1.0 -> 3.0" in only_fault(caught).problem
    assert content(begun.run.path) == before


def test_pending_run_gives_way_to_another(cell: Cell, outputs: Path) -> None:
    ensure_records(cell)
    other = cell_in(outputs, **OTHER)
    assert earlier_record(other) is None
    assert begin(other).config["train"]["epochs"] == 3.0


def test_run_that_earlier_version_began_is_resumed(begun: Cell, run: RunDir, outputs: Path) -> None:
    older = record_of(run)
    fewer = {key: value for key, value in older.config["method"].items() if key != "dora"}
    run.update(identity="0" * 16, config=older.config | {"method": fewer})
    # Its checkpoints are known by this identity.
    assert begin(begun).identity == "0" * 16
    with pytest.raises(ConfigError) as caught:
        begin(cell_in(outputs, method__dora=True))
    assert only_fault(caught).code == "another-run"


def test_changed_environment_value_is_refused_without_showing_it(outputs: Path) -> None:
    from_elsewhere = {"train.scheduler": "${oc.env:SCHEDULER}"}
    begin(cell_in(outputs, interpolated=from_elsewhere))
    with pytest.raises(ConfigError) as caught:
        begin(cell_in(outputs, train__scheduler="linear", interpolated=from_elsewhere))
    assert only_fault(caught).code == "another-run"
    assert "train.scheduler" in only_fault(caught).problem
    assert "linear" not in str(caught.value)


def test_a_torn_record_is_refused(begun: Cell, run: RunDir, outputs: Path) -> None:
    run.record_path.write_text(run.record_path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    with pytest.raises(DataError) as caught:
        begin(cell_in(outputs))
    assert fault_of(caught) == ("not-json", str(run.record_path))


def test_only_a_torn_record_of_its_evaluation_counts(begun: Cell, run: RunDir, outputs: Path) -> None:
    begun.evaluation.record_path.write_text("{", encoding="utf-8")
    before = content(run.path)
    with pytest.raises(DataError) as caught:
        begin(cell_in(outputs))
    assert fault_of(caught) == ("not-json", str(begun.evaluation.record_path))
    assert content(run.path) == before
    assert begin(cell_in(outputs, evaluate__max_samples=9)).status == "running"


def test_looking_at_a_free_folder_writes_nothing(cell: Cell, outputs: Path) -> None:
    assert earlier_record(cell) is None
    check_free(cell)
    assert not outputs.exists()


def test_outputs_that_are_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        earlier_record(cell_in(tmp_path / "file"))
    assert (only_fault(caught).code, only_fault(caught).key) == ("not-a-folder", "outputs")


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked of the system, since tests may run as root, who may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path or not mode & os.W_OK)
    with pytest.raises(ConfigError) as caught:
        earlier_record(cell_in(tmp_path))
    assert (only_fault(caught).code, only_fault(caught).key) == ("not-writable", "outputs")


# Training.


def test_started_run_has_status_and_configuration(begun: Cell, run: RunDir) -> None:
    record = record_of(run)
    assert record.status == "running"
    assert record.started is not None
    assert "learning_rate: 0.0002" in run.config_path.read_text(encoding="utf-8")
    assert evaluation_of(begun).status == "pending"


@pytest.mark.parametrize("status", ["pending", "running", "failed", "interrupted"])
def test_an_unfinished_attempt_is_resumed(begun: Cell, run: RunDir, status: str) -> None:
    started = run.update(status=status, failure=Failure("RunError", "why"), resumed_from=[4]).started
    run.log_metrics({"step": 1})
    (run.path / ".writing-half").touch()
    (run.path / ".writing-adapter").mkdir()
    record = begin(begun)
    assert (record.status, record.failure, record.started, record.resumed_from) == ("running", None, started, [4])
    assert record.process == this_process()
    left = sorted(path.name for path in run.path.iterdir())
    assert left == ["config.yaml", "evaluations", "log.txt", "metrics.jsonl", "record.json"]


OLD = Environment({**installed_versions(), "transformers": "5.0.0"}, "CPU", "fp32", None, [])


def with_checkpoint(run: RunDir) -> None:
    checkpoints = Checkpoints(run.checkpoints_path, record_of(run).identity)
    (checkpoints.trainer_folder / "checkpoint-5").mkdir(parents=True)
    checkpoints.publish(5, 5, {})


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_a_training_that_other_versions_began_is_refused(begun: Cell, run: RunDir, status: str) -> None:
    run.update(status=status, environment=OLD)
    with_checkpoint(run)
    before = content(run.path)
    with pytest.raises(ConfigError) as caught:
        earlier_record(begun)
    assert fault_of(caught) == ("other-versions", str(run.path))
    assert "transformers 5.0.0 -> " in only_fault(caught).problem
    assert content(run.path) == before


def test_other_versions_do_not_matter_without_checkpoints(begun: Cell, run: RunDir) -> None:
    run.update(status="failed", environment=OLD)
    assert begin(begun).status == "running"


def test_weights_that_other_versions_trained_are_evaluated(trained: Cell, run: RunDir) -> None:
    run.update(environment=OLD)
    with_checkpoint(run)
    with evaluating(trained) as claim:
        assert claim.record.environment == OLD
        claim.begin_predictions(HERE, [])
    assert evaluation_of(trained).environment == HERE


# What training left.


@pytest.fixture
def trained(cell: Cell) -> Cell:
    """A trained run whose evaluation was interrupted before its first answer."""
    with pytest.raises(KeyboardInterrupt), claimed(cell) as claim:  # noqa: PT012
        train(claim)
        raise KeyboardInterrupt
    return cell


@pytest.fixture
def done(cell: Cell) -> Cell:
    evaluate(cell)
    assert record_of(cell.run).status == "done"
    return cell


def weights(run: RunDir) -> Path:
    return run.adapter_path / "adapter_model.safetensors"


def test_a_finished_training_says_so(trained: Cell, run: RunDir) -> None:
    record = record_of(run)
    assert (record.is_trained, record.train, record.environment) == (True, TRAIN, HERE)
    assert sorted(record.files) == ["adapter/adapter_model.safetensors", "config.yaml"]


def test_unchanged_weights_are_used_again(trained: Cell, run: RunDir) -> None:
    assert not needs_training(run, record_of(run))
    assert earlier_record(trained) is not None


@pytest.mark.parametrize("damage", [b"WEIGHTS", b"", None])
def test_weights_of_nobody_knows_whom_are_refused(trained: Cell, run: RunDir, damage: bytes | None) -> None:
    weights(run).unlink() if damage is None else weights(run).write_bytes(damage)
    before = content(run.path)
    for look in (earlier_record, lambda cell: needs_training(cell.run, record_of(cell.run))):
        with pytest.raises(ModelError) as caught:
            look(trained)
        assert fault_of(caught) == ("changed-file", str(run.path))
    assert content(run.path) == before


def test_done_run_with_damaged_weights_refuses_evaluations(done: Cell, run: RunDir, outputs: Path) -> None:
    weights(run).write_bytes(b"WEIGHTS")
    before = run.record_path.read_bytes()
    with pytest.raises(ModelError) as caught, claimed(cell_in(outputs, evaluate__max_samples=9)) as claim:
        needs_training(run, claim.record)
    assert fault_of(caught) == ("changed-file", str(run.path))
    assert run.record_path.read_bytes() == before
    found = earlier_record(done)
    assert found is not None
    assert found.status == "done"


def test_damaged_weights_are_restored_from_a_checkpoint(
    trained: Cell, run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    with_checkpoint(run)
    weights(run).unlink()
    assert earlier_record(trained) is not None
    assert needs_training(run, record_of(run))
    assert "adapter/adapter_model.safetensors is missing" in caplog.text


def test_same_weights_made_again_leave_record_and_evaluations(done: Cell, run: RunDir, outputs: Path) -> None:
    before, kept = record_of(run), content(done.evaluation.path)
    weights(run).unlink()
    other = cell_in(outputs, evaluate__max_samples=9)
    with training(other) as claim:
        weights(run).write_bytes(b"weights")
        claim.end_training(dataclasses.replace(TRAIN, seconds=0.1))
    after = record_of(run)
    assert (after.status, after.train, after.files) == ("done", before.train, before.files)
    assert (after.evaluation, after.evaluation_name) == (before.evaluation, "default")
    assert after.finished is not None
    assert content(done.evaluation.path) == kept


def test_other_weights_leave_no_evaluation_of_ones_before(
    done: Cell, run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    kept = content(done.evaluation.path)
    with training(done) as claim:
        weights(run).write_bytes(b"WEIGHTS")
        claim.end_training(TRAIN)
        assert (claim.record.status, claim.record.evaluation, claim.cell_record().status) == (
            "trained",
            None,
            "running",
        )
        assert done.evaluation.read_predictions() == []
    assert content(done.evaluation.path.with_name("default.old-1")) == kept
    assert "moved aside" in caplog.text


def test_damage_to_a_finished_run_is_said(done: Cell, run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_changed_files(done)
    assert caplog.text == ""
    weights(run).write_bytes(b"")
    done.evaluation.predictions_path.unlink()
    warn_of_changed_files(done)
    # One warning for the evaluation, which is made again without training, and one for the training.
    of_evaluation, of_training = (record.getMessage() for record in caplog.records)
    assert "predictions.jsonl is missing" in of_evaluation
    assert "overwrite" not in of_evaluation
    assert "adapter/adapter_model.safetensors has 0 bytes instead of 7" in of_training


def test_secrets_from_the_environment_are_not_written_down(outputs: Path) -> None:
    cell = cell_in(outputs, corpus__revision="s3cret", interpolated={"corpus.revision": "${oc.env:TOKEN}"})
    evaluate(cell)
    assert not [name for name, text in content(cell.run.path).items() if b"s3cret" in text]
    assert record_of(cell.run).config["corpus"]["revision"] == "${oc.env:TOKEN}"


def test_overwriting_moves_the_old_run_aside_whole(done: Cell, run: RunDir, outputs: Path) -> None:
    evaluate(cell_in(outputs, evaluate__max_samples=9))
    before = content(run.path)
    assert begin(cell_in(outputs, overwrite=True, **OTHER)).status == "running"
    assert content(run.path.with_name("lora_20k.old-1")) == before
    assert record_of(run).config["train"]["epochs"] == 3.0
    assert not cell_in(outputs, evaluate__max_samples=9).evaluation.path.exists()


def test_overwriting_keeps_what_the_new_training_records(done: Cell, outputs: Path) -> None:
    with claimed(cell_in(outputs, overwrite=True)) as claim:
        train(claim)
        answer(claim)
        record = claim.finish(result())
    assert record.status == "done"
    assert (record.train, record.environment, record.started is not None) == (TRAIN, HERE, True)
    assert done.run.read() == record


def test_overwriting_twice_keeps_both(begun: Cell, run: RunDir, outputs: Path) -> None:
    for _ in range(2):
        begin(cell_in(outputs, overwrite=True))
    found = sorted(path.name for path in run.path.parent.iterdir() if path.suffix != ".lock")
    assert found == ["lora_20k", "lora_20k.old-1", "lora_20k.old-2"]


# Evaluating.


def test_first_evaluation_counts_until_a_default_one(outputs: Path) -> None:
    cells = [cell_in(outputs, evaluate__max_samples=most) for most in (9, 5, None, 4)]
    run = cells[0].run
    for place, (cell, name) in enumerate(
        zip(cells, ("max_samples=9", "max_samples=9", "default", "default"), strict=True)
    ):
        evaluate(cell, bleu=float(place))
        record = record_of(run)
        assert (record.status, record.evaluation_name) == ("done", name)
        assert json.loads(run.results_path.read_bytes()) == dataclasses.asdict(record)["evaluation"]
        assert evaluation_of(cell).result == result(float(place))
        assert json.loads(cell.evaluation.results_path.read_bytes())["scores"]["bleu"]["value"] == float(place)
    assert record_of(run).evaluation == result(2.0)


def test_another_evaluation_leaves_a_done_record_unchanged(done: Cell, run: RunDir, outputs: Path) -> None:
    before = content(run.path)
    other = cell_in(outputs, evaluate__max_samples=2)
    evaluate(other, "ab", bleu=9.0)
    after = content(run.path)
    assert {name for name in before if before[name] != after.get(name)} <= {"log.txt"}
    assert {name.rpartition("/")[0] for name in after.keys() - before.keys()} == {
        "evaluations/max_samples=2", "tensorboard/max_samples=2",
    }  # fmt: skip
    assert (evaluation_of(other).status, evaluation_of(other).environment) == ("done", HERE)
    assert sorted(evaluation_of(other).files) == ["eval_results.json", "predictions.jsonl"]


def test_finished_evaluation_of_another_is_not_this_ones(done: Cell, outputs: Path) -> None:
    found = earlier_record(cell_in(outputs, evaluate__max_samples=2))
    assert found is not None
    assert (found.status, found.evaluation) == ("trained", None)


@pytest.mark.parametrize("moment", ["results", "record"])
def test_killed_evaluation_is_finished_by_the_next_start(
    trained: Cell, run: RunDir, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with evaluating(trained) as claim:
        answer(claim)
        with monkeypatch.context() as patch, contextlib.suppress(KilledError):
            patch.setattr(RunDir, "write_results" if moment == "results" else "update", killed)
            claim.finish(result())
    assert evaluation_of(trained).status != "done"
    found = earlier_record(trained)
    assert found is not None
    assert found.status != "done"
    with evaluating(trained) as claim:
        claim.finish(result())
    record = record_of(run)
    assert (record.status, record.evaluation, evaluation_of(trained).status) == ("done", result(), "done")
    assert json.loads(run.results_path.read_bytes()) == dataclasses.asdict(record)["evaluation"]


# Who may work at the same time.


def test_training_excludes_everybody(begun: Cell, outputs: Path) -> None:
    other = cell_in(outputs, evaluate__max_samples=9)
    with training(begun):
        for cell in (begun, other):
            for claim in (check_free, begin):
                with pytest.raises(RunError) as caught:
                    claim(cell)
                assert only_fault(caught).code == "busy"
                assert f"process {os.getpid()} on " in only_fault(caught).problem
    assert record_of(begun.run).failure is None


def test_a_second_evaluation_goes_on_while_another_does(trained: Cell, run: RunDir, outputs: Path) -> None:
    other = cell_in(outputs, evaluate__max_samples=2)
    with evaluating(trained) as claim:
        assert not run.is_locked()
        check_free(other)
        evaluate(other, "ab")
        assert (evaluation_of(other).status, evaluation_of(trained).status) == ("done", "running")
        # The first that is done is the run's, until the default one is.
        assert record_of(run).evaluation_name == "max_samples=2"
        answer(claim)
        claim.finish(result())
    assert record_of(run).evaluation_name == "default"


def test_one_evaluation_is_worked_on_by_one_process(trained: Cell, run: RunDir) -> None:
    with evaluating(trained):
        before = content(run.path)
        with pytest.raises(RunError) as caught:
            check_free(trained)
        assert fault_of(caught) == ("busy", str(trained.evaluation.path))
        # One that came to it at the same moment, after it had looked.
        with pytest.raises(RunError) as caught, evaluating(trained):
            pass
        assert fault_of(caught) == ("busy", str(trained.evaluation.path))
        # It has no say in what the other does.
        after = content(run.path)
        assert {name for name in before if before[name] != after[name]} <= {"log.txt"}


def test_run_with_busy_evaluations_is_not_overwritten(trained: Cell, run: RunDir, outputs: Path) -> None:
    with evaluating(trained):
        with pytest.raises(RunError) as caught:
            check_free(cell_in(outputs, overwrite=True, evaluate__max_samples=9))
        assert fault_of(caught) == ("busy", str(trained.evaluation.path))


# How it ends.


@pytest.mark.parametrize("kind", [DataError, ModelError, RunError, ConfigError])
def test_error_of_ours_is_recorded_and_passed_on(begun: Cell, run: RunDir, kind: type[MedQAError]) -> None:
    fault = Fault("no-such-thing", "no such thing", key="a", got=1)
    error = kind(fault)
    with pytest.raises(kind) as caught, training(begun):
        raise error
    assert caught.value is error
    record = record_of(run)
    failure = Failure(kind.__name__, str(error), final=True, faults=[fault.as_json()])
    assert (record.status, record.failure) == ("failed", failure)
    assert record.finished is not None
    assert evaluation_of(begun).status == "pending"


def test_evaluation_error_is_the_runs_while_none_is_done(trained: Cell, run: RunDir) -> None:
    error = DataError(Fault("no-such-thing", "no such thing"))
    with pytest.raises(DataError), evaluating(trained):
        raise error
    for record in (record_of(run), evaluation_of(trained)):
        assert record.status == "failed"
        assert record.failure is not None
        assert record.failure.faults == [fault.as_json() for fault in error.faults]
    assert record_of(run).is_trained
    assert not needs_training(run, record_of(run))


def test_error_in_second_evaluation_leaves_done_run_done(done: Cell, run: RunDir, outputs: Path) -> None:
    before, other = run.record_path.read_bytes(), cell_in(outputs, evaluate__max_samples=2)
    for error in (RunError(Fault("a", "a")), KeyboardInterrupt(), ZeroDivisionError()):
        with pytest.raises((RunError, KeyboardInterrupt)), evaluating(other):
            raise error
        assert evaluation_of(other).status == ("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        assert run.record_path.read_bytes() == before


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (ZeroDivisionError("division by zero"), "run-failed", "ZeroDivisionError: division by zero"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full", ""),
        (RuntimeError("[enforce fail at inline_container.cc:668] PytorchStreamWriter failed"), "disk-full", ""),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "disk-full", ""),
        (RuntimeError("basic_ios::clear: iostream error"), "disk-full", ""),
        (SystemExit(0), "run-left", "sys.exit(0)"),
        (RuntimeError("CUDA out of memory. Tried\n to allocate 2 GiB"), "out-of-memory", "train.micro_batch"),
        (MemoryError(), "out-of-memory", "method=qlora"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_defect_becomes_a_run_error_with_the_log(
    begun: Cell, run: RunDir, error: BaseException, code: str, part: str
) -> None:
    with pytest.raises(RunError) as caught, training(begun):
        raise error
    assert fault_of(caught) == (code, str(run.path))
    assert "log.txt" in only_fault(caught).hint
    failure = record_of(run).failure
    assert failure is not None
    assert failure.kind == type(error).__name__
    assert [fault["code"] for fault in failure.faults] == [code]
    assert part in failure.message
    assert caught.value.__cause__ is error


def test_traceback_of_defect_is_in_runs_log(begun: Cell, run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="medqa_finetune")
    with pytest.raises(RunError), training(begun):
        raise ZeroDivisionError
    log = run.log_path.read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in log
    assert "raise ZeroDivisionError" in log


def test_failure_is_one_line_however_long_it_is() -> None:
    line = explain_failure(ValueError("a\n" * 5000)).line()
    assert "\n" not in line
    assert len(line) < 600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_stop_is_recorded_as_interrupted_with_exit_code(begun: Cell, run: RunDir, number: signal.Signals) -> None:
    with pytest.raises(Interrupted) as caught, training(begun):
        os.kill(os.getpid(), number)
    assert caught.value.code == 128 + number
    record = record_of(run)
    assert record.status == "interrupted"
    assert record.failure is not None
    assert record.failure.kind == f"stopped by {signal.Signals(number).name}"


def test_only_what_another_try_would_repeat_is_final(begun: Cell, run: RunDir) -> None:
    for error, final in [(RuntimeError("CUDA error: unspecified launch failure"), False), (MemoryError(), True)]:
        with pytest.raises(RunError), training(begun):
            raise error
        failure = record_of(run).failure
        assert failure is not None
        assert failure.final is final


def test_sigterm_means_afterwards_what_it_meant_before(begun: Cell) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with claimed(begun):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_block_that_ends_well_changes_no_record(begun: Cell, run: RunDir) -> None:
    before = content(run.path)
    with claimed(begun):
        pass
    assert content(run.path) == before


@pytest.mark.parametrize("damage", ["gone", "torn", "disk full"])
@pytest.mark.parametrize("stage", [training, evaluating])
def test_unwritable_record_does_not_hide_the_error(
    trained: Cell, stage: Any, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = (trained.run if stage is training else trained.evaluation).record_path
    error = ModelError(Fault("first", "the first error"))
    with pytest.raises(ModelError) as caught, stage(trained):  # noqa: PT012
        if damage == "gone":
            path.unlink()
        elif damage == "torn":
            path.write_text("{", encoding="utf-8")
        else:
            monkeypatch.setattr("medqa_finetune.record.run_dir.write_json", full)
            monkeypatch.setattr("medqa_finetune.record.evaluation_dir.write_json", full)
        raise error
    assert caught.value is error


# What version 1 left is upgraded by whoever works on it.


def test_run_of_version_1_is_upgraded_with_its_predictions(done: Cell, run: RunDir, outputs: Path) -> None:
    record, evaluation = record_of(run), evaluation_of(done)
    for path in done.evaluation.path.iterdir():
        if path.name != "evaluation.json":
            path.rename(run.path / path.name)
    done.evaluation.record_path.unlink()
    first = record.updated(
        schema_version=1, evaluation_name=None, evaluation_defaults=None, files=record.files | evaluation.files
    )
    run.write(first)

    again, other = cell_in(outputs), cell_in(outputs, evaluate__max_samples=2)
    assert again.evaluation == EvaluationDir(run.path, in_run=True)
    assert again.config.evaluation_name == "default"
    found = earlier_record(again)
    assert found is not None
    assert found.status == "done"
    assert record_of(run) == first  # looking changes nothing

    evaluate(other, "ab")
    after = record_of(run)
    assert (after.schema_version, after.evaluation_name, after.train) == (2, "default", first.train)
    assert (after.evaluation, after.files) == (first.evaluation, record.files)
    found = earlier_record(cell_in(outputs))
    assert found is not None
    assert (found.status, found.evaluation) == ("done", first.evaluation)


# A lease that another process takes over.


def take_over(folder: RunDir | EvaluationDir) -> None:
    """Put the lease of a process elsewhere in the place of this one's."""
    path = folder.lock_path.with_suffix(".lease")
    theirs = json.loads(path.read_bytes()) | {"owner": "0123abcd", "host": "node7", "host_identity": "b", "pid": 4711}
    write_text(path, json.dumps(theirs))


@pytest.mark.parametrize(
    "end", [RuntimeError("odd"), Interrupted(signal.SIGTERM), KeyboardInterrupt(), ModelError(Fault("damaged", "torn"))]
)
def test_who_has_lost_a_run_says_so_and_writes_nothing(end: BaseException, begun: Cell, run: RunDir) -> None:
    with pytest.raises(RunError) as caught, training(begun):  # noqa: PT012
        take_over(run)
        before = content(run.path)
        raise end
    assert fault_of(caught) == ("lease-lost", str(run.path))
    assert "process 4711 on node7" in only_fault(caught).problem
    assert content(run.path) == before
    assert run.is_locked()


def test_nothing_of_a_lost_run_is_written(begun: Cell, run: RunDir) -> None:
    with pytest.raises(RunError), training(begun) as claim:  # noqa: PT012
        take_over(run)
        before = content(run.path)
        checkpoints = Checkpoints(run.checkpoints_path, "i")
        for write in (
            lambda: claim.update_run(status="trained"),
            lambda: run.log_metrics({"step": 1}),
            lambda: claim.end_training(None),
            lambda: checkpoints.publish(1, 0, {}),
            run.move_aside,
            check_held,
        ):
            with pytest.raises(RunError) as caught:
                write()
            assert only_fault(caught).code == "lease-lost"
        for _ in range(2):
            log_of_package.warning("nobody hears of this")
        assert content(run.path) == before
        raise RuntimeError


def test_work_on_a_lost_evaluation_is_stopped_at_the_next_renewal(
    trained: Cell, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "1")
    with pytest.raises(RunError) as caught, evaluating(trained):  # noqa: PT012
        assert not run.is_locked()
        take_over(trained.evaluation)
        for _ in range(100):
            time.sleep(0.1)
    assert fault_of(caught) == ("lease-lost", str(trained.evaluation.path))
    assert evaluation_of(trained).status == "running"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
