"""The faults, by number, as the reliability plan lists them."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import stops
from tests.faults.trial import Trial


@dataclass(frozen=True)
class Fault:
    """One line of the plan: what is injected, and the trial that does it."""

    injected: str
    run: Callable[[Trial], None]


FAULTS: dict[str, Fault] = {
    "F1": Fault("kill -9 at a random step or moment of training", stops.kill_at_step),
    "F2": Fault("kill -9 at a random write of a checkpoint, or in the middle of one", stops.kill_in_checkpoint),
    "F3": Fault("kill -9 while questions are answered", stops.kill_in_evaluation),
    "F4": Fault("kill -9 while the summary is written", stops.kill_in_summary),
    "F13": Fault("SIGTERM, SIGINT, SIGINT twice, SIGHUP, SIGUSR2", stops.stop_by_signal),
}
