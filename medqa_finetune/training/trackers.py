"""Who is told of the training curves. Their trouble never becomes the training's."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

log = logging.getLogger(__name__)

EVENTS = [name for name in dir(TrainerCallback) if name.startswith("on_")]


class Guarded(TrainerCallback):
    """Passes events on to a tracker until it raises; then says so once, and leaves it alone.

    TensorBoard's writer, for one, dies of a full disk or a folder that went away (tensorboard #5759).
    """

    def __init__(self, name: str, tracker: TrainerCallback) -> None:
        self._name = name
        self._tracker: TrainerCallback | None = tracker

    def tell(self, event: str, *arguments: Any, **details: Any) -> None:
        """Pass one event on."""
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, event)(*arguments, **details)
        except Exception as error:
            self._tracker = None
            warn(self._name, error)


def _teller(event: str) -> Any:
    def tell(self: Guarded, *arguments: Any, **details: Any) -> None:
        self.tell(event, *arguments, **details)

    return tell


# Trainer calls one method per event.
for _event in EVENTS:
    setattr(Guarded, _event, _teller(_event))


def trackers(names: Sequence[str], events: Path, resumed_from: int | None) -> list[TrainerCallback]:
    """Return the callbacks of the named trackers, those that can be made.

    Args:
        names: Names that transformers' `report_to` knows.
        events: Folder of TensorBoard's event files.
        resumed_from: Step that training goes on from; curves behind it are withdrawn. None for a new training.
    """
    made: list[TrainerCallback] = []
    for name in names:
        try:
            (kind,) = get_reporting_integration_callbacks([name])  # type: ignore[no-untyped-call]
            made.append(Guarded(name, kind(_writer(events, resumed_from)) if name == "tensorboard" else kind()))
        except Exception as error:
            warn(name, error)
    return made


def _writer(events: Path, resumed_from: int | None) -> SummaryWriter:
    purge = None if resumed_from is None else resumed_from + 1
    return SummaryWriter(str(events), purge_step=purge)


def warn(name: str, error: Exception) -> None:
    """Say once that a tracker is out; everything it would have shown stands in `metrics.jsonl` too."""
    reason = " ".join(str(error).split())[:200]
    log.warning("tracker %s stopped (%s: %s); training goes on, and metrics.jsonl has its figures",
                name, type(error).__name__, reason)  # fmt: skip
