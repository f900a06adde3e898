"""Run folders that go to a storage and come back: whole, or as a kill would have left them."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.cell import Cell
from medqa_finetune.errors import MedQAError, RunError
from medqa_finetune.record.checksums import damages, stamps_below
from medqa_finetune.record.evaluations import evaluation_dirs
from medqa_finetune.run_state.claim import claimed
from medqa_finetune.run_state.resume import earlier_record, fetched
from medqa_finetune.storage.keeper import fetch, store_finished
from medqa_finetune.storage.remote import Remote
from medqa_finetune.storage.synced import NOT_STORED, OURS, synced_run
from tests.cells import answer, cell_in, evaluate, result, train
from tests.faulty import only_fault


def cell_at(machine: Path, **values: Any) -> Cell:
    """Return the cell of a machine, whose storage is the one that all machines of a test have."""
    return cell_in(machine / "outputs", storage=str(machine.parent / "drive"), **values)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def state_of(cell: Cell) -> dict[str, object]:
    names = stamps_below(cell.run.path, leave_out=("tensorboard",))
    return {name: stamp for name, stamp in names.items() if not name.endswith(".lock") and "log.txt" not in name}


def fail_after_training(cell: Cell) -> None:
    def work() -> None:
        with claimed(cell) as claim:
            train(claim)
            raise ValueError("the memory ran out, say")

    with pytest.raises(RunError):
        work()


def test_a_finished_run_is_the_same_elsewhere(here: Path, there: Path) -> None:
    evaluate(cell_at(here))
    cell = fetched(cell_at(there))
    record = earlier_record(cell)
    assert record is not None
    assert record.status == "done"
    assert state_of(cell) == state_of(cell_at(here))


def test_nothing_is_fetched_twice(here: Path, there: Path) -> None:
    evaluate(cell_at(here))
    assert fetch(cell_at(there).config)
    assert not fetch(cell_at(there).config)
    assert not fetch(cell_at(here).config)


def test_a_folder_that_was_removed_is_fetched_again(here: Path) -> None:
    cell = cell_at(here)
    evaluate(cell)
    shutil.rmtree(cell.run.path)
    assert fetch(cell.config)
    assert earlier_record(cell_at(here)) is not None


def test_another_machine_goes_on_with_a_trained_run(here: Path, there: Path) -> None:
    fail_after_training(cell_at(here))
    cell = fetched(cell_at(there))
    evaluate(cell)
    back = fetched(cell_at(here))
    record = earlier_record(back)
    assert record is not None
    assert record.status == "done"
    assert [path.name for path in back.run.path.parent.iterdir() if ".old-" in path.name] == []


def test_what_was_never_stored_is_kept_aside_when_the_storage_is_newer(here: Path, there: Path) -> None:
    fail_after_training(cell_at(here))
    evaluate(fetched(cell_at(there)))
    own = cell_at(here).run.path / "metrics.jsonl"
    own.write_text('{"step": 1}\n')
    cell = fetched(cell_at(here))
    assert cell.run.read().status == "done"  # type: ignore[union-attr]
    (aside,) = cell.run.path.parent.glob("*.old-*")
    assert (aside / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_records_that_a_matrix_wrote_before_its_start_are_no_work(here: Path, there: Path) -> None:
    from medqa_finetune.run_state.claim import ensure_records

    evaluate(cell_at(here))
    waiting = cell_at(there)
    with waiting.run.lock():
        ensure_records(waiting)
    cell = fetched(waiting)
    assert earlier_record(cell).status == "done"  # type: ignore[union-attr]
    assert list(cell.run.path.parent.glob("*.old-*")) == []


def test_what_is_gone_here_is_gone_there(here: Path) -> None:
    cell = cell_at(here)
    evaluate(cell)
    (cell.run.path / "adapter" / "extra").write_text("x")
    store_finished(cell.config)
    synced = synced_run(cell.config)
    assert synced is not None
    assert "adapter/extra" in synced.remote.sizes()
    (cell.run.path / "adapter" / "extra").unlink()
    (cell.run.path / "other").write_text("y")
    store_finished(cell.config)
    assert "adapter/extra" not in synced.remote.sizes()


def test_exports_locks_and_temporary_files_stay_here(here: Path) -> None:
    cell = cell_at(here)
    evaluate(cell)
    for name in (*NOT_STORED, ".writing-x"):
        (cell.run.path / name).mkdir()
        (cell.run.path / name / "file").write_text("x")
    (cell.run.path / "new").write_text("x")
    store_finished(cell.config)
    synced = synced_run(cell.config)
    assert synced is not None
    names = set(synced.remote.sizes()) - set(OURS)
    assert "new" in names
    assert not [name for name in names if name.startswith((*NOT_STORED, ".")) or name.endswith(".lock")]


def test_files_larger_than_memory_allows_are_streamed(here: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medqa_finetune.storage import synced

    monkeypatch.setattr(synced, "STREAMED_BYTES", 10)
    evaluate(cell_at(here))
    assert fetch(cell_at(there).config)
    assert state_of(cell_at(there)) == state_of(cell_at(here))


def test_overwriting_moves_aside_what_is_stored(here: Path, there: Path) -> None:
    evaluate(cell_at(here), bleu=5.0)
    evaluate(cell_at(there, overwrite=True), bleu=7.0)
    (aside,) = (here.parent / "drive").glob("*.old-1")
    assert json.loads((aside / "record.json").read_text())["evaluation"]["scores"]["bleu"]["value"] == 5.0
    cell = fetched(cell_at(here))
    assert cell.run.read().evaluation.scores["bleu"].value == 7.0  # type: ignore[union-attr]


def test_a_manifest_of_another_program_is_refused(here: Path) -> None:
    evaluate(cell_at(here))
    (here.parent / "drive" / "lora_20k" / ".stored.json").write_text("{}")
    with pytest.raises(RunError) as caught:
        fetch(cell_at(here).config)
    assert only_fault(caught).code == "not-a-manifest"


class CutError(Exception):
    """The machine is gone."""


def test_a_machine_lost_at_any_write_leaves_what_a_kill_may_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every storing of a whole cell is cut after each of its writes; another machine goes on from there."""
    writes = Remote.write
    for count in itertools.count(1):
        place = tmp_path / str(count)
        left = count

        def write(self: Remote, name: str, content: bytes) -> None:
            nonlocal left
            if left == 0:
                raise CutError
            left -= 1
            writes(self, name, content)

        monkeypatch.setattr(Remote, "write", write)
        is_whole = _work_until_cut(cell_at(place / "here"))
        monkeypatch.setattr(Remote, "write", writes)
        # The thread of the process that is gone in truth, here another object.
        (place / "drive" / "lora_20k" / ".owner.json").unlink(missing_ok=True)
        cell = fetched(cell_at(place / "there"))
        record = earlier_record(cell)
        if record is not None and record.is_trained:
            assert damages(cell.run.path, record.files) == []
            for folder in evaluation_dirs(cell.run, record):
                evaluation = folder.read()
                assert evaluation is not None
                assert damages(folder.path, evaluation.files) == []
        evaluate(cell)
        assert earlier_record(cell).status == "done"  # type: ignore[union-attr]
        assert earlier_record(fetched(cell_at(place / "third"))).status == "done"  # type: ignore[union-attr]
        if is_whole:
            assert count > 15
            return


def _work_until_cut(cell: Cell) -> bool:
    """Work on a cell, storing between all stages; return whether nothing cut it."""
    synced = synced_run(cell.config)
    assert synced is not None
    state = ""
    plain = cell_in(Path(cell.config.outputs))
    try:
        with claimed(plain) as claim:
            claim.begin_training()
            state = synced.store(state)
            train(claim)
            state = synced.store(state)
            answer(claim, "ab")
            state = synced.store(state)
            answer(claim, "abc")
            claim.finish(result())
            synced.store(state)
    except (CutError, MedQAError):
        return False
    return True
