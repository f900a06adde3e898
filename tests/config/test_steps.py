"""How often a training validates, and on how much, where that is left to the size of its data."""

import math
from typing import Any

import pytest

from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import TrainConfig
from medqa_finetune.config.steps import Validations, total_steps, validation_steps, validations_of, with_validations

HELD_OUT = 1000


def auto(**settings: Any) -> TrainConfig:
    return TrainConfig(**{"validations": AUTO, "validation_samples": AUTO, **settings})


@pytest.mark.parametrize(
    ("examples", "found"),
    [(1, (1, 1)), (20, (1, 5)), (100, (1, 25)), (300, (2, 32)), (800, (5, 40)), (1500, (5, 75)), (5000, (5, 250)),
     (20_000, (5, 1000)), (50_000, (5, 1000)), (100_000, (5, 1000))],
)  # fmt: skip
def test_validations_follow_the_size(examples: int, found: tuple[int, int]) -> None:
    assert validations_of(auto(), examples, HELD_OUT) == Validations(*found)


@pytest.mark.parametrize(
    "settings",
    [{}, {"epochs": 3.0}, {"epochs": 0.1}, {"max_steps": 10}, {"batch_size": 1}, {"batch_size": 512},
     {"validations": 9}, {"validations": 1}, {"validation_samples": 3}],
)  # fmt: skip
@pytest.mark.parametrize("examples", [4, 7, 33, 129, 300, 2500, 19_999])
@pytest.mark.parametrize("held_out", [1, 50, HELD_OUT])
def test_a_quarter_of_training_is_the_most(settings: dict[str, Any], examples: int, held_out: int) -> None:
    train = auto(**settings)
    found = validations_of(train, examples, held_out)
    steps = total_steps(examples, train)
    seen = math.ceil(min(steps * train.batch_size, examples * train.epochs))
    times = len(validation_steps(steps, with_validations(train, found)))
    assert 1 <= found.samples <= held_out
    assert times * found.samples <= max(seen / 4, times, settings.get("validation_samples", 0))


def test_runs_of_one_size_validate_on_the_same() -> None:
    found = {validations_of(auto(**each), 800, HELD_OUT).samples for each in (
        {}, {"epochs": 3.0}, {"batch_size": 4}, {"learning_rate": 1e-3})}  # fmt: skip
    assert found == {40}
    # Another number of epochs has more validations at most.
    assert validations_of(auto(epochs=3.0), 300, HELD_OUT) == Validations(5, 32)


def test_given_numbers_stay() -> None:
    assert validations_of(TrainConfig(), 300, HELD_OUT) == Validations(5, HELD_OUT)
    assert validations_of(auto(validations=3, validation_samples=7), 300, HELD_OUT) == Validations(3, 7)
    assert validations_of(auto(validation_samples=None), 300, HELD_OUT) == Validations(1, HELD_OUT)
    assert validations_of(auto(validation_samples=5000), 300, HELD_OUT) == Validations(1, HELD_OUT)
