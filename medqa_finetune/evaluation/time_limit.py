"""A limit on the time that a block of code may take, also for code that never looks at a clock."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class TimedOutError(Exception):
    """The time for a block was over."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """End the block after this many seconds, as soon as Python has its turn; no limit outside the main thread.

    Raises:
        TimedOutError: time was over.
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
