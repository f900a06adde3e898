"""When a checkpoint is written: at validations, by steps, by the clock, and when somebody wants to stop."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medqa_finetune.training import meters
from medqa_finetune.training.checkpoints import Checkpoints
from medqa_finetune.training.trainer import MeteredTrainer
from tests.training.trial import PAIRS, make_config, train

STEPS = 6  # 48 examples in batches of 8
assert len(PAIRS) == 8 * STEPS


def published(folder: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[int]:
    steps: list[int] = []
    original = Checkpoints.publish

    def noting(self: Checkpoints, step: int, best_step: int, progress: Any) -> None:
        steps.append(step)
        original(self, step, best_step, progress)

    monkeypatch.setattr(Checkpoints, "publish", noting)
    train(folder, outputs, make_config(**settings))
    return steps


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"validations": 1}, [6]),
        ({"validations": 3}, [2, 4, 6]),
        ({"validations": 1, "checkpoint_steps": 4}, [4, 6]),
        ({"validations": 2, "checkpoint_steps": 1}, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_checkpoints_follow_validations_and_steps(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], steps: list[int]
) -> None:
    assert published(micro_model, tmp_path, monkeypatch, **settings) == steps


def test_a_checkpoint_is_written_when_minutes_have_passed(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MeteredTrainer.training_step
    minutes = iter([0, 0, 11, 0, 0, 0])
    passed = [0.0]
    real = time.monotonic

    def slow(self: MeteredTrainer, *arguments: Any, **options: Any) -> Any:
        passed[0] += 60 * next(minutes)
        return original(self, *arguments, **options)

    monkeypatch.setattr(MeteredTrainer, "training_step", slow)
    monkeypatch.setattr(time, "monotonic", lambda: real() + passed[0])
    assert published(micro_model, tmp_path, monkeypatch, validations=1, checkpoint_minutes=10.0) == [3, 6]


def test_writing_checkpoints_is_not_counted_as_training(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, waited = MeteredTrainer.publish, 0.0

    def slow(self: MeteredTrainer, step: int) -> None:
        nonlocal waited
        waited += 1000
        original(self, step)

    monkeypatch.setattr(MeteredTrainer, "publish", slow)
    monkeypatch.setattr(meters, "time", SimpleNamespace(perf_counter=lambda: time.perf_counter() + waited))
    trial = train(micro_model, tmp_path, make_config(validations=1, checkpoint_steps=3))
    assert waited == 2000
    assert trial.record.seconds < 1000
