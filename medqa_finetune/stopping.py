"""Stop handling: a signal asks to stop; work that must finish a step first stops after it."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C; `kill` and most schedulers; a closing terminal; SLURM's usual warning before the time limit.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2, signal.SIGALRM)
# Our own, at a time limit.
TIME_LIMIT = signal.SIGALRM
EXIT_OFFSET = 128
# Set for a process whose standard input is a pipe held by the launcher; its value is the launcher's process id.
LAUNCHER_VARIABLE = "HYDRA_LOCAL_LAUNCHER"
# Set in every job of SLURM.
SLURM_VARIABLE = "SLURM_JOB_ID"


class Interrupted(SystemExit):
    """Stopped by a signal; ends the process with 128 + the signal's number, as in shells."""

    def __init__(self, number: int) -> None:
        super().__init__(EXIT_OFFSET + number)
        self.number = number

    def __str__(self) -> str:
        if self.number == TIME_LIMIT:
            return "stopped at the time limit"
        return f"stopped by {signal.Signals(self.number).name}"


class StopRequest:
    """Whether a signal has asked to stop, for work that finishes a step first.

    Attributes:
        number: The last signal's number; None before any.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._waiting = False
        self._received = False
        self._foreign: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._is_handled = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the first signal to the end of the block; a second one (Ctrl-C twice) ends the block at once.

        In a job of SLURM, only a second Ctrl-C does.

        Raises:
            Interrupted: a signal came during the block.
        """
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
        if self.number is not None:
            self._stop(self.number)

    def take_over(self, number: int) -> None:
        """Stop for a signal that another process received; this one's own may follow, and is the first one then."""
        self.number = self.number or number

    def ask(self) -> None:
        """Ask to stop as SIGTERM does, from another thread of this process."""
        if self._is_handled:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        else:
            self.number = self.number or signal.SIGTERM

    def _receive(self, number: int, frame: FrameType | None) -> None:
        waits = not self._received or not _hurries(number)
        self._received = True
        self.number = number
        if not (self._waiting and waits):
            self._stop(number)

    def _stop(self, number: int) -> None:
        # Runs the earlier handler: submitit's asks SLURM to requeue the job.
        if number in self._foreign:
            with contextlib.suppress(SystemExit):
                self._foreign[number](number, None)
        raise Interrupted(number)


@contextmanager
def stoppable() -> Iterator[StopRequest]:
    """Turn stop signals into an exception while the block runs, so that it can clean up; yields the request to stop.

    Ignored signals stay ignored (`nohup`). Of signals that the calling program handles, only SIGUSR2 is handled here,
    and then passed on. Outside the main thread, where Python handles no signals, nothing changes.

    Raises:
        Interrupted: a signal came.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {}
    for number in SIGNALS:
        handler = signal.getsignal(number)
        if handler in (signal.SIG_DFL, signal.default_int_handler) or _is_ours(handler):
            previous[number] = handler
        elif callable(handler) and number == signal.SIGUSR2:
            previous[number] = request._foreign[number] = handler
    try:
        for number in previous:
            signal.signal(number, request._receive)
        request._is_handled = signal.SIGTERM in previous
        yield request
    finally:
        request._is_handled = False
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def stopping_after(seconds: float | None) -> Iterator[None]:
    """Stop this process, as by a signal, `seconds` after the block began; None sets no limit.

    Outside the main thread, where Python handles no signals, nothing happens.

    Raises:
        Interrupted: the time is over.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(TIME_LIMIT, StopRequest()._receive)
    main = threading.main_thread().ident or 0
    timer = threading.Timer(max(0.0, seconds), signal.pthread_kill, (main, TIME_LIMIT))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(TIME_LIMIT, previous)


def _hurries(number: int) -> bool:
    """Return whether a further signal asks to stop at once; SLURM sends several for one stop, and kills in the end."""
    return number == signal.SIGINT or SLURM_VARIABLE not in os.environ


def _is_ours(handler: object) -> bool:
    return isinstance(getattr(handler, "__self__", None), StopRequest)


def stop_with_parent() -> None:
    """Send this process SIGTERM when its standard input, a pipe held by its parent, closes.

    The operating system closes the pipe however the parent ends, including `kill -9`.
    """

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
