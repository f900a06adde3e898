"""A run's status: who may claim a folder, and what is written however a run ends."""

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.identity import Fingerprints
from medqa_finetune.errors import ConfigError, DataError, ModelError, RunError
from medqa_finetune.lifecycle import announce, begin, check_folder, explain_failure, recording_failure
from medqa_finetune.log import log_to
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Failure, Record
from tests.config.builders import VALID, changed

FINGERPRINTS = Fingerprints("c" * 64, "m" * 64)
OTHER = changed(VALID, train__epochs=3.0)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "outputs" / "lora_20k")


@pytest.fixture
def begun(run: RunDir) -> RunDir:
    assert begin(run, VALID, FINGERPRINTS) is None
    return run


def record_of(run: RunDir) -> Record:
    record = run.read()
    assert record is not None
    return record


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_announcing_a_new_run_makes_it_pending(run: RunDir) -> None:
    record = announce(run, VALID, FINGERPRINTS)
    assert record == record_of(run)
    assert (record.status, record.method, record.data, record.model) == ("pending", "lora", "20k", "tiny")
    assert record.started is None


def test_announcing_again_changes_nothing(run: RunDir) -> None:
    announce(run, VALID, FINGERPRINTS)
    run.update(status="failed", failure=Failure("RunError", "why"))
    before = content(run.path)
    assert announce(run, VALID, FINGERPRINTS).status == "failed"
    assert content(run.path) == before


def test_a_run_that_trains_nothing_has_no_data_size(run: RunDir) -> None:
    assert announce(run, changed(VALID, method__trains="nothing"), FINGERPRINTS).data == "none"


@pytest.mark.parametrize("claim", [check_folder, announce, begin])
def test_a_folder_of_another_run_is_refused_with_the_keys_that_differ(claim: Any, begun: RunDir) -> None:
    before = content(begun.path)
    with pytest.raises(ConfigError, match=r"train\.epochs: 1\.0 -> 3\.0.*study=NAME.*overwrite=true"):
        claim(begun, OTHER, FINGERPRINTS)
    assert content(begun.path) == before


def test_a_run_of_other_code_is_refused_too(begun: RunDir) -> None:
    begun.update(identity="0" * 16)
    with pytest.raises(ConfigError, match="the code that makes results has changed"):
        begin(begun, VALID, FINGERPRINTS)


def test_a_torn_record_is_refused(begun: RunDir) -> None:
    begun.record_path.write_text(begun.record_path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    with pytest.raises(DataError, match=r"record\.json: not a whole JSON file"):
        begin(begun, VALID, FINGERPRINTS)


def test_looking_at_a_free_folder_writes_nothing_in_it(run: RunDir) -> None:
    assert check_folder(run, VALID, FINGERPRINTS) is None
    assert not run.path.exists()


def test_outputs_that_are_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"outputs=outputs: .* cannot be made"):
        check_folder(RunDir(tmp_path / "file" / "lora_20k"), VALID, FINGERPRINTS)


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked of the system, since tests may run as root, who may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path or not mode & os.W_OK)
    with pytest.raises(ConfigError, match="not writable"):
        check_folder(RunDir(tmp_path / "lora_20k"), VALID, FINGERPRINTS)


def test_a_run_that_begins_is_running_with_its_configuration_beside(begun: RunDir) -> None:
    record = record_of(begun)
    assert record.status == "running"
    assert record.started is not None
    assert "learning_rate: 0.0002" in begun.config_path.read_text(encoding="utf-8")


def test_a_done_run_is_returned_and_untouched(begun: RunDir) -> None:
    done = begun.update(status="done")
    before = content(begun.path)
    assert begin(begun, VALID, FINGERPRINTS) == done
    assert content(begun.path) == before


@pytest.mark.parametrize("status", ["pending", "running", "trained", "evaluated", "failed", "interrupted"])
def test_what_an_unfinished_attempt_left_is_cleared(begun: RunDir, status: str) -> None:
    begun.update(status=status, failure=Failure("RunError", "why"))
    begun.append_predictions([{"id": "a"}])
    begun.log_metrics({"step": 1})
    begun.adapter_path.mkdir()
    begun.tensorboard_path.mkdir()
    begin(begun, VALID, FINGERPRINTS)
    assert sorted(path.name for path in begun.path.iterdir()) == ["config.yaml", "record.json"]
    assert (record_of(begun).status, record_of(begun).failure) == ("running", None)


def test_overwriting_moves_the_old_run_aside_whole(begun: RunDir) -> None:
    begun.update(status="done")
    before = content(begun.path)
    assert begin(begun, changed(OTHER, overwrite=True), FINGERPRINTS) is None
    assert content(begun.path.with_name("lora_20k.old-1")) == before
    assert record_of(begun).config["train"]["epochs"] == 3.0


def test_overwriting_twice_keeps_both(begun: RunDir) -> None:
    for _ in range(2):
        begin(begun, changed(VALID, overwrite=True), FINGERPRINTS)
    assert sorted(path.name for path in begun.path.parent.iterdir()) == ["lora_20k", "lora_20k.old-1", "lora_20k.old-2"]


@pytest.mark.parametrize("kind", [DataError, ModelError, RunError, ConfigError])
def test_an_error_of_ours_is_recorded_and_passed_on(begun: RunDir, kind: type[Exception]) -> None:
    error = kind("no such thing")
    with pytest.raises(kind) as caught, recording_failure(begun):
        raise error
    assert caught.value is error
    record = record_of(begun)
    assert (record.status, record.failure) == ("failed", Failure(kind.__name__, "no such thing"))
    assert record.finished is not None


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (ZeroDivisionError("division by zero"), ["ZeroDivisionError: division by zero."]),
        (OSError(errno.ENOSPC, "No space left on device"), ["OSError", "No space left on device"]),
        (RuntimeError("CUDA out of memory. Tried\n to allocate 2 GiB"), ["out of memory", "train.micro_batch"]),
        (MemoryError(), ["out of memory", "method=qlora"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_defect_becomes_a_run_error_that_says_where_to_look(
    begun: RunDir, error: Exception, parts: list[str]
) -> None:
    with pytest.raises(RunError, match=r"lora_20k: .*traceback is in log\.txt") as caught, recording_failure(begun):
        raise error
    failure = record_of(begun).failure
    assert failure is not None
    assert failure.kind == type(error).__name__
    assert all(part in failure.message for part in parts)
    assert caught.value.__cause__ is error


def test_the_traceback_of_a_defect_is_in_the_runs_log(begun: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="medqa_finetune")
    with pytest.raises(RunError), log_to(begun.log_path), recording_failure(begun):
        raise ZeroDivisionError
    log = begun.log_path.read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in log
    assert "raise ZeroDivisionError" in log


def test_a_failure_is_told_in_one_line_however_long_it_is() -> None:
    told = explain_failure(ValueError("a\n" * 5000))
    assert "\n" not in told
    assert len(told) < 600


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(0), SystemExit(3)])
def test_being_stopped_is_recorded_as_interrupted_and_passed_on(begun: RunDir, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, recording_failure(begun):
        raise error
    assert caught.value is error
    record = record_of(begun)
    assert record.status == "interrupted"
    assert record.failure is not None
    assert record.failure.kind == type(error).__name__


def test_sigterm_interrupts_with_its_own_exit_code(begun: RunDir) -> None:
    with pytest.raises(SystemExit) as caught, recording_failure(begun):
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 143
    assert record_of(begun).status == "interrupted"


def test_sigterm_means_afterwards_what_it_meant_before(begun: RunDir) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with recording_failure(begun):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_block_that_ends_well_changes_no_record(begun: RunDir) -> None:
    before = content(begun.path)
    with recording_failure(begun):
        pass
    assert content(begun.path) == before


@pytest.mark.parametrize("damage", ["gone", "torn", "disk full"])
def test_a_record_that_cannot_be_written_does_not_hide_the_first_error(
    begun: RunDir, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if damage == "gone":
        begun.record_path.unlink()
    elif damage == "torn":
        begun.record_path.write_text("{", encoding="utf-8")
    else:
        monkeypatch.setattr("medqa_finetune.record.run_dir.write_json", full)
    with pytest.raises(ModelError, match="the first error"), recording_failure(begun):
        raise ModelError("the first error")
