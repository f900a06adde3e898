"""A time limit for a block of code, including code that never checks a clock."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class TimedOutError(Exception):
    """The time limit of a block has passed."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Interrupt the block after this many seconds, once Python regains control; no limit outside the main thread.

    Raises:
        TimedOutError: the time limit has passed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _ring(number: int, frame: FrameType | None) -> NoReturn:
    raise TimedOutError
