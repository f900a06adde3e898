"""Learning rates of all steps: none is 0, and all others are those of transformers."""

from typing import Any

import pytest
import torch
from transformers import get_scheduler

from medqa_finetune.config.checks import SCHEDULERS
from medqa_finetune.training.schedule import schedule_of

PEAK = 2e-3


def optimizer() -> torch.optim.Optimizer:
    """Two groups, as LoRA+ has them: the second learns 16 times as fast."""
    groups: list[dict[str, Any]] = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 16 * PEAK}]
    return torch.optim.AdamW(groups, lr=PEAK)


def rates_of(schedule: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(float(schedule.get_last_lr()[0]))
        schedule.optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("steps", [1, 2, 40])
@pytest.mark.parametrize("warmup", [0, 1, 2, 40])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_step_has_a_rate(name: str, warmup: int, steps: int) -> None:
    warmup = min(warmup, steps)
    rates = rates_of(schedule_of(name, optimizer(), warmup, steps), steps)
    assert min(rates) > 0
    assert max(rates) == PEAK
    if name != "constant" and warmup:
        assert rates[:warmup] == pytest.approx([PEAK * step / warmup for step in range(1, warmup + 1)])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_rates_are_those_of_transformers_without_the_idle_step(name: str) -> None:
    whole = rates_of(get_scheduler(name, optimizer(), num_warmup_steps=5, num_training_steps=41), 41)
    assert rates_of(schedule_of(name, optimizer(), 5, 40), 40) == whole[1:]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_rates_are_those_of_transformers_without_warm_up(name: str) -> None:
    whole = rates_of(get_scheduler(name, optimizer(), num_warmup_steps=0, num_training_steps=40), 40)
    assert rates_of(schedule_of(name, optimizer(), 0, 40), 40) == whole


@pytest.mark.parametrize("name", SCHEDULERS)
def test_state_of_a_schedule_continues_it(name: str) -> None:
    whole = rates_of(schedule_of(name, optimizer(), 5, 40), 40)
    first = schedule_of(name, optimizer(), 5, 40)
    rates_of(first, 17)
    second = schedule_of(name, optimizer(), 5, 40)
    second.load_state_dict(first.state_dict())
    assert rates_of(second, 23) == whole[17:]


def test_groups_keep_their_ratio() -> None:
    schedule = schedule_of("polynomial", optimizer(), 4, 10)
    assert schedule.get_last_lr() == pytest.approx([PEAK / 4, 16 * PEAK / 4])
