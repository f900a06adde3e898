"""That a tracker's trouble is said once and costs the training nothing, and that withdrawn curves are withdrawn."""

import logging
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback

from medqa_finetune.training.trackers import Guarded, trackers
from tests.training.trial import make_config, train


class Dying(TrainerCallback):
    told = 0

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.told += 1
        raise OSError(28, "No space left on device")


def test_a_dying_tracker_is_named_once_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    dying = Dying()
    guarded: Any = Guarded("tensorboard", dying)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            guarded.on_log(None, None, None)
            guarded.on_step_end(None, None, None)
    assert dying.told == 1
    assert len(caplog.records) == 1
    assert "tracker tensorboard stopped (OSError: [Errno 28] No space left on device)" in caplog.text


def test_every_event_is_passed_on() -> None:
    told: list[str] = []

    class Listening(TrainerCallback):
        def __getattribute__(self, name: str) -> Any:
            return (lambda *_, **__: told.append(name)) if name.startswith("on_") else super().__getattribute__(name)

    guarded = Guarded("any", Listening())
    events = [name for name in dir(TrainerCallback) if name.startswith("on_")]
    for event in events:
        getattr(guarded, event)(None, None, None)
    assert told == events


def test_a_folder_that_cannot_be_made_costs_the_curves_alone(
    micro_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("a file in its place")
    trial = train(micro_model, tmp_path, make_config(report_to="tensorboard", max_steps=2))
    assert len(trial.column("loss")) == 2
    assert caplog.text.count("tracker tensorboard stopped") == 1


def test_an_unknown_tracker_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert trackers(["carrier-pigeon"], tmp_path, None) == []
    assert "carrier-pigeon" in caplog.text


def test_curves_behind_the_checkpoint_are_withdrawn(tmp_path: Path) -> None:
    before = SummaryWriter(str(tmp_path))
    for step in range(1, 8):
        before.add_scalar("loss", 1.0, step)
    before.close()
    (tracker,) = trackers(["tensorboard"], tmp_path, resumed_from=4)
    writer: Any = tracker._tracker.tb_writer  # type: ignore[attr-defined]
    for step in range(5, 9):
        writer.add_scalar("loss", 2.0, step)
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    points = [(event.step, event.value) for event in events.Scalars("loss")]
    assert points == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0), (6, 2.0), (7, 2.0), (8, 2.0)]
