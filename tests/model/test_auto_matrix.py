"""One choice of micro-batch and gradient checkpointing for all cells of a matrix that are compared."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.model.auto_matrix import resolve_matrix
from medqa_finetune.model.estimate import Machine
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Environment, Fitted, Record
from tests.config.builders import VALID, changed

LORA, QLORA = VALID.method, MethodConfig(name="qlora", quantization="nf4")
FULL, NONE = MethodConfig(name="full", trains="all"), MethodConfig(name="none", trains="nothing")


def cell(method: MethodConfig = LORA, **changes: Any) -> Config:
    auto: dict[str, Any] = {"train__micro_batch": "auto", "train__gradient_checkpointing": "auto"}
    return changed(VALID, method=method, **auto | changes)


def card(gib: float) -> Machine:
    return Machine("cuda", "card", int(gib * 2**30), "bf16")


def settle(configs: list[Config], size: ModelSize, machine: Machine) -> list[tuple[Any, Any, int | None]]:
    found = resolve_matrix(configs, [size] * len(configs), machine)
    return [(each.train.micro_batch, each.train.gradient_checkpointing, each.decided_by) for each in found]


@pytest.mark.parametrize("gib", [10, 24])
def test_the_dearest_of_compared_cells_decides(qwen_3b: ModelSize, gib: float) -> None:
    alone = settle([cell(LORA)], qwen_3b, card(gib))[0][:2]
    both = [cell(QLORA), cell(LORA), cell(QLORA, data__train_size=50_000), cell(LORA, seed=1)]
    assert settle(both, qwen_3b, card(gib)) == [(*alone, 1)] * 4
    if gib == 10:
        assert settle([cell(QLORA)], qwen_3b, card(gib))[0][:2] != alone


def test_cells_that_are_not_compared_decide_for_themselves(qwen_3b: ModelSize) -> None:
    other = cell(LORA, train__max_length=512)
    base = cell(NONE)
    typed = cell(LORA, train__micro_batch=1)
    found = settle([cell(QLORA), other, base, typed, cell(QLORA, study="mine")], qwen_3b, card(12))
    assert [each[2] for each in found] == [0, 1, None, 3, 4]
    assert found[2] == ("auto", "auto", None)
    assert found[3][0] == 1


def test_a_cell_that_fits_nowhere_does_not_slow_the_others(qwen_3b: ModelSize) -> None:
    alone = settle([cell(LORA)], qwen_3b, card(24))[0][:2]
    assert settle([cell(LORA), cell(FULL)], qwen_3b, card(24)) == [(*alone, 0), (1, True, 1)]


def test_a_plan_takes_what_runs_in_outputs_began_with(qwen_3b: ModelSize, tmp_path: Path) -> None:
    config = cell(LORA, outputs=str(tmp_path))
    run = RunDir(tmp_path / "default" / "qlora_20k")
    place = Environment({}, "card", "bf16", None, [])
    choice = Fitted(2, gradient_checkpointing=True, chosen_in="qlora_20k")
    settings = dataclasses.asdict(cell(QLORA))
    run.write(Record("qlora_20k", "0", "done", "qlora", "20k", "tiny", 0, settings, environment=place, fitted=choice))
    config = dataclasses.replace(config, study="default")
    (found,) = resolve_matrix([config], [qwen_3b], card(80))
    assert (found.train.micro_batch, found.train.gradient_checkpointing, found.taken_from) == (2, True, "qlora_20k")
    # Not on another card, nor for a card elsewhere.
    other = dataclasses.replace(card(80), name="another")
    assert resolve_matrix([config], [qwen_3b], other)[0].taken_from is None
    assert resolve_matrix([config], [qwen_3b], card(80), on_disk=False)[0].taken_from is None
