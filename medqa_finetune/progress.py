"""What this process is doing: stages say it here, and whoever watches shows it.

A stage begins with its name and counts its steps; that alone shows nothing. While `shown` runs, the process is watched:
by the launcher that started it, through a file; in a notebook, by one line that changes; without a terminal, by a line
a minute. On a terminal, bars of the stages themselves show it.
"""

import contextlib
import html
import importlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from medqa_finetune.languages.translate import Kind, translated
from medqa_finetune.log import PACKAGE, in_kernel, is_terminal

log = logging.getLogger(__name__)

# Names the file that a process writes its progress to, for the launcher that started it.
PROGRESS_VARIABLE = "MEDQA_PROGRESS_FILE"
# Shortest time between two writings of that file, or two changes of a notebook's line.
CHANGE_SECONDS = 0.5
# From the beginning of a stage to its first line, and from then on between two lines.
FIRST_LINE_SECONDS, LINE_SECONDS = 10.0, 60.0

Item = TypeVar("Item")


@dataclass(frozen=True)
class Doing:
    """What a process is doing.

    Attributes:
        name: Name of the stage.
        at: Steps taken or questions answered; None where nothing is counted.
        of: Total steps or questions.
        loss: Latest training loss.
        detail: What the stage works on, for people; empty for nothing to say.
    """

    name: str
    at: float | None = None
    of: float | None = None
    loss: float | None = None
    detail: str = ""


class Counted(Protocol):
    """A stage, and how far it is; fields as in `Doing`."""

    @property
    def name(self) -> str:
        """Name of the stage."""

    @property
    def at(self) -> float | None:
        """Steps taken."""

    @property
    def of(self) -> float | None:
        """Total steps."""


class Watcher(Protocol):
    """Shows what the process is doing; called at every step, so it decides itself what to skip."""

    def see(self, doing: Doing) -> None:
        """Take notice of a stage, or of a step in it."""

    def close(self) -> None:
        """Show nothing any more."""


class StageClock:
    """Estimates the time remaining in a stage from its mean speed since it was first seen.

    rich.progress needs at least three observations, and a step may take many minutes. A stage that goes on after
    another one (training, after a validation) is the same stage, so that its speed includes both.
    """

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, float]] = {}

    def remaining(self, stage: Counted) -> float | None:
        """Return the estimated seconds to the end of a stage; None without a measured speed."""
        at, of = stage.at, stage.of
        if at is None or of is None:
            return None
        now = time.monotonic()
        begun, then = self._first.setdefault(stage.name, (at, now))
        if at < begun:
            self._first[stage.name] = (at, now)
            return None
        return (of - at) * (now - then) / (at - begun) if at > begun else None


def duration(seconds: float) -> str:
    """Format seconds as `45 s`, `12 min` or `3 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def in_a_line(doing: Doing, remaining: float | None, since: float | None = None) -> str:
    """Return stage, step, loss and the time left in one line.

    Args:
        doing: What the process is doing.
        remaining: Seconds left in the stage, if known.
        since: Seconds since the stage began, which are said where no time left is known.
    """
    parts = [" ".join(filter(None, [doing.name, doing.detail]))]
    if doing.at is not None and doing.of is not None:
        parts.append(f"{doing.at:,.0f}/{doing.of:,.0f}")
    if doing.loss is not None:
        parts.append(f"loss {doing.loss:.3f}")
    if remaining is not None:
        parts.append(f"{duration(remaining)} left")
    elif since is not None:
        parts.append(f"since {duration(since)}")
    return "  ".join(parts)


def read_progress(path: Path) -> Doing | None:
    """Return what a process wrote to its progress file; None where it has written nothing yet."""
    try:
        fields = json.loads(path.read_bytes())
        return Doing(**fields)
    except (OSError, ValueError, TypeError):
        return None


class _File:
    """The file that the launcher reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stage, self._written = "", 0.0

    def see(self, doing: Doing) -> None:
        now = time.monotonic()
        if doing.name == self._stage and now - self._written < CHANGE_SECONDS:
            return
        self._stage, self._written = doing.name, now
        # The launcher may be gone, and its folder with it.
        with contextlib.suppress(OSError, ValueError):
            fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            fresh.write_text(json.dumps(asdict(doing)), encoding="utf-8")
            fresh.replace(self._path)

    def close(self) -> None:
        pass


class _Lines:
    """A line soon after a stage began, and one a minute from then on, also while a single step takes longer."""

    def __init__(self) -> None:
        # An application that shows messages of this level gets them; otherwise they are printed.
        self._logs = logging.getLogger(PACKAGE).isEnabledFor(logging.INFO)
        self._clock = StageClock()
        self._doing: Doing | None = None
        self._began = self._said = time.monotonic()
        self._first_is_due = False
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="progress-lines", daemon=True).start()

    def see(self, doing: Doing) -> None:
        before, self._doing = self._doing, doing
        self._clock.remaining(doing)
        if before is None or (before.name, before.detail) != (doing.name, doing.detail):
            self._began = time.monotonic()
            self._first_is_due = True

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, FIRST_LINE_SECONDS / 4)):
            now, doing = time.monotonic(), self._doing
            first = self._first_is_due and now - self._began >= FIRST_LINE_SECONDS
            if doing is None or not (first or now - max(self._said, self._began) >= LINE_SECONDS):
                continue
            self._said, self._first_is_due = now, False
            self._say(in_a_line(doing, self._clock.remaining(doing), now - self._began))

    def _say(self, line: str) -> None:
        if self._logs:
            log.info("%s", line)
        else:
            with contextlib.suppress(OSError, ValueError):  # a closed standard error
                print(translated(line, Kind.LOG), file=sys.stderr, flush=True)


class _Notebook:
    """One line of a notebook's cell that changes; needs no widgets, and stays readable where nothing runs it."""

    def __init__(self) -> None:
        self._clock = StageClock()
        self._handle: Any = None
        self._stage, self._shown = "", 0.0

    def see(self, doing: Doing) -> None:
        remaining, now = self._clock.remaining(doing), time.monotonic()
        if doing.name == self._stage and now - self._shown < CHANGE_SECONDS and doing.at != doing.of:
            return
        self._stage, self._shown = doing.name, now
        self._show(in_a_line(doing, remaining), doing)

    def close(self) -> None:
        if self._handle is not None:
            self._show("done", Doing("done"))

    def _show(self, line: str, doing: Doing) -> None:
        bar = ""
        if doing.at is not None and doing.of:
            bar = f'<progress value="{doing.at:.0f}" max="{doing.of:.0f}"></progress> '
        line = translated(line, Kind.LOG)
        content = {"text/plain": line, "text/html": f"{bar}<code>{html.escape(line)}</code>"}
        if self._handle is None:
            # Nothing needs IPython; where it runs, it is there.
            display = importlib.import_module("IPython.display").display
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


@dataclass
class _State:
    doing: Doing | None = None
    watchers: Sequence[Watcher] = ()
    depth: int = 0


_state = _State()


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Show the progress of what runs in the block; blocks within it change nothing."""
    _state.depth += 1
    try:
        if _state.depth == 1:
            _state.watchers = _watchers()
        yield
    finally:
        _state.depth -= 1
        if _state.depth == 0:
            watchers, _state.watchers, _state.doing = _state.watchers, (), None
            for watcher in watchers:
                watcher.close()


def _watchers() -> list[Watcher]:
    if path := os.environ.get(PROGRESS_VARIABLE):
        return [_File(Path(path))]
    if in_kernel():
        return [_Notebook()]
    return [] if is_terminal() else [_Lines()]


def begin(stage: str, of: float | None = None, *, at: float | None = None, detail: str = "") -> None:
    """Say that a stage begins.

    Args:
        stage: Its name, one word.
        of: Number of its steps or questions, where they are counted.
        at: Those that an earlier start has done.
        detail: What it works on.
    """
    _see(Doing(stage, (at or 0) if of is not None else None, of, None, detail))


def advance(at: float, *, loss: float | None = None) -> None:
    """Say how many steps of the stage are done.

    Args:
        at: Their number.
        loss: Training loss; None keeps the latest one.
    """
    if _state.doing is not None:
        _see(replace(_state.doing, at=at, loss=_state.doing.loss if loss is None else loss))


@contextlib.contextmanager
def within(stage: str, of: float | None = None) -> Iterator[None]:
    """Say that another stage interrupts the present one for the block."""
    before = _state.doing
    begin(stage, of)
    try:
        yield
    finally:
        if before is not None:
            _see(before)


def track(items: Sequence[Item], stage: str, *, of: int, done: int = 0, unit: str = "batch") -> Iterator[Item]:
    """Yield items, batches for example, as a stage of its own, with a bar on a terminal.

    The stage's steps are those that `advance` counts; the bar's are the items.

    Args:
        items: The items.
        stage: Name of the stage.
        of: Number of its steps.
        done: Those that an earlier start has done.
        unit: What an item is.
    """
    from tqdm import tqdm

    with shown():
        begin(stage, of, at=done)
        bar: Iterable[Item] = tqdm(items, desc=stage, unit=unit, disable=not is_terminal(), leave=False)
        yield from bar


def _see(doing: Doing) -> None:
    _state.doing = doing
    for watcher in _state.watchers:
        watcher.see(doing)
