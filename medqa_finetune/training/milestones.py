"""When something is due during training: metering, validation, a checkpoint, a stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from medqa_finetune.config.schema import TrainConfig
from medqa_finetune.stopping import StopRequest
from medqa_finetune.training.meters import Meter


@dataclass(frozen=True)
class Plan:
    """What is due when.

    Attributes:
        validate_after: Steps after which is validated; a checkpoint follows each validation.
        train: Says how many steps warm up the meter, and how often a checkpoint is written.
        stop: Whether somebody wants the training to stop; it does at the end of a step, with a checkpoint.
    """

    validate_after: frozenset[int]
    train: TrainConfig
    stop: StopRequest


class Milestones(TrainerCallback):
    """Starts the meter with the training loop and its throughput after the warm-up steps, and says what is due.

    Args:
        plan: What is due when.
        meter: The training's.
        publish: Called when Trainer has written a checkpoint, with its step.
    """

    def __init__(self, plan: Plan, meter: Meter, publish: Callable[[int], None]) -> None:
        self._plan = plan
        self._meter = meter
        self._publish = publish
        self._warm_at = 0
        self._saved_at = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the stopwatch."""
        self._saved_at = time.monotonic()
        self._warm_at = state.global_step + self._plan.train.warmup_steps_unmetered
        self._meter.resume()
        if self._warm_at == state.global_step:
            self._meter.mark_warm()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the warm-up, and ask for what is due."""
        if state.global_step == self._warm_at:
            self._meter.mark_warm()
        if state.global_step in self._plan.validate_after:
            control.should_evaluate = control.should_save = True
        if state.global_step >= state.max_steps:
            control.should_log = True
        if self._is_checkpoint_due(state.global_step):
            control.should_save = True
        if self._plan.stop.number is not None:
            control.should_save = control.should_training_stop = True
        if control.should_save:
            self._meter.pause()

    def _is_checkpoint_due(self, step: int) -> bool:
        every = self._plan.train.checkpoint_steps
        if every is not None and step % every == 0:
            return True
        return time.monotonic() - self._saved_at >= 60 * self._plan.train.checkpoint_minutes

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make what Trainer has written a checkpoint; the stopwatch stands still meanwhile."""
        self._publish(state.global_step)
        self._saved_at = time.monotonic()
        self._meter.resume()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the stopwatch."""
        self._meter.pause()
