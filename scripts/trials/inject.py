"""Runs inside a process: counts every write and step, and triggers a fault at the chosen one.

Standard library only, since a freshly started cell loads this before anything else.
"""

import json
import mmap
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "MEDQA_FAULTS"
JOURNAL_BYTES = 1 << 22
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Events of Python's audit hooks, which Python code cannot bypass.
FILE_EVENTS = {
    "os.rename": "rename", "os.remove": "remove", "os.mkdir": "mkdir", "os.rmdir": "rmdir", "os.truncate": "truncate",
    "os.chmod": "chmod",
}  # fmt: skip


@dataclass(frozen=True)
class Strike:
    """A fault and its trigger.

    Attributes:
        action: Name in `actions.ACTIONS`.
        count: Strikes before the n-th matching event, from 1; 0 is immediately.
        event: Regular expression, searched in `kind path`; empty matches every event.
        argument: Argument of the action.
        repeat: Whether it strikes again at every later match.
        cell: Arguments that identify the struck process in a matrix; empty for any.
        once: Marker file: after a strike in any process, there is no further one; empty for none.
    """

    action: str
    count: int = 1
    event: str = ""
    argument: str = ""
    repeat: bool = False
    cell: str = ""
    once: str = ""


@dataclass(frozen=True)
class Event:
    """An event in a run's process.

    Attributes:
        kind: `open` (for writing), `rename`, `remove`, `mkdir`, `rmdir`, `truncate`, `chmod`, `fsync`, `save`
            (tensors), `batch` (the examples of an optimizer step are fetched), `step` (a micro-batch is trained on),
            `update` (an optimizer step is taken), `generate` (a batch of predictions is generated).
        path: Path that was written, or the target of a renaming.
    """

    kind: str
    path: str

    @property
    def text(self) -> str:
        return f"{self.kind} {self.path}"


class _Journal:
    """Lines in a memory-mapped file, which survive the process and do not depend on its disk or limits."""

    def __init__(self, path: Path) -> None:
        with path.open("ab") as file:
            begun = file.tell()
            file.truncate(JOURNAL_BYTES)
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), JOURNAL_BYTES)
        self._memory.seek(begun)

    def add(self, kind: str, path: str) -> None:
        line = f"{kind}\t{path}\n".encode("utf-8", "replace")
        if self._memory.tell() + len(line) < JOURNAL_BYTES:
            self._memory.write(line)


class Recorder:
    """Counts events, writes them to a journal that survives the process, and triggers strikes.

    Args:
        root: Folder whose files are watched.
        journal: File of events, one per line.
        strikes: Planned strikes.
        act: Performs a strike's action.
    """

    def __init__(self, root: Path, journal: Path, strikes: list[Strike], act: Callable[[Strike], None]) -> None:
        self._root = str(root)
        self._journal = _Journal(journal)
        self._waiting = {strike: strike.count for strike in strikes}
        self._act = act
        self._busy = False
        self._pid = os.getpid()
        for strike in strikes:
            if strike.count == 0:
                self._count(strike)

    def note(self, kind: str, path: str = "") -> None:
        """Record an imminent event, after triggering its strikes."""
        if self._busy or os.getpid() != self._pid:
            return
        self._busy = True
        try:
            self._journal.add(kind, path)
            for strike in list(self._waiting):
                if re.search(strike.event, f"{kind} {path}"):
                    self._count(strike)
        finally:
            self._busy = False

    def _count(self, strike: Strike) -> None:
        self._waiting[strike] -= 1
        if self._waiting[strike] > 0:
            return
        if not strike.repeat:
            del self._waiting[strike]
        if strike.once:
            try:
                os.close(os.open(strike.once, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
        self._journal.add("strike", f"{strike.action} {strike.argument}")
        self._act(strike)

    def audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Audit hook: convert file operations below the root into events."""
        kind = FILE_EVENTS.get(name)
        if name == "open":
            mode, flags = arguments[1], arguments[2]
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & WRITING)
            kind = "open" if writes else None
        if kind is None or isinstance(arguments[0], int):
            return
        target = arguments[1] if kind == "rename" else arguments[0]
        path = os.path.abspath(os.fsdecode(target))  # noqa: PTH100 (a Path would cost more than the event)
        if path.startswith(self._root):
            self.note(kind, path)


def watch(root: Path, journal: Path, strikes: list[Strike], act: Callable[[Strike], None]) -> Recorder:
    """Start counting events of this process; cannot be undone."""
    recorder = Recorder(root, journal, strikes, act)
    sys.addaudithook(recorder.audit)
    flush = os.fsync

    def fsync(descriptor: Any) -> None:
        path = _path_of(descriptor)
        if not path or path.startswith(str(root)):
            recorder.note("fsync", path)
        flush(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    return recorder


def _path_of(descriptor: Any) -> str:
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    try:
        return os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
    except OSError:
        return ""


def to_variable(root: Path, journals: Path, strikes: list[Strike]) -> str:
    """Serialize the plan for the environment of a freshly started process."""
    return json.dumps({"root": str(root), "journals": str(journals), "strikes": [asdict(each) for each in strikes]})


def plan_from_variable(command: list[str]) -> tuple[Path, Path, list[Strike]] | None:
    """Return root, journal and strikes for the process with this command line; None without a plan.

    The journal begins with the command line, which identifies its cell.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    plan = json.loads(text)
    strikes = [Strike(**each) for each in plan["strikes"]]
    meant = [strike for strike in strikes if set(strike.cell.split()) <= set(command)]
    journal = Path(plan["journals"]) / f"{os.getpid()}.journal"
    journal.write_text(f"start\t{' '.join(command)}\n", encoding="utf-8")
    return Path(plan["root"]), journal, meant


def read_journal(path: Path) -> list[Event]:
    if not path.is_file():
        return []
    lines = path.read_bytes().rstrip(b"\0").decode("utf-8").split("\n")
    return [Event(*line.split("\t", 1)) for line in lines if "\t" in line]
