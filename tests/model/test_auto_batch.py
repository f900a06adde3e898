"""What `auto` stands for, by the memory there is."""

from typing import Any

import pytest

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.schema import Config
from medqa_finetune.model.auto_batch import (
    ENOUGH_TOKENS,
    SHARE,
    candidates,
    fits,
    is_auto,
    resolve_answering,
    resolve_auto,
)
from medqa_finetune.model.estimate import Machine, answering_memory, training_memory
from tests.config.builders import VALID, changed

GIB = 2**30
# Wide layers, next to nothing beside them: memory is what activations take.
SIZE = ModelSize(
    parameters=210_000, matrices={"embed": (100, 100)} | {f"layers.{n}.down_proj": (250, 50) for n in range(4)},
    embeddings=frozenset(["embed"]), layers=4, attention_width=100, vocabulary=100, hidden=100, other_bytes=0,
)  # fmt: skip


def gpu(memory: int) -> Machine:
    return Machine("cuda", "GPU", memory, "fp32")


def wanted(**train: Any) -> Config:
    settings: dict[str, Any] = {
        "batch_size": 12, "max_length": 1024, "micro_batch": "auto", "gradient_checkpointing": "auto",
    }  # fmt: skip
    return changed(VALID, precision="fp32", **{f"train__{key}": value for key, value in (settings | train).items()})


def chosen(memory: int, **train: Any) -> tuple[int, bool]:
    found = resolve_auto(wanted(**train), SIZE, gpu(memory))
    return found.micro_batch, found.gradient_checkpointing


def need(micro_batch: int, again: bool) -> int:
    config = wanted(micro_batch=micro_batch, gradient_checkpointing=again)
    return round(training_memory(SIZE, config, gpu(0)).total / SHARE) + 1


def test_all_that_fits_is_taken() -> None:
    assert chosen(100 * GIB) == (12, False)


def test_the_largest_divisor_that_fits_is_taken() -> None:
    assert chosen(need(6, again=False)) == (6, False)
    assert chosen(need(4, again=False)) == (4, False)


def test_activations_are_computed_again_rather_than_taking_small_passes() -> None:
    assert ENOUGH_TOKENS["cuda"] == 2 * 1024
    micro_batch, again = chosen(need(2, again=False) - 2)
    assert again
    assert need(micro_batch, again=True) < need(2, again=False)
    assert chosen(need(2, again=True)) == (2, True)


def test_where_nothing_fits_the_least_is_taken() -> None:
    assert chosen(1) == (1, True)
    assert resolve_auto(wanted(), None, gpu(100 * GIB)).micro_batch == 1


def test_what_is_given_stays() -> None:
    assert chosen(100 * GIB, micro_batch=5, gradient_checkpointing=True) == (5, True)
    assert chosen(need(2, again=False), gradient_checkpointing=False) == (2, False)
    assert chosen(100 * GIB, gradient_checkpointing=True) == (12, True)
    assert chosen(need(3, again=True), micro_batch=3) == (3, True)
    assert not is_auto(VALID.train)
    assert is_auto(wanted(micro_batch=1).train)


def test_a_short_step_needs_no_large_pass() -> None:
    found = list(candidates(wanted(batch_size=2).train))
    assert [(each.micro_batch, each.gradient_checkpointing) for each in found] == [(2, False), (2, True), (1, True)]


@pytest.mark.parametrize("beside", [0, 600 * 2**20])
def test_a_process_on_a_cpu_holds_more_than_tensors(beside: int) -> None:
    config = wanted(micro_batch=1, gradient_checkpointing=False)
    cpu = Machine("cpu", "CPU", 0)
    total = training_memory(SIZE, config, cpu).total
    machine = Machine("cpu", "CPU", round((total + beside) / SHARE) + 1)
    assert fits(config, SIZE, machine) is (beside > 0)


def test_packs_stay_within_what_flash_attention_addresses() -> None:
    long = {"max_length": 2**21, "batch_size": 12, "gradient_checkpointing": False}
    # 12 examples of 2 Mi tokens in heads of 100 numbers are more than 2^31; ten are fewer, but 12 has no such divisor.
    assert chosen(2**60, **long) == (6, False)
    assert chosen(2**60, **long, packing=False) == (12, False)


def test_a_plan_fills_the_card(qwen_3b: ModelSize) -> None:
    for card in (16, 24, 141):
        machine = Machine("cuda", "card", card * 2**30, "bf16")
        auto = changed(VALID, evaluate__batch_tokens="auto")
        settled = changed(auto, evaluate=resolve_answering(auto, qwen_3b, machine))
        assert settled.evaluate.batch_tokens > 30_000
        assert answering_memory(qwen_3b, settled, machine).total / 2**30 < card
