"""That a checkpoint is whole or none, that the newest good one is found, and that nothing needed is ever let go."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medqa_finetune.errors import DataError
from medqa_finetune.training import checkpoints as checkpoints_module
from medqa_finetune.training.checkpoints import Checkpoints, read_manifest
from tests.faulty import only_fault


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", "this-run")


def publish(checkpoints: Checkpoints, step: int, best: int = 0) -> None:
    """Do what Trainer does, then what our callback does."""
    written = checkpoints.trainer_folder / f"checkpoint-{step}"
    written.mkdir(parents=True)
    (written / "adapter_model.safetensors").write_bytes(f"weights of step {step}".encode() * 10)
    (written / "optimizer.pt").write_bytes(bytes(100))
    (written / "training_args.bin").write_bytes(b"a pickle")
    checkpoints.publish(step, best, {"best_step": best})


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir() if not path.name.startswith("."))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_checkpoint_is_published_whole(checkpoints: Checkpoints) -> None:
    publish(checkpoints, 4)
    assert checkpoints.newest() == 4
    assert checkpoints.read_progress(4) == {"best_step": 0}
    manifest = read_manifest(checkpoints.path(4) / "manifest.json")
    assert (manifest.step, manifest.identity) == (4, "this-run")
    # Pickled arguments of Trainer's are not kept.
    assert sorted(manifest.files) == ["adapter_model.safetensors", "optimizer.pt", "progress.json"]


def test_every_file_and_its_folder_reach_the_disk(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(checkpoints_module, "sync", lambda path: synced.append(path.name))
    publish(checkpoints, 4)
    # The manifest is synced by `write_json`, before the folder takes its name.
    assert sorted(synced[:-1]) == ["adapter_model.safetensors", "optimizer.pt", "progress.json"]
    assert synced[-1] == checkpoints.folder.name


def test_without_checkpoints_there_is_no_newest(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() is None
    assert checkpoints.steps() == []


def test_the_newest_two_and_the_best_are_kept(checkpoints: Checkpoints) -> None:
    for step, best in [(2, 2), (4, 4), (6, 4), (8, 4), (100, 4)]:
        publish(checkpoints, step, best)
    assert names(checkpoints) == ["step-100", "step-4", "step-8"]


def test_a_lost_new_best_costs_no_more_than_itself(checkpoints: Checkpoints) -> None:
    for step, best in [(3, 3), (4, 3), (5, 3), (6, 6)]:
        publish(checkpoints, step, best)
    assert names(checkpoints) == ["step-3", "step-5", "step-6"]
    flip(checkpoints.path(6) / "optimizer.pt")
    assert checkpoints.newest() == 5


def test_order_is_by_step_whatever_the_clock_says(checkpoints: Checkpoints) -> None:
    for step in (9, 10, 100):
        publish(checkpoints, step)
        for path in checkpoints.folder.glob("step-*"):
            os.utime(path, (1_000_000_000 - step, 1_000_000_000 - step))  # the newest looks oldest
    assert names(checkpoints) == ["step-10", "step-100"]
    assert checkpoints.newest() == 100


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda folder: os.truncate(folder / "optimizer.pt", 50),
    "flipped byte": lambda folder: flip(folder / "adapter_model.safetensors"),
    "zeroed tail": lambda folder: (folder / "adapter_model.safetensors").write_bytes(
        (folder / "adapter_model.safetensors").read_bytes()[:-8] + bytes(8)
    ),
    "lost weights": lambda folder: (folder / "adapter_model.safetensors").unlink(),
    "lost progress": lambda folder: (folder / "progress.json").unlink(),
    "lost manifest": lambda folder: (folder / "manifest.json").unlink(),
    "torn manifest": lambda folder: os.truncate(folder / "manifest.json", 40),
    "manifest is a list": lambda folder: (folder / "manifest.json").write_text("[]"),
    "empty folder": empty,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_is_passed_over_and_named(
    checkpoints: Checkpoints, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    publish(checkpoints, 5)
    publish(checkpoints, 10)
    damage(checkpoints.path(10))
    with caplog.at_level(logging.WARNING):
        assert checkpoints.newest() == 5
    assert "step-10 is not used" in caplog.text


def test_one_of_another_run_is_passed_over(checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    publish(checkpoints, 5)
    other = Checkpoints(checkpoints.folder, "another-run")
    assert other.newest() is None
    fault = other.fault_of(5)
    assert fault is not None
    assert (fault.code, fault.key, fault.got) == ("other-run", "identity", "this-run")
    assert fault.file == str(checkpoints.path(5))
    assert "step-5 is not used" in caplog.text
    assert "this-run" in caplog.text


def test_one_under_a_wrong_name_is_passed_over(checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    publish(checkpoints, 5)
    shutil.copytree(checkpoints.path(5), checkpoints.path(500))
    (checkpoints.folder / "step-9999").mkdir()
    assert checkpoints.newest() == 5
    fault = checkpoints.fault_of(500)
    assert fault is not None
    assert (fault.code, fault.key, fault.got) == ("other-step", "step", 5)
    assert "step-500 is not used" in caplog.text


def test_one_whose_best_weights_are_damaged_is_passed_over(checkpoints: Checkpoints) -> None:
    publish(checkpoints, 3)
    publish(checkpoints, 6, 3)
    flip(checkpoints.path(3) / "adapter_model.safetensors")
    assert checkpoints.newest() is None


def test_a_damaged_one_is_replaced_when_its_step_comes_again(checkpoints: Checkpoints) -> None:
    publish(checkpoints, 5)
    publish(checkpoints, 10)
    flip(checkpoints.path(10) / "optimizer.pt")
    publish(checkpoints, 10)
    assert checkpoints.newest() == 10
    assert names(checkpoints) == ["step-10", "step-5"]


def test_a_damaged_one_does_not_count_among_those_kept(checkpoints: Checkpoints) -> None:
    publish(checkpoints, 5)
    publish(checkpoints, 10)
    (checkpoints.path(10) / "optimizer.pt").unlink()
    publish(checkpoints, 15)
    assert names(checkpoints) == ["step-15", "step-5"]


def test_one_that_is_none_of_ours_does_not_count_among_those_kept(checkpoints: Checkpoints) -> None:
    publish(Checkpoints(checkpoints.folder, "another-run"), 400)
    publish(checkpoints, 5)
    shutil.copytree(checkpoints.path(5), checkpoints.path(500))
    publish(checkpoints, 10)
    assert names(checkpoints) == ["step-10", "step-5"]


def test_what_does_not_read_back_is_an_error_and_costs_no_older_one(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(checkpoints, 5)
    publish(checkpoints, 10)
    rename = Path.rename

    def damaging(self: Path, target: Path) -> Path:
        if self.name == "checkpoint-15":
            flip(self / "optimizer.pt")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", damaging)
    with pytest.raises(DataError) as caught:
        publish(checkpoints, 15)
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("damaged", str(checkpoints.path(15)))
    assert "optimizer.pt" in fault.problem
    assert "disk" in fault.hint
    assert checkpoints.newest() == 10
    assert {"step-5", "step-10"} <= set(names(checkpoints))


def test_sweeping_leaves_checkpoints_alone(checkpoints: Checkpoints) -> None:
    publish(checkpoints, 5)
    (checkpoints.trainer_folder / "checkpoint-10").mkdir()
    (checkpoints.trainer_folder / "checkpoint-10" / "optimizer.pt").write_bytes(b"half")
    checkpoints.sweep()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-5"]


def test_clearing_leaves_nothing(checkpoints: Checkpoints) -> None:
    publish(checkpoints, 5)
    checkpoints.clear()
    checkpoints.clear()
    assert not checkpoints.folder.exists()


@pytest.mark.parametrize(
    "change", [{"step": "5"}, {"files": {"a": {"size": 1}}}, {"best_step": None}, {"identity": 7}], ids=str
)
def test_a_manifest_of_wrong_types_is_refused(checkpoints: Checkpoints, change: dict[str, object]) -> None:
    publish(checkpoints, 5)
    path = checkpoints.path(5) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    assert (only_fault(caught).code, only_fault(caught).file) == ("not-a-manifest", str(path))
