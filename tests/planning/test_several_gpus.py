"""Cells on several GPUs each: who is asked for how many, the work and memory of each, and what they exchange."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ConfigError
from medqa_finetune.launch.gpus import Gpu
from medqa_finetune.methods.registry import model_method
from medqa_finetune.planning import several_gpus as room
from medqa_finetune.planning.cost_model import forecast_from_workload
from medqa_finetune.planning.several_gpus import AskedGpus, describe_several, exchanged_bytes, gpus_of_a_cell
from medqa_finetune.planning.workload import heaviest_step, size_of, workload_on_card
from tests.config.builders import VALID, changed
from tests.planning.test_workload import cell, sample

FULL = MethodConfig(name="full", trains="all")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "visible_gpus", lambda: [Gpu("0", "0"), Gpu("1", "1")])


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("asked", "count"),
    [
        (AskedGpus(), 1), (AskedGpus(0), 1), (AskedGpus(2), 2), (AskedGpus(1, 2), 2), (AskedGpus(2, 2), 2),
        (AskedGpus(4, card="t4"), 4), (AskedGpus(1, 8, "h200"), 8),
    ],
)  # fmt: skip
def test_the_launcher_or_an_option_says_how_many(asked: AskedGpus, count: int) -> None:
    assert gpus_of_a_cell([VALID], asked, probe=False) == count


def test_without_gpus_a_launcher_starts_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "visible_gpus", list)
    assert gpus_of_a_cell([VALID], AskedGpus(2), probe=False) == 1


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("asked", "probe", "code", "key"),
    [
        (AskedGpus(2, 4, "t4"), False, "conflict", "gpus"),
        (AskedGpus(3), False, "out-of-range", "hydra.launcher.gpus_per_cell"),
        (AskedGpus(1, 3), False, "out-of-range", "gpus"),
        (AskedGpus(1, 2), True, "conflict", "plan.probe"),
        (AskedGpus(1, 64, "t4"), False, "out-of-range", "gpus"),
    ],
)
def test_what_cannot_be_planned_is_refused(asked: AskedGpus, probe: bool, code: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        gpus_of_a_cell([VALID], asked, probe=probe)
    assert [(fault.code, fault.key) for fault in refused.value.faults] == [(code, key)]


def test_one_gpu_has_nobody_to_divide_the_weights_with() -> None:
    config = changed(VALID, method=FULL, train__sharding="full")
    with pytest.raises(ConfigError) as refused:
        gpus_of_a_cell([config], AskedGpus(card="t4"), probe=False)
    assert [(fault.code, fault.key) for fault in refused.value.faults] == [("no-effect", "train.sharding")]
    assert gpus_of_a_cell([config], AskedGpus(1, 2, "t4"), probe=False) == 2


def test_gradients_are_exchanged_once_a_step_and_weights_in_every_pass(micro_model: Path) -> None:
    size, whole = size_of(micro_model), changed(VALID, method=FULL)
    divided = changed(whole, train__sharding="full")
    weights = 4 * size.parameters
    assert [exchanged_bytes(size, whole, passes, 2) for passes in (1, 3)] == [weights, weights]
    assert exchanged_bytes(size, whole, 1, 4) == 1.5 * weights
    assert [exchanged_bytes(size, divided, passes, 2) for passes in (1, 3)] == [1.5 * weights, 4.5 * weights]
    adapters = model_method(VALID.method).trainable_parameters(size)
    assert exchanged_bytes(size, VALID, 1, 2) == 4 * adapters


def test_each_of_two_has_half_of_the_work(micro_model: Path, tmp_path: Path) -> None:
    config = cell(micro_model, FULL, batch_size=8, micro_batch=4)
    divided = dataclasses.replace(config, train=dataclasses.replace(config.train, sharding="full"))
    plans = [workload_on_card([each], tmp_path, "t4", gpus) for each, gpus in ((config, 1), (config, 2), (divided, 2))]
    alone, both, shared = (plan.cells[0] for plan in plans)
    seconds = [forecast_from_workload(plan.cells[0], plan, "auto") for plan in plans]
    assert 0.5 * seconds[0].train <= seconds[1].train < 0.9 * seconds[0].train
    assert seconds[1].validate < seconds[0].validate
    assert seconds[1].answer == seconds[0].answer
    flops = [sum(each.flops for each in work.training) for work in (alone, both)]
    assert flops[1] == pytest.approx(flops[0] / 2, rel=0.01)
    moved = [next(each.bytes for each in work.training if each.kind == "optimizer") for work in (both, shared)]
    assert moved[1] == moved[0] / 2
    assert (alone.exchanged_bytes, both.exchanged_bytes > 0, shared.exchanged_bytes > 0) == (0, True, True)


def test_a_pass_holds_the_share_of_one_process(micro_model: Path) -> None:
    config = cell(micro_model, batch_size=4, micro_batch=4)
    counts = [heaviest_step(sample(50, 50, 50, 50), config, 3, processes)[1] for processes in (1, 2, 4)]
    assert counts == [200, 100, 50]


def test_shares_and_hours_are_said() -> None:
    rows: list[dict[str, Any]] = [{"batch_size": 16, "exchanged_bytes": 2**20, "seconds": 3600.0},
                                  {"batch_size": None, "exchanged_bytes": 0, "seconds": 1800.0}]  # fmt: skip
    assert describe_several(rows, 1) == []
    said = " ".join(describe_several(rows, 2))
    assert all(part in said for part in ("8 of a step's 16 examples", "1.0 MiB", "3 GPU-hours"))
    assert "5–6" in describe_several(rows, 3)[0]
    assert len(describe_several(rows[1:], 2)) == 1
