"""Callbacks of trackers in transformers' `Trainer`, each behind its guard."""

from collections.abc import Callable, Sequence
from functools import partial

from transformers import TrainerCallback

from medqa_finetune.tracking.trackers import Guard, Trackers

EVENTS = [name for name in dir(TrainerCallback) if name.startswith("on_")]


class Guarded(TrainerCallback):
    """Forwards events to the callback of every tracker until that raises."""

    def __init__(self, callbacks: Sequence[tuple[Guard, TrainerCallback]]) -> None:
        self._callbacks = tuple(callbacks)

    def pass_on(self, event: str, *arguments: object, **details: object) -> None:
        """Call the callbacks' method for an event."""
        for guard, callback in self._callbacks:
            guard.attempt(partial(getattr(callback, event), *arguments, **details))


def _passing_on(event: str) -> Callable[..., None]:
    def on_event(self: Guarded, *arguments: object, **details: object) -> None:
        self.pass_on(event, *arguments, **details)

    return on_event


# Trainer calls one method per event.
for _event in EVENTS:
    setattr(Guarded, _event, _passing_on(_event))


def guarded(trackers: Trackers | None, resumed_from: int | None) -> list[TrainerCallback]:
    """Return the callback of the trackers that can be opened; an empty list where none can.

    Args:
        trackers: None for none.
        resumed_from: Step that the training resumes from; None for a new one.
    """
    found = [] if trackers is None else trackers.curves(resumed_from)
    return [Guarded(found)] if found else []
