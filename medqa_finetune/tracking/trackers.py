"""The trackers of one run, opened when they are needed. Their failures never interrupt it."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from medqa_finetune.tracking.base import Row, Tracker
from medqa_finetune.tracking.mlflow import open_mlflow
from medqa_finetune.tracking.swanlab import open_swanlab
from medqa_finetune.tracking.tensorboard import open_tensorboard
from medqa_finetune.tracking.weights_and_biases import open_wandb

if TYPE_CHECKING:
    from transformers import TrainerCallback

log = logging.getLogger(__name__)

Opener = Callable[[Row], AbstractContextManager[Tracker]]
Made = TypeVar("Made")

OPENERS: dict[str, Opener] = {
    "tensorboard": open_tensorboard,
    "wandb": open_wandb,
    "mlflow": open_mlflow,
    "swanlab": open_swanlab,
}


class Guard:
    """Calls one tracker until it raises; then logs the error once, and calls it no more.

    For example, TensorBoard's writer raises when the disk is full or its folder is deleted (tensorboard #5759).

    Attributes:
        name: Name of the tracker.
        has_stopped: Whether it has raised.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.has_stopped = False
        self._tracker: Tracker | None = None
        self._opened: AbstractContextManager[Tracker] | None = None

    def attempt(self, action: Callable[[], Made]) -> Made | None:
        """Return what the action returns; None once the tracker has raised."""
        if self.has_stopped:
            return None
        try:
            return action()
        except Exception as error:
            self._stop(error)
            return None

    def open(self, row: Row) -> Tracker:
        """Return the tracker, opened for a row if it is not open."""
        if self._tracker is None:
            self._opened = OPENERS[self.name](row)
            self._tracker = self._opened.__enter__()
        return self._tracker

    def close(self, *ending: Any) -> None:
        """Close the tracker if it is open; `ending` is what `__exit__` takes."""
        if self._opened is None or self._tracker is None:
            return
        opened, self._opened, self._tracker = self._opened, None, None
        try:
            opened.__exit__(*ending)
        except BaseException as error:
            # A context manager re-raises what ended the block; that is no error of the tracker. What has stopped it
            # mostly happens again when it is closed.
            if error is ending[1]:
                return
            if not isinstance(error, Exception):
                raise
            if not self.has_stopped:
                self._stop(error)

    def _stop(self, error: Exception) -> None:
        self.has_stopped = True
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        log.warning("tracker %s stopped (%s); the run continues, and its folder has all figures", self.name, problem)


class Trackers:
    """The trackers of one row; none is open at first, and the end of the `with` block closes them.

    Args:
        names: Keys of `OPENERS`.
        row: Returns what is known at the moment.

    Attributes:
        guards: One for every tracker.
    """

    def __init__(self, names: Sequence[str], row: Callable[[], Row]) -> None:
        self.guards = [Guard(name) for name in dict.fromkeys(names)]
        self._row = row

    def curves(self, resumed_from: int | None) -> "list[tuple[Guard, TrainerCallback]]":
        """Return the callbacks of the trackers that can be opened, for a training.

        Args:
            resumed_from: Step that it resumes from; None for a new one.
        """
        found = [(guard, guard.attempt(partial(self._curves, guard, resumed_from))) for guard in self.guards]
        return [(guard, callback) for guard, callback in found if callback is not None]

    def _curves(self, guard: Guard, resumed_from: int | None) -> "TrainerCallback":
        return guard.open(self._row()).curves(resumed_from)

    def report(self) -> None:
        """Write settings and results to all trackers."""
        for guard in self.guards:
            guard.attempt(partial(self._report, guard))

    def _report(self, guard: Guard) -> None:
        row = self._row()
        guard.open(row).report(row)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *ending: Any) -> None:
        """Close those that are open, as the block ends."""
        for guard in reversed(self.guards):
            guard.close(*ending)
