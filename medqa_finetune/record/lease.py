"""Leases: who works in a folder that several machines may share, and whether they still do.

A lease is a small file next to the folder's lock. It names its holder, and says how often that has renewed it. Wall
clocks are never compared: a holder on this machine is judged by its process, at once; one elsewhere has to change the
file within the time that the file names, by the clock of whoever watches. What a holder writes is fenced: it looks
first whether the lease is still its own (`check_held`). No file system lets that look and the write that follows be
one, so a holder that is paused exactly in between, for longer than its lease lasts, still makes that one write.

A lease may be replaced only by who has created its succession file, named after the former holder. Creating a file
is exclusive on every file system (a link; where there are none, an open that must create, read back after a pause).
A holder that ends removes its lease in the same way, as its own successor.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from medqa_finetune.errors import ConfigError, Fault, RunError
from medqa_finetune.record.host import host_identity, host_name, start_of

log = logging.getLogger(__name__)

# Seconds after which a lease that was not renewed has expired. Network file systems may show a change up to a minute
# late, to which the time between two renewals is added.
SECONDS_VARIABLE = "MEDQA_LEASE_SECONDS"
SECONDS = 90.0
RENEWALS = 6  # within these seconds
# Time after which a file that two machines wrote at once reads the same on both.
SETTLE_SECONDS = 1.0
GONE = "its lease is gone: another process has taken this run over and ended, or somebody removed it"
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclasses.dataclass(frozen=True)
class Holder:
    """The holder of a lease, as its file describes it.

    Attributes:
        owner: Random identity of this lease.
        host: Name of its machine.
        host_identity: What tells its machine from others, and from itself before a restart.
        pid: Its process; 0 if the file cannot be read as a lease.
        started: When that process started (`start_of`).
        seconds: Seconds after which the lease has expired if it is not renewed.
    """

    owner: str
    host: str
    host_identity: str
    pid: int
    started: str | None
    seconds: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "another process"

    @property
    def is_elsewhere(self) -> bool:
        """Whether it runs on another machine, or in another container."""
        return self.host_identity != host_identity()

    def content(self, renewals: int) -> bytes:
        """Return the file's content; its length does not depend on the number of renewals."""
        return json.dumps({**dataclasses.asdict(self), "renewals": f"{renewals:012d}"}).encode() + b"\n"


def this_holder() -> Holder:
    """Return a new holder for this process.

    Raises:
        ConfigError: MEDQA_LEASE_SECONDS is not a number of seconds ≥ 1.
    """
    pid = os.getpid()
    return Holder(secrets.token_hex(8), host_name(), host_identity(), pid, start_of(pid), _seconds())


def _seconds() -> float:
    text = os.environ.get(SECONDS_VARIABLE, str(SECONDS))
    with contextlib.suppress(ValueError):
        if 1 <= float(text) < math.inf:
            return float(text)
    raise ConfigError(Fault("out-of-range", "must be a number of seconds ≥ 1", key=SECONDS_VARIABLE, got=text))


# Who has a lease that is gone.
NOBODY = Holder("", "", "", 0, None, SECONDS)


class State(Enum):
    """What is known of a lease."""

    FREE = "nobody holds it"
    LIVE = "its holder works"
    UNKNOWN = "its holder is elsewhere, and has not been watched for long enough"
    EXPIRED = "its holder is elsewhere, and has not renewed it in time"
    DEAD = "its holder was a process of this machine, which has ended"

    @property
    def is_held(self) -> bool:
        """Whether nobody else may take it."""
        return self in (State.LIVE, State.UNKNOWN)


@dataclasses.dataclass(frozen=True)
class Look:
    """What one look at a lease found; `content` is the file's, and empty without one."""

    state: State
    holder: Holder | None = None
    content: bytes = b""


@dataclasses.dataclass(frozen=True)
class _Sighting:
    """When this process first saw a lease of another machine as it still is, by its monotonic clock."""

    owner: str
    content: bytes
    since: float
    is_renewed: bool


_sightings: dict[Path, _Sighting] = {}
# Leases of this process, by their files. A forked process has them too, and renews and ends none.
_held: dict[Path, "Lease"] = {}


def look_at(path: Path) -> Look:
    """Look at a lease once. Only a second look, later in this process, can tell that another machine's has expired."""
    content = _read(path)
    if content is None:
        _sightings.pop(path, None)
        return Look(State.FREE)
    holder = _parsed(content)
    state = _state_here(holder)
    return Look(_state_elsewhere(path, holder, content) if state is None else state, holder, content)


def _state_here(holder: Holder) -> State | None:
    """Judge a holder by its process; None if this machine cannot."""
    if holder.is_elsewhere:
        return None
    try:
        return State.LIVE if holder.started is not None and start_of(holder.pid) == holder.started else State.DEAD
    except PermissionError:
        return None


def _state_elsewhere(path: Path, holder: Holder, content: bytes) -> State:
    now, seen = time.monotonic(), _sightings.get(path)
    if seen is None or seen.owner != holder.owner or seen.content != content:
        is_renewed = seen is not None and seen.owner == holder.owner
        _sightings[path] = _Sighting(holder.owner, content, now, is_renewed)
        return State.LIVE if is_renewed else State.UNKNOWN
    if now - seen.since >= holder.seconds:
        return State.EXPIRED
    return State.LIVE if seen.is_renewed else State.UNKNOWN


def _now() -> float:
    """Return the seconds of a clock that goes on while the process, or the machine, sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _parsed(content: bytes) -> Holder:
    """Return the holder in a lease's file; without process if the file is torn, as after a power cut."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        fields = json.loads(content)
        holder = Holder(**{field.name: fields[field.name] for field in dataclasses.fields(Holder)})
        if isinstance(holder.owner, str) and holder.owner.isalnum() and holder.seconds > 0:
            return holder
    return Holder(hashlib.sha256(content).hexdigest()[:16], "", "", 0, None, SECONDS)


def _create(path: Path, content: bytes, owner: str) -> bool:
    """Create a whole file, and return whether it was this call that did.

    Raises:
        OSError: nothing can be written there.
    """
    whole = path.with_name(f"{path.name}-{owner}")
    try:
        whole.write_bytes(content)
        os.link(whole, path)
    except FileExistsError:
        pass  # on a network, maybe by this very call, repeated
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _create_without_links(path, content)
    finally:
        whole.unlink(missing_ok=True)
    return _read(path) == content


def _create_without_links(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    time.sleep(SETTLE_SECONDS)
    return _read(path) == content


def _succession(path: Path, owner: str) -> Path:
    return path.with_name(f"{path.name}.{owner}")


def _succeed(path: Path, former: Look, heir: Holder) -> bool:
    """Put an heir's lease in the place of one that has ended; return False if another was faster, or it has not.

    Of several heirs at once, one succeeds.
    """
    assert former.holder is not None, "a free lease has no heir"  # noqa: S101
    right, own = _succession(path, former.holder.owner), heir.content(0)
    if not _create(right, own, heir.owner):
        other = look_at(right)
        # Who had the right may have ended before making use of it.
        if other.state.is_held or other.state is State.FREE or not _succeed(right, other, heir):
            return False
    try:
        if _read(path) != former.content or _read(right) != own:
            return False
        whole = path.with_name(f"{path.name}-{heir.owner}")
        whole.write_bytes(own)
        whole.replace(path)
        # Left where the former holder was killed right after it had created its lease.
        path.with_name(f"{path.name}-{former.holder.owner}").unlink(missing_ok=True)
        if former.state is State.EXPIRED:
            time.sleep(min(SETTLE_SECONDS, former.holder.seconds / RENEWALS))
        return _read(path) == own
    finally:
        if _read(right) == own:
            right.unlink(missing_ok=True)


class Lease:
    """A lease that this process holds, renewed by a thread until it is released.

    Args:
        path: Its file.
        folder: What it is for, in messages; writing below it is fenced.
        holder: This process.

    Attributes:
        on_loss: Called by the thread if another has taken the lease; None for nothing.
        lost_to: Who has taken it; None while it is held.
    """

    def __init__(self, path: Path, folder: Path, holder: Holder) -> None:
        self.on_loss: Callable[[], None] | None = None
        self.lost_to: Holder | None = None
        self._path, self._folder, self._holder = path, folder, holder
        self._renewals = 0
        self._looked_at = _now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_ended, name="lease", daemon=True)
        _held[path] = self
        self._thread.start()

    def covers(self, path: Path) -> bool:
        """Return whether an absolute path is in the folder."""
        return path.is_relative_to(self._folder)

    def is_lost(self) -> bool:
        """Return whether another has taken the lease; looks if this process has not done so for longer than usual."""
        if self.lost_to is None and _now() - self._looked_at > 2 * self._holder.seconds / RENEWALS:
            with contextlib.suppress(OSError):
                self._look(renews=False)
        return self.lost_to is not None

    def check(self) -> None:
        """Check that this process still holds the lease, unless it has given it back.

        Raises:
            RunError: another has taken it; names it.
            OSError: its file cannot be read.
        """
        if self.lost_to is None:
            self._look(renews=False)
        if self.lost_to is not None:
            raise RunError(
                Fault(
                    "lease-lost",
                    GONE if self.lost_to is NOBODY else f"{self.lost_to} has taken this run over",
                    file=str(self._folder),
                    hint=f"A process that is paused, or cut off from the folder, for {self._holder.seconds:g} seconds "
                    "loses it, and writes nothing more.",
                )
            )

    def release(self) -> None:
        """Give the lease back, unless it is lost; does nothing in a forked process."""
        if os.getpid() != self._holder.pid:
            return
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        _held.pop(self._path, None)
        if self.lost_to is not None:
            return
        right = _succession(self._path, self._holder.owner)
        # A folder that is gone or full, or a network that fails, leaves a lease that others judge by this process.
        with contextlib.suppress(OSError):
            if _create(right, self._holder.content(0), self._holder.owner):
                if self._is_own(_read(self._path)):
                    self._path.unlink(missing_ok=True)
                right.unlink(missing_ok=True)

    def _renew_until_ended(self) -> None:
        while self.lost_to is None and not self._ended.wait(self._holder.seconds / RENEWALS):
            # A file system that does not answer now may do so next time.
            with contextlib.suppress(OSError):
                self._look(renews=True)
        if self.lost_to is not None and self.on_loss is not None:
            self.on_loss()

    def _look(self, *, renews: bool) -> None:
        """Read the lease, write into it that it is renewed, and note if another has it; nothing once it is ended."""
        if self._ended.is_set():
            return
        try:
            # The very file that was read is written to: whoever has replaced it since loses nothing.
            with self._path.open("r+b" if renews else "rb") as file:
                content = file.read()
                if renews and self._is_own(content):
                    self._renewals += 1
                    file.seek(0)
                    file.write(self._holder.content(self._renewals))
        except FileNotFoundError:
            # Whoever took it may have given it back already. Where all is gone, there is nothing left to take.
            if self._path.parent.is_dir() and not self._ended.is_set():
                self.lost_to = NOBODY
            return
        heir = _read(_succession(self._path, self._holder.owner))
        if heir is not None and not self._is_own(heir):
            self.lost_to = _parsed(heir)
        elif content and not self._is_own(content):
            self.lost_to = _parsed(content)
        self._looked_at = _now()

    def _is_own(self, content: bytes | None) -> bool:
        return content is not None and _parsed(content).owner == self._holder.owner


def take(path: Path, folder: Path) -> Lease | None:
    """Take a lease that is free, or whose holder has ended; None if it is held, or another was faster.

    Args:
        path: Its file.
        folder: What it is for.

    Raises:
        ConfigError: MEDQA_LEASE_SECONDS is not a number of seconds ≥ 1.
        OSError: it cannot be written.
    """
    holder, found = this_holder(), look_at(path)
    if found.state.is_held:
        return None
    if found.state is State.FREE:
        return Lease(path, folder, holder) if _create(path, holder.content(0), holder.owner) else None
    if not _succeed(path, found, holder):
        return None
    if found.state is State.EXPIRED and found.holder is not None:
        text = "%s is taken over from %s, which has not renewed its lease for %g seconds"
        log.warning(text, folder, found.holder, found.holder.seconds)
    return Lease(path, folder, holder)


def check_held(path: Path | None = None) -> None:
    """Check that this process has lost no lease of a folder with this path; without a lease there is nothing to lose.

    Everything that writes into run folders calls it, right before it does.

    Args:
        path: What is about to be written; None for any folder.

    Raises:
        RunError: another process has taken the folder over; names it.
    """
    for lease in tuple(_held.values()):
        if path is None or lease.covers(path.absolute()):
            lease.check()
