"""A run's status: who may claim a folder, and what is written however a run ends."""

import dataclasses
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.identity import Fingerprints
from medqa_finetune.errors import ConfigError, DataError, ModelError, RunError
from medqa_finetune.lifecycle import (
    announce,
    begin,
    check_folder,
    explain_failure,
    recording_failure,
    trained_before,
    warn_of_damage,
)
from medqa_finetune.log import log_to
from medqa_finetune.record.environment import installed_versions
from medqa_finetune.record.run_dir import RunDir, this_process
from medqa_finetune.record.schema import Environment, Failure, Record
from medqa_finetune.stopping import Interrupted
from medqa_finetune.training.checkpoints import Checkpoints
from tests.config.builders import VALID, changed

FINGERPRINTS = Fingerprints("c" * 64, "m" * 64)
OTHER = changed(VALID, train__epochs=3.0)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "outputs" / "lora_20k")


@pytest.fixture
def begun(run: RunDir) -> RunDir:
    assert begin(run, VALID, FINGERPRINTS).status == "running"
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


def test_a_run_that_an_earlier_version_began_goes_on(begun: RunDir) -> None:
    older = record_of(begun)
    fewer = {key: value for key, value in older.config["evaluate"].items() if key != "stride"}
    begun.update(identity="0" * 16, config=older.config | {"evaluate": fewer})
    record = begin(begun, VALID, FINGERPRINTS)
    # Its checkpoints are known by this identity.
    assert record.identity == "0" * 16
    with pytest.raises(ConfigError, match=r"evaluate\.text: None -> text"):
        begin(begun, changed(VALID, evaluate__text="text"), FINGERPRINTS)


def test_a_run_with_another_value_from_the_environment_is_refused_without_telling_it(run: RunDir) -> None:
    from_elsewhere = {"train.scheduler": "${oc.env:SCHEDULER}"}
    begin(run, dataclasses.replace(VALID, interpolated=from_elsewhere), FINGERPRINTS)
    other = dataclasses.replace(changed(VALID, train__scheduler="linear"), interpolated=from_elsewhere)
    with pytest.raises(
        ConfigError, match=r"another run \(train\.scheduler: from elsewhere, with another value"
    ) as caught:
        begin(run, other, FINGERPRINTS)
    assert "linear" not in str(caught.value)


def test_a_torn_record_is_refused(begun: RunDir) -> None:
    begun.record_path.write_text(begun.record_path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    with pytest.raises(DataError, match=r"record\.json: not a whole JSON file"):
        begin(begun, VALID, FINGERPRINTS)


def test_looking_at_a_free_folder_writes_nothing_in_it(run: RunDir) -> None:
    assert check_folder(run, VALID, FINGERPRINTS) is None
    assert not run.path.exists()


def test_outputs_that_are_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"outputs=outputs: .*/file is not a folder"):
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
def test_an_unfinished_attempt_is_gone_on_with(begun: RunDir, status: str) -> None:
    started = begun.update(status=status, failure=Failure("RunError", "why"), resumed_from=[4]).started
    begun.append_predictions([{"id": "a"}])
    begun.log_metrics({"step": 1})
    (begun.path / ".writing-half").touch()
    (begun.path / ".writing-adapter").mkdir()
    record = begin(begun, VALID, FINGERPRINTS)
    assert (record.status, record.failure, record.started, record.resumed_from) == ("running", None, started, [4])
    assert record.process == this_process()
    left = sorted(path.name for path in begun.path.iterdir())
    assert left == ["config.yaml", "metrics.jsonl", "predictions.jsonl", "record.json"]


OLD_VERSIONS = {**installed_versions(), "transformers": "5.0.0"}


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_what_other_versions_began_is_refused(begun: RunDir, status: str) -> None:
    begun.update(status=status, environment=Environment(OLD_VERSIONS, "CPU", "fp32", None, []))
    begun.append_predictions([{"id": "a"}])
    before = content(begun.path)
    with pytest.raises(ConfigError, match=r"other versions \(transformers 5\.0\.0 -> \S+\).*overwrite=true"):
        begin(begun, VALID, FINGERPRINTS)
    assert content(begun.path) == before


def test_where_nothing_was_kept_other_versions_do_not_matter(begun: RunDir) -> None:
    begun.update(status="failed", environment=Environment(OLD_VERSIONS, "CPU", "fp32", None, []))
    assert begin(begun, VALID, FINGERPRINTS).status == "running"


@pytest.fixture
def trained(begun: RunDir) -> RunDir:
    begun.adapter_path.mkdir()
    (begun.adapter_path / "adapter_model.safetensors").write_bytes(b"weights")
    begun.update(status="interrupted", files=begun.stamps("adapter"))
    return begun


def test_weights_that_are_as_they_were_left_are_used_again(trained: RunDir) -> None:
    assert trained_before(trained, record_of(trained))
    assert begin(trained, VALID, FINGERPRINTS).files == trained.stamps("adapter")


def test_weights_of_nobody_knows_whom_are_refused(trained: RunDir) -> None:
    (trained.adapter_path / "adapter_model.safetensors").write_bytes(b"WEIGHTS")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors has changed .* since training wrote it"):
        begin(trained, VALID, FINGERPRINTS)


def test_damaged_weights_are_made_again_where_a_checkpoint_is_left(
    trained: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    (trained.adapter_path / "adapter_model.safetensors").unlink()
    checkpoints = Checkpoints(trained.checkpoints_path, record_of(trained).identity)
    (checkpoints.workshop / "checkpoint-5").mkdir(parents=True)
    checkpoints.publish(5, 5, {})
    assert begin(trained, VALID, FINGERPRINTS).status == "running"
    assert not trained_before(trained, record_of(trained))
    assert "adapter/adapter_model.safetensors is missing; it is made again" in caplog.text


def test_damage_to_a_finished_run_is_told(trained: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    done = trained.update(status="done")
    warn_of_damage(trained, done)
    assert caplog.text == ""
    (trained.adapter_path / "adapter_model.safetensors").write_bytes(b"")
    warn_of_damage(trained, done)
    assert "is done, but adapter/adapter_model.safetensors has 0 bytes instead of 7; overwrite=true" in caplog.text
    for path in trained.adapter_path.iterdir():
        path.unlink()
    caplog.clear()
    warn_of_damage(trained, done)
    assert len(caplog.records) == 1  # one warning, however many files


def test_secrets_from_the_environment_are_not_written_down(run: RunDir) -> None:
    config = changed(VALID, corpus__revision="s3cret", interpolated={"corpus.revision": "${oc.env:TOKEN}"})
    begin(run, config, FINGERPRINTS)
    assert not [name for name, text in content(run.path).items() if b"s3cret" in text]
    assert record_of(run).config["corpus"]["revision"] == "${oc.env:TOKEN}"


def test_overwriting_moves_the_old_run_aside_whole(begun: RunDir) -> None:
    begun.update(status="done")
    before = content(begun.path)
    assert begin(begun, changed(OTHER, overwrite=True), FINGERPRINTS).status == "running"
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
    assert (record.status, record.failure) == ("failed", Failure(kind.__name__, "no such thing", final=True))
    assert record.finished is not None


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (ZeroDivisionError("division by zero"), ["ZeroDivisionError: division by zero."]),
        (OSError(errno.ENOSPC, "No space left on device"), ["the disk is full", "free some space"]),
        (RuntimeError("[enforce fail at inline_container.cc:668] PytorchStreamWriter failed"), ["the disk is full"]),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), ["the disk is full"]),
        (RuntimeError("basic_ios::clear: iostream error"), ["the disk is full"]),
        (SystemExit(0), ["called sys.exit(0)"]),
        (RuntimeError("CUDA out of memory. Tried\n to allocate 2 GiB"), ["out of memory", "train.micro_batch"]),
        (MemoryError(), ["out of memory", "method=qlora"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_defect_becomes_a_run_error_that_says_where_to_look(
    begun: RunDir, error: BaseException, parts: list[str]
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_being_stopped_is_recorded_as_interrupted_with_its_own_exit_code(begun: RunDir, number: int) -> None:
    with pytest.raises(Interrupted) as caught, recording_failure(begun):
        os.kill(os.getpid(), number)
    assert caught.value.code == 128 + number
    record = record_of(begun)
    assert record.status == "interrupted"
    assert record.failure is not None
    assert record.failure.kind == f"stopped by {signal.Signals(number).name}"


def test_only_what_another_try_would_repeat_is_final(begun: RunDir) -> None:
    for error, final in [(RuntimeError("CUDA error: unspecified launch failure"), False), (MemoryError(), True)]:
        with pytest.raises(RunError), recording_failure(begun):
            raise error
        failure = record_of(begun).failure
        assert failure is not None
        assert failure.final is final


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
