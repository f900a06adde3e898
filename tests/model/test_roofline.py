import dataclasses

import pytest

from medqa_finetune.config.schema import Config, TrainConfig
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.model.cards import CARDS
from medqa_finetune.model.roofline import (
    Operations,
    Passes,
    by_kinds,
    decoding_operations,
    predict,
    training_operations,
)
from scripts.benchmarks.roofline import METHODS, model_size

PACK = Passes(tokens=4096, answer_tokens=2048, squared_lengths=4 * 1024**2, passes=1, steps=1)
T4 = CARDS["t4"]


def seconds_of(card: str, method: str, *, again: bool = True, work: Passes = PACK) -> float:
    config = Config(method=MethodConfig(**METHODS[method]), train=TrainConfig(gradient_checkpointing=again))
    return predict(CARDS[card], training_operations(model_size(), config, "fp16", work), "fp16").seconds


def test_a_kind_takes_the_longer_of_products_and_memory() -> None:
    found = predict(T4, [Operations("a", flops=T4.product_flops("fp16"), bytes=1), Operations("b", 1, 3e11)], "fp16")
    assert found.by_kind["a"] == pytest.approx(1)
    assert found.by_kind["b"] == pytest.approx(3e11 / T4.bytes_per_second)
    assert found.seconds == pytest.approx(sum(found.by_kind.values()))
    assert found.limit == "memory"


def test_many_launches_take_longer_than_their_kernels() -> None:
    found = predict(T4, [Operations("a", flops=1, launches=1000)], "fp16")
    assert (found.seconds, found.limit) == (1000 * T4.launch_seconds, "launches")


def test_operations_of_one_kind_are_added_before_they_are_timed() -> None:
    assert by_kinds([Operations("a", 1, 2, 3), Operations("b"), Operations("a", 4, 5, 6)]) == [
        Operations("a", 5, 7, 9), Operations("b"),
    ]  # fmt: skip


def test_recomputation_and_dequantization_take_time() -> None:
    assert seconds_of("t4", "lora", again=False) < seconds_of("t4", "lora") < seconds_of("t4", "qlora")


def test_dequantization_costs_small_passes_more() -> None:
    small = dataclasses.replace(PACK, passes=8)
    extra = [seconds_of("t4", "qlora", work=work) - seconds_of("t4", "lora", work=work) for work in (PACK, small)]
    assert extra[1] > 4 * extra[0] > 0


def test_faster_cards_take_less_time() -> None:
    times = [seconds_of(card, "lora") for card in ("t4", "4090", "a100", "h200")]
    assert times == sorted(times, reverse=True)


def test_decoding_is_limited_by_launches_until_many_rows() -> None:
    config = Config(method=MethodConfig(**METHODS["lora"]))

    def limit(rows: int) -> str:
        work = decoding_operations(model_size(), config, "bf16", steps=1, tokens=rows, attended=rows * 800)
        return predict(CARDS["h200"], work, "bf16").limit

    assert (limit(24), limit(8192)) == ("launches", "memory")
