"""Callbacks of trackers in transformers' `Trainer`, each behind a guard."""

from collections.abc import Callable

from transformers import TrainerCallback

from medqa_finetune.tracking.trackers import Guard, Trackers

EVENTS = [name for name in dir(TrainerCallback) if name.startswith("on_")]


class Guarded(TrainerCallback):
    """Forwards events to a tracker's callback until it raises."""

    def __init__(self, guard: Guard, callback: TrainerCallback) -> None:
        self._guard = guard
        self._callback = callback

    def pass_on(self, event: str, *arguments: object, **details: object) -> None:
        """Call the callback's method for an event."""
        self._guard.attempt(lambda: getattr(self._callback, event)(*arguments, **details))


def _passing_on(event: str) -> Callable[..., None]:
    def on_event(self: Guarded, *arguments: object, **details: object) -> None:
        self.pass_on(event, *arguments, **details)

    return on_event


# Trainer calls one method per event.
for _event in EVENTS:
    setattr(Guarded, _event, _passing_on(_event))


def guarded_callbacks(trackers: Trackers | None, resumed_from: int | None) -> list[TrainerCallback]:
    """Return the callbacks of trackers for a training.

    Args:
        trackers: None for none.
        resumed_from: Step that the training resumes from; None for a new one.
    """
    found = [] if trackers is None else trackers.curves(resumed_from)
    return [Guarded(guard, callback) for guard, callback in found]
