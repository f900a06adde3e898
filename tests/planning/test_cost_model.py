"""What cells are said to take, by hand."""

import dataclasses

import pytest

from medqa_finetune.model.estimate import Machine
from medqa_finetune.planning.cost_model import (
    EFFICIENCY,
    OUTSIDE_SECONDS,
    PAIRS_ENCODED_PER_SECOND,
    SECONDS_PER_LAYER,
    START_SECONDS,
    CellWorkload,
    TrialCosts,
    Workload,
    forecast_from_trial,
    forecast_from_workload,
)

FACTS = CellWorkload(
    steps=100, train_pairs=1000, train_tokens=200_000, train_flops=8e12, validation_tokens=5000, validation_flops=2e12,
    forward_share=0.5, questions=100, prompt_tokens=4000, answer_tokens=6000, prompt_flops=1e12, decode_steps=300,
    decode_bytes=10**9, decode_flops=1e11, layers=4, memory_bytes=7 * 10**9,
    training_bytes=6 * 10**9, set_bytes=800_000, disk_bytes=5 * 10**8,
)  # fmt: skip
MEASURED = TrialCosts(
    fixed_seconds=9.0, encoding_seconds=0.001, train_seconds=0.002, prompt_seconds=0.001, answer_seconds=0.01,
    reference_seconds=0.02, answer_tokens=30.0, memory_bytes=6 * 10**9,
    training_bytes=5 * 10**9,
)  # fmt: skip


def workload(copy_rate: float) -> Workload:
    return Workload(Machine("cpu", "CPU", 2**34), {"auto": 1e11}, copy_rate, [FACTS], [])


def test_the_estimate_takes_arithmetic_by_rate_it_can_reach() -> None:
    found = forecast_from_workload(FACTS, workload(1e10), "auto")
    assert found.start == START_SECONDS["cpu"] + 1000 / PAIRS_ENCODED_PER_SECOND
    assert found.train == pytest.approx(80 / EFFICIENCY)
    assert found.validate == pytest.approx(20 / EFFICIENCY)
    # 300 times a gigabyte at ten a second, which takes longer than the arithmetic.
    assert found.answer == pytest.approx(10 / EFFICIENCY + 300 * 0.1)
    assert found.seconds == pytest.approx(found.start + found.train + found.validate + found.answer)
    assert (found.memory_bytes, found.disk_bytes) == (7 * 10**9, 5 * 10**8)


def test_generation_is_bounded_by_calls_or_arithmetic() -> None:
    reading = 10 / EFFICIENCY
    assert forecast_from_workload(FACTS, workload(1e15), "auto").answer == pytest.approx(
        max(300 * 4 * SECONDS_PER_LAYER, 1 / EFFICIENCY) + reading
    )
    large = dataclasses.replace(FACTS, decode_flops=1e14)
    assert forecast_from_workload(large, workload(1e15), "auto").answer == pytest.approx(1000 / EFFICIENCY + reading)


def test_a_rehearsal_is_extrapolated_to_all_pairs() -> None:
    found = forecast_from_trial(FACTS, MEASURED)
    assert found.start == pytest.approx(OUTSIDE_SECONDS + 9.0 + 1.0)
    assert found.train == pytest.approx(400.0)
    assert found.validate == pytest.approx(5000 * 0.002 * 0.5)
    assert found.answer == pytest.approx(4.0 + 60.0 + 2.0)
    assert (found.memory_bytes, found.training_bytes) == (6 * 10**9 + 800_000, 5 * 10**9 + 800_000)


def test_untuned_base_answers_as_long_as_in_the_trial() -> None:
    base = dataclasses.replace(FACTS, train_tokens=0, train_pairs=0, validation_tokens=0)
    found = forecast_from_trial(base, dataclasses.replace(MEASURED, train_seconds=0.0, prompt_seconds=0.0))
    assert (found.train, found.validate, found.training_bytes) == (0, 0, 0)
    assert found.answer == pytest.approx(30 * 100 * 0.01 + 2.0)
