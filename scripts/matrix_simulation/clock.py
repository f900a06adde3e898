"""A clock that a simulation moves, and what happens at which time."""

import heapq
import itertools
from collections.abc import Callable


class SimulatedClock:
    """A clock whose time passes when it is moved; events happen at their times."""

    def __init__(self) -> None:
        # Not 0, which stands for no time at all.
        self._now = 1.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self._now

    def sleep(self, seconds: float, /) -> None:
        """Let some seconds pass."""
        self.move_to(self._now + seconds)

    def at(self, when: float, happen: Callable[[], None]) -> None:
        """Let `happen` be called at a time; events of one time happen in the order in which they were given."""
        heapq.heappush(self._events, (max(when, self._now), next(self._numbers), happen))

    def next_event(self) -> float | None:
        """Return the time of the next event; None where there is none."""
        return self._events[0][0] if self._events else None

    def move_to(self, when: float) -> None:
        """Let the time be `when`, after everything that happens until then."""
        while self._events and self._events[0][0] <= when:
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        self._now = max(self._now, when)
