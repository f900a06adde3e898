"""The shortest time in which a number of GPUs can do some cells, whatever the order."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Down(NamedTuple):
    """A time in which some GPUs are not there, in seconds since the start."""

    begin: float
    end: float
    gpus: int


def lower_bound(works: Sequence[float], gpus: int, downs: Iterable[Down] = ()) -> float:
    """Return a lower bound of the makespan: max(all work / GPUs, longest cell), in seconds.

    With it Graham bounds every list schedule: it takes at most (2 - 1/m) times the shortest possible one, and at most
    (4/3 - 1/(3m)) times where the longest come first (R. L. Graham, Bounds on multiprocessing timing anomalies, SIAM
    Journal on Applied Mathematics 17(2), 1969). Where GPUs are away for a time, the first term is the earliest time at
    which those that were there can have done all work.

    Args:
        works: GPU seconds of each cell, with what faults add.
        gpus: Number of GPUs, each with one cell at a time.
        downs: When some of them were away.
    """
    return max(_earliest(sum(works), gpus, downs), max(works, default=0.0))


def _earliest(work: float, gpus: int, downs: Iterable[Down]) -> float:
    changes = sorted([(down.begin, -down.gpus) for down in downs] + [(down.end, down.gpus) for down in downs])
    time, there, left = 0.0, gpus, work
    for when, change in changes:
        if left <= there * (when - time):
            break
        left -= there * (when - time)
        time, there = when, there + change
    return time + left / there
