"""How forecasts come about: which cells are rehearsed, in which process, and on which data."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.child_process import NoReplyError, describe_exit
from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.data.prepare import prepare_splits
from medqa_finetune.errors import RunError
from medqa_finetune.model.auto_matrix import Resolved
from medqa_finetune.planning import plan_cells, trial_runs
from medqa_finetune.planning.plan_cells import kinds_of, make_plan, shared_trainings
from medqa_finetune.planning.trial_runs import TrialRequest
from medqa_finetune.planning.workload import WorkloadRequest, measure_workload
from tests.config.builders import VALID, changed
from tests.faulty import only_fault
from tests.planning.test_cost_model import FACTS, MEASURED, workload

QLORA = MethodConfig(name="qlora", quantization="nf4")
NONE = MethodConfig(name="none", trains="nothing")


def small(**changes: Any) -> Config:
    sizes = {"data__train_size": 30, "data__validation_size": 5, "data__test_size": 5}
    return changed(VALID, **sizes | changes)


def test_kinds_differ_by_more_than_data_and_seed() -> None:
    cells = [
        VALID, changed(VALID, data__train_size=50), changed(VALID, method=QLORA), changed(VALID, seed=3, run_name="x"),
        changed(VALID, train__max_length=64), changed(VALID, method=NONE),
        changed(VALID, method=NONE, train__epochs=3.0),
    ]  # fmt: skip
    assert kinds_of(cells) == [[0, 1, 3], [2], [4], [5, 6]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be asked of other processes; the second and third cell have more pairs than the first."""
    asked: list[Any] = []

    def reply(function: Callable[[Any], Any], question: Any) -> Any:
        asked.append(question)
        if function is trial_runs.run_trial:
            return MEASURED
        facts = [
            dataclasses.replace(FACTS, train_pairs=1000 * n, heaviest=[n]) for n in range(1, 1 + len(question.cells))
        ]
        batches = [Resolved(each.train) for each in question.cells]
        return dataclasses.replace(workload(1e10), cells=facts, batches=batches)

    monkeypatch.setattr(plan_cells, "_call", reply)
    return asked


def test_largest_cell_of_kind_is_rehearsed_for_all(asked: list[Any], tmp_path: Path) -> None:
    cells = [small(outputs=str(tmp_path)), small(data__train_size=40, outputs=str(tmp_path))]
    found = make_plan(cells, tmp_path, probe=True)
    rehearsed: TrialRequest = asked[1]
    assert len(asked) == 2
    assert (rehearsed.config.data.train_size, rehearsed.heaviest) == (40, [2])
    assert Path(rehearsed.config.outputs).parent == tmp_path
    assert (found.trials, found.without_weights) == (1, [])
    # The same speed, and each its own number of pairs.
    assert found.forecasts[1].start - found.forecasts[0].start == pytest.approx(1000 * MEASURED.encoding_seconds)


def test_nothing_is_rehearsed_unless_asked_for(asked: list[Any], tmp_path: Path) -> None:
    found = make_plan([small(outputs=str(tmp_path))], tmp_path, probe=False)
    assert len(asked) == 1
    assert (found.trials, asked[0].random_models) == (0, [])


def test_data_that_was_prepared_before_is_used(asked: list[Any], tmp_path: Path) -> None:
    config = small(outputs=str(tmp_path / "outputs"))
    folder = tmp_path / "plan"
    folder.mkdir()
    make_plan([config], folder, probe=False)
    assert list((folder / "cache").iterdir()) == []
    before = prepare_splits(config, tmp_path / "outputs" / "cache")
    make_plan([config], folder, probe=False)
    (link,) = (folder / "cache").iterdir()
    assert link.is_symlink()
    stamp = (link / "pool.arrow").stat().st_mtime_ns
    assert prepare_splits(config, folder / "cache").manifest == before.manifest
    assert (link / "pool.arrow").stat().st_mtime_ns == stamp


def test_shared_training_counts_with_its_first_cell(asked: list[Any], tmp_path: Path) -> None:
    names = [("a", 1), ("a", 2), ("b", 1), ("a", 3)]
    cells = [small(outputs=str(tmp_path), run_name=name, evaluate__max_samples=most) for name, most in names]
    found = make_plan(cells, tmp_path, probe=False)
    assert found.trained_by == {1: 0, 3: 0}
    for place, each in enumerate(found.forecasts):
        trains = place not in found.trained_by
        figures = (each.train, each.validate, each.training_bytes, each.disk_bytes)
        assert all(figures) if trains else not any(figures)
        assert each.start > 0
        assert each.answer > 0


def test_cells_without_training_or_name_share_none(tmp_path: Path) -> None:
    of_the_base = changed(VALID, method=NONE, run_name="none", outputs=str(tmp_path))
    assert shared_trainings([of_the_base, changed(of_the_base, evaluate__max_samples=2)]) == {}
    assert shared_trainings([VALID, changed(VALID, evaluate__max_samples=2)]) == {}


def test_process_that_ends_without_reply_is_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def call(*_: object, **__: object) -> Any:
        raise NoReplyError(describe_exit(-9), "CUDA out of memory")

    monkeypatch.setattr(plan_cells, "call", call)
    with pytest.raises(RunError) as caught:
        plan_cells._call(measure_workload, WorkloadRequest([VALID], str(tmp_path)))
    fault = only_fault(caught)
    assert fault.code == "process-ended"
    assert "SIGKILL" in fault.problem
    assert "CUDA out of memory" in fault.problem
