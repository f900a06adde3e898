"""That a tracker's trouble is said once and costs the run nothing, and that withdrawn curves are withdrawn."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback

from medqa_finetune.tracking.base import Row, Tracker
from medqa_finetune.tracking.trackers import OPENERS, Guard, Trackers
from medqa_finetune.training.tracker_callbacks import EVENTS, Guarded, guarded
from tests.tracking.scripted import Scripted, opened_as
from tests.training.trial import make_config, train


class Dying(TrainerCallback):
    calls = 0

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.calls += 1
        raise OSError(28, "No space left on device")


def row(folder: Path) -> Row:
    return Row("0" * 16, "lora_20k", "demo/lora_20k", "default", folder, folder)


def trackers(folder: Path, *names: str) -> Trackers:
    return Trackers(names, lambda: row(folder))


def test_a_dying_tracker_is_named_once_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    dying = Dying()
    callback: Any = Guarded([(Guard("tensorboard"), dying)])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            callback.on_log(None, None, None)
            callback.on_step_end(None, None, None)
    assert dying.calls == 1
    assert len(caplog.records) == 1
    assert "tracker tensorboard stopped (OSError: [Errno 28] No space left on device)" in caplog.text


def test_every_event_is_passed_on() -> None:
    calls: list[str] = []

    class Listening(TrainerCallback):
        def __getattribute__(self, name: str) -> Any:
            return (lambda *_, **__: calls.append(name)) if name.startswith("on_") else super().__getattribute__(name)

    callback = Guarded([(Guard("any"), Listening())])
    for event in EVENTS:
        getattr(callback, event)(None, None, None)
    assert calls == EVENTS


def test_a_folder_that_cannot_be_made_costs_the_curves_alone(
    micro_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("a file in its place")
    trial = train(micro_model, tmp_path, make_config(report_to="tensorboard", max_steps=2))
    assert len(trial.column("loss")) == 2
    assert caplog.text.count("tracker tensorboard stopped") == 1


def test_a_tracker_that_cannot_be_opened_is_named_and_told_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def failing(_: Row) -> Iterator[Tracker]:
        raise RuntimeError("nobody is logged in")
        yield

    monkeypatch.setitem(OPENERS, "wandb", failing)
    told = opened_as(monkeypatch, "mlflow")
    with trackers(tmp_path, "wandb", "mlflow") as found:
        assert len(found.curves(None)) == 1
        found.report()
    assert len(told) == 1
    assert caplog.text.count("tracker wandb stopped (RuntimeError: nobody is logged in)") == 1


@pytest.mark.parametrize("callback", [TrainerCallback(), Dying()])
def test_a_tracker_that_fails_when_closed_is_named_once(
    callback: TrainerCallback, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_as(monkeypatch, "tensorboard", callback=callback, ends_with="the disk is full")
    with trackers(tmp_path, "tensorboard") as found:
        (events,) = guarded(found, None)
        events.on_log(None, None, None)  # type: ignore[arg-type]
    assert len(caplog.records) == 1


def report_and_fail(found: Trackers) -> None:
    found.report()
    raise ValueError("the loss became nan")


def test_what_ends_the_run_reaches_the_tracker_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    @contextmanager
    def listening(_: Row) -> Iterator[Tracker]:
        try:
            yield Scripted(TrainerCallback(), [])
        except ValueError as error:
            seen.append(str(error))
            raise

    monkeypatch.setitem(OPENERS, "wandb", listening)
    with pytest.raises(ValueError, match="the loss became nan"), trackers(tmp_path, "wandb") as found:
        report_and_fail(found)
    assert seen == ["the loss became nan"]
    assert caplog.text == ""


def test_curves_behind_the_checkpoint_are_withdrawn(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    before = SummaryWriter(str(folder))
    for step in range(1, 8):
        before.add_scalar("loss", 1.0, step)
    before.close()
    with trackers(tmp_path, "tensorboard") as found:
        ((_, callback),) = found.curves(4)
        writer: Any = callback.tb_writer  # type: ignore[attr-defined]
        for step in range(5, 9):
            writer.add_scalar("loss", 2.0, step)
    events = EventAccumulator(str(folder)).Reload()
    points = [(event.step, event.value) for event in events.Scalars("loss")]
    assert points == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0), (6, 2.0), (7, 2.0), (8, 2.0)]
