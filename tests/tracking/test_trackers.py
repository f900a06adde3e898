"""That a tracker's trouble is said once and costs the training nothing, and that withdrawn curves are withdrawn."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from medqa_finetune.training.trackers import OPENERS, Guarded, Tracked, trackers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback

from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record
from tests.training.trial import make_config, train


class Dying(TrainerCallback):
    calls = 0

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.calls += 1
        raise OSError(28, "No space left on device")


def test_a_dying_tracker_is_named_once_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    dying = Dying()
    guarded: Any = Guarded("tensorboard", dying)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            guarded.on_log(None, None, None)
            guarded.on_step_end(None, None, None)
    assert dying.calls == 1
    assert len(caplog.records) == 1
    assert "tracker tensorboard stopped (OSError: [Errno 28] No space left on device)" in caplog.text


def test_every_event_is_passed_on() -> None:
    calls: list[str] = []

    class Listening(TrainerCallback):
        def __getattribute__(self, name: str) -> Any:
            return (lambda *_, **__: calls.append(name)) if name.startswith("on_") else super().__getattribute__(name)

    guarded = Guarded("any", Listening())
    events = [name for name in dir(TrainerCallback) if name.startswith("on_")]
    for event in events:
        getattr(guarded, event)(None, None, None)
    assert calls == events


def test_a_folder_that_cannot_be_made_costs_the_curves_alone(
    micro_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("a file in its place")
    trial = train(micro_model, tmp_path, make_config(report_to="tensorboard", max_steps=2))
    assert len(trial.column("loss")) == 2
    assert caplog.text.count("tracker tensorboard stopped") == 1


def write_record(folder: Path, started: str) -> RunDir:
    run = RunDir(folder)
    run.write(Record("lora_20k", "0" * 16, "running", "lora", "20k", "micro", 0, {}, started=started))
    return run


def tracked(folder: Path, resumed_from: int | None = None) -> Tracked:
    return Tracked(RunDir(folder), "lora_20k", folder, resumed_from)


@pytest.mark.parametrize("moment", ["opening", "closing"])
def test_a_tracker_that_fails_as_a_whole_is_named(
    moment: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def failing(_: Tracked) -> Iterator[TrainerCallback]:
        if moment == "opening":
            raise RuntimeError("nobody is logged in")
        yield TrainerCallback()
        raise RuntimeError("nobody is logged in")

    monkeypatch.setitem(OPENERS, "wandb", failing)
    with trackers(["wandb"], tracked(tmp_path)) as calls:
        assert len(calls) == (moment == "closing")
    assert caplog.text.count("tracker wandb stopped (RuntimeError: nobody is logged in)") == 1


def test_a_tracker_that_fails_again_when_closed_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def failing(_: Tracked) -> Iterator[TrainerCallback]:
        yield Dying()
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(OPENERS, "tensorboard", failing)
    with trackers(["tensorboard"], tracked(tmp_path)) as calls:
        calls[0].on_log(None, None, None)  # type: ignore[arg-type]
    assert len(caplog.records) == 1


def test_what_ends_the_training_reaches_the_tracker_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    @contextmanager
    def listening(_: Tracked) -> Iterator[TrainerCallback]:
        try:
            yield TrainerCallback()
        except ValueError as error:
            seen.append(str(error))
            raise

    monkeypatch.setitem(OPENERS, "wandb", listening)
    with pytest.raises(ValueError, match="the loss became nan"), trackers(["wandb"], tracked(tmp_path)):
        raise ValueError("the loss became nan")
    assert seen == ["the loss became nan"]
    assert caplog.text == ""


def test_curves_behind_the_checkpoint_are_withdrawn(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    before = SummaryWriter(str(folder))
    for step in range(1, 8):
        before.add_scalar("loss", 1.0, step)
    before.close()
    with trackers(["tensorboard"], tracked(tmp_path, resumed_from=4)) as (tracker,):
        writer: Any = tracker._tracker.tb_writer  # type: ignore[attr-defined]
        for step in range(5, 9):
            writer.add_scalar("loss", 2.0, step)
    events = EventAccumulator(str(folder)).Reload()
    points = [(event.step, event.value) for event in events.Scalars("loss")]
    assert points == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0), (6, 2.0), (7, 2.0), (8, 2.0)]


def test_a_run_keeps_its_name_with_trackers_until_it_is_begun_anew(tmp_path: Path) -> None:
    run = write_record(tmp_path / "run", started="2026-01-01T00:00:00+00:00")
    first = Tracked(run, "lora_20k", tmp_path).id
    assert Tracked(run, "lora_20k", tmp_path, resumed_from=5).id == first
    run.update(started="2026-01-02T00:00:00+00:00")
    assert Tracked(run, "lora_20k", tmp_path).id != first
    elsewhere = write_record(tmp_path / "other", started="2026-01-01T00:00:00+00:00")
    assert Tracked(elsewhere, "lora_20k", tmp_path).id != first
