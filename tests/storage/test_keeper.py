"""A run is stored while a process works on it."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medqa_finetune.cell import Cell
from medqa_finetune.errors import ConfigError, Fault, RunError
from medqa_finetune.run_state.claim import Claim, claimed
from medqa_finetune.run_state.resume import fetched
from medqa_finetune.storage import keeper, owner
from medqa_finetune.storage.owner import read_owner, write_owner
from medqa_finetune.storage.remote import Remote
from medqa_finetune.storage.synced import SyncedRun, synced_run
from tests.cells import answer, cell_in, evaluate, result, train
from tests.config.builders import VALID, changed
from tests.faulty import only_fault


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return cell_in(tmp_path / "outputs", storage=str(tmp_path / "drive"))


@pytest.fixture
def synced(cell: Cell) -> SyncedRun:
    found = synced_run(cell.config)
    assert found is not None
    return found


def within(seconds: float, is_so: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if is_so():
            return True
        time.sleep(0.02)
    return False


def test_a_checkpoint_is_stored_while_the_run_goes_on(cell: Cell, synced: SyncedRun) -> None:
    with claimed(cell) as claim:
        claim.begin_training()
        (cell.run.checkpoints_path / "step-1").mkdir(parents=True)
        (cell.run.checkpoints_path / "step-1" / "weights").write_text("w")
        claim.store_soon()
        assert within(10, lambda: "checkpoints/step-1/weights" in synced.remote.sizes())
        train(claim)
        answer(claim)
        claim.finish(result())


def test_logs_are_stored_without_a_checkpoint(cell: Cell, synced: SyncedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "STORE_SECONDS", 0.05)
    with claimed(cell) as claim:
        claim.begin_training()
        cell.run.log_metrics({"step": 1})
        assert within(10, lambda: "metrics.jsonl" in synced.remote.sizes())
        train(claim)
        answer(claim)
        claim.finish(result())


def test_the_owner_beats_and_ends(cell: Cell, synced: SyncedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "BEAT_SECONDS", 0.02)
    with claimed(cell) as claim:
        assert within(10, lambda: getattr(read_owner(synced.remote), "beats", 0) > 2)
        train(claim)
        answer(claim)
        claim.finish(result())
    found = read_owner(synced.remote)
    assert found is not None
    assert found.has_ended


def test_a_failure_is_stored_too(cell: Cell, synced: SyncedRun) -> None:
    def fail() -> None:
        with claimed(cell) as claim:
            claim.begin_training()
            raise ValueError("broken")

    with pytest.raises(RunError):
        fail()
    assert b'"failed"' in (synced.remote.read("record.json") or b"")


def test_one_that_lost_the_run_stops_and_stores_nothing_more(
    cell: Cell, synced: SyncedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "BEAT_SECONDS", 0.02)
    other = dataclasses.replace(owner.this_owner(), host="node7", host_identity="another")
    stored_before: list[bytes | None] = []

    def notices(claim: Claim) -> bool:
        try:
            claim.store_soon()
        except RunError:
            return True
        return False

    def work() -> None:
        with claimed(cell) as claim:
            claim.begin_training()
            write_owner(synced.remote, other)
            stored_before.append(synced.remote.read("record.json"))
            assert within(10, lambda: notices(claim))
            claim.store_soon()

    with pytest.raises(RunError) as caught:
        work()
    assert only_fault(caught).code == "held-elsewhere"
    assert read_owner(synced.remote) == other
    assert [synced.remote.read("record.json")] == stored_before


def test_what_another_machine_stored_in_the_meantime_is_not_replaced(cell: Cell, tmp_path: Path) -> None:
    evaluate(fetched(cell_in(tmp_path / "elsewhere", storage=cell.config.storage)))
    with pytest.raises(RunError) as caught, claimed(cell):
        pass
    assert only_fault(caught).code == "held-elsewhere"


def test_a_storage_that_fails_for_a_while_stops_no_run(
    cell: Cell, synced: SyncedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LAST_TRIES", (0.0, 0.1, 0.1))
    writes, failures = Remote.write, 0

    def write(self: Remote, name: str, content: bytes) -> None:
        nonlocal failures
        if name == "config.yaml" and failures < 2:
            failures += 1
            raise RunError(Fault("storage-silent", "no network"))
        writes(self, name, content)

    monkeypatch.setattr(Remote, "write", write)
    evaluate(cell)
    assert failures == 2
    assert "config.yaml" in synced.remote.sizes()


def test_a_storage_that_fails_for_good_is_said_and_the_result_stays(
    cell: Cell, synced: SyncedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LAST_TRIES", (0.0, 0.01))
    writes = Remote.write

    def write(self: Remote, name: str, content: bytes) -> None:
        if not name.startswith("."):
            raise RunError(Fault("storage-silent", "no network"))
        writes(self, name, content)

    monkeypatch.setattr(Remote, "write", write)
    with pytest.raises(RunError) as caught:
        evaluate(cell)
    assert only_fault(caught).code == "not-stored"
    assert cell.run.read().status == "done"  # type: ignore[union-attr]
    monkeypatch.setattr(Remote, "write", writes)
    keeper.store_finished(cell.config)
    assert "record.json" in synced.remote.sizes()


def test_without_a_storage_nothing_is_written(tmp_path: Path) -> None:
    cell = cell_in(tmp_path / "outputs")
    evaluate(cell)
    assert not list(tmp_path.rglob("*storage*"))
    assert synced_run(cell.config) is None


@pytest.mark.parametrize("value", ["", " ", "a\0b"])
def test_impossible_places_are_refused(value: str) -> None:
    from medqa_finetune.config.checks import checked

    with pytest.raises(ConfigError) as caught:
        checked(changed(VALID, storage=value))
    assert (only_fault(caught).code, only_fault(caught).key) == ("bad-path", "storage")


@pytest.mark.parametrize("value", ["runs", "runs/inside", "."])
def test_the_folder_of_the_runs_is_no_storage_of_them(value: str) -> None:
    from medqa_finetune.config.checks import checked

    with pytest.raises(ConfigError) as caught:
        checked(changed(VALID, outputs="runs", storage=value))
    assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "storage")
