"""The folder of a run or an evaluation, with its record and its lock, which one process at a time holds.

The lock is the operating system's, which frees it when the process ends, also when it is killed; and a lease (`lease`)
for folders that several machines share, where such locks may not reach other machines, or outlast one that is gone.
"""

import contextlib
import dataclasses
import logging
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil
from filelock import FileLock, Timeout

from medqa_finetune.compat.failures import is_disk_full
from medqa_finetune.errors import DataError, Fault, RunError
from medqa_finetune.record.files import write_json
from medqa_finetune.record.lease import Lease, Look, State, look_at, take
from medqa_finetune.record.schema import Evaluation, Process, Record, Status

log = logging.getLogger(__name__)

LOCK_SECONDS = 1.0
TRY_SECONDS = 0.05
WATCH_SECONDS = 0.5
# Time in which a process that only writes a record has written it; one that works in the folder takes far longer.
WRITING_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class FolderLock:
    """The lock of a folder.

    Attributes:
        folder: The locked folder, for messages.
        path: Lock file. It is next to the folder, so that the folder can be moved while it is locked.
    """

    folder: Path
    path: Path

    @property
    def lease_path(self) -> Path:
        """File of the lease, next to the lock."""
        return self.path.with_suffix(".lease")

    @contextlib.contextmanager
    def hold(self, owner: str, patience: float = LOCK_SECONDS, *, watches: bool = False) -> Iterator[Lease]:
        """Hold lock and lease while the block runs.

        Args:
            owner: Process that holds the lock if this one cannot, for the message; a lease names its holder itself.
            patience: Seconds to wait; another process's `is_held` holds the lock for a moment.
            watches: Whether to wait longer where the lease is of another machine: until it is renewed, or has expired.

        Raises:
            RunError: another process holds it, or the folder is not writable.
            ConfigError: MEDQA_LEASE_SECONDS is not a number of seconds ≥ 1.
        """
        lock = FileLock(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lease = self._take(lock, owner, patience, watches=watches)
        except OSError as error:
            lock.release()
            raise RunError(self._fault_of(error)) from None
        except BaseException:
            lock.release()
            raise
        try:
            yield lease
        finally:
            lease.release()
            lock.release()

    def _fault_of(self, error: OSError) -> Fault:
        if is_disk_full(error):
            hint = "What was finished is intact: free some space, and the same command resumes it."
            return Fault("disk-full", f"the disk is full ({error})", file=str(self.folder), hint=hint)
        hint = "Give a folder that is writable."
        return Fault("not-writable", f"cannot be locked ({error.strerror})", file=str(self.folder), hint=hint)

    def _take(self, lock: FileLock, owner: str, patience: float, *, watches: bool) -> Lease:
        """Take the lock, then the lease."""
        until, is_said = time.monotonic() + patience, False
        while True:
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0) if not lock.is_locked else None
            found = look_at(self.lease_path)
            # The operating system may hold the lock of a machine that is gone for ever: its lease decides.
            if (lock.is_locked or found.state is State.EXPIRED) and (lease := take(self.lease_path, self.folder)):
                if not lock.is_locked:
                    self.path.unlink(missing_ok=True)
                    with contextlib.suppress(Timeout):
                        lock.acquire(timeout=0)
                return lease
            if watches and found.state is State.UNKNOWN:
                is_said = self._watch_on(found, is_said=is_said)
            elif time.monotonic() >= until:
                raise self.busy(owner)
            else:
                time.sleep(TRY_SECONDS)

    def watch(self) -> None:
        """Wait until the lease of another machine is renewed, given back or expired; returns at once for others."""
        is_said = False
        while (found := look_at(self.lease_path)).state is State.UNKNOWN:
            is_said = self._watch_on(found, is_said=is_said)

    def _watch_on(self, found: Look, *, is_said: bool) -> bool:
        assert found.holder is not None, "a free lease is not watched"  # noqa: S101
        if not is_said:
            text = "%s is held by %s; waiting up to %g seconds for a sign of life"
            log.warning(text, self.folder, found.holder, found.holder.seconds)
        time.sleep(min(WATCH_SECONDS, found.holder.seconds / 20))
        return True

    def is_held(self, patience: float = 0.0) -> bool:
        """Return whether a process holds the lock, and still does after `patience` seconds.

        Nothing is written, not even the folder. A lease of another machine counts as held until this process has seen
        it expire. A lock that cannot be opened counts as free; starting the run reports why.
        """
        until = time.monotonic() + patience
        while self._is_held_now():
            if time.monotonic() >= until:
                return True
            time.sleep(TRY_SECONDS)
        return False

    def _is_held_now(self) -> bool:
        try:
            found = look_at(self.lease_path)
            if found.state.is_held or found.state is State.EXPIRED:
                return found.state.is_held
            if not self.path.is_file():
                return False
            with FileLock(self.path).acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def has_expired(self) -> bool:
        """Return whether another machine holds the lease, and has been seen not to renew it."""
        with contextlib.suppress(OSError):
            return look_at(self.lease_path).state is State.EXPIRED
        return False

    def holder_elsewhere(self) -> str:
        """Return the process on another machine that holds the lease, in words; empty if there is none."""
        with contextlib.suppress(OSError):
            found = look_at(self.lease_path)
            if found.state.is_held and found.holder is not None and found.holder.is_elsewhere:
                return str(found.holder)
        return ""

    def busy(self, owner: str) -> RunError:
        """Return the error that the lease's holder works in the folder; without a lease, that `owner` does."""
        with contextlib.suppress(OSError):
            found = look_at(self.lease_path)
            owner = str(found.holder) if found.state.is_held else owner
        return RunError(
            Fault("busy", f"{owner} is working on this run", file=str(self.folder), hint="Wait for it, or stop it.")
        )


R = TypeVar("R", Record, Evaluation)


@dataclasses.dataclass(frozen=True)
class RecordDir(ABC, Generic[R]):
    """A folder of a run or an evaluation, with its record and its lock.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    @abstractmethod
    def record_path(self) -> Path:
        """JSON file of the record."""

    @property
    def lock_path(self) -> Path:
        """Lock file, next to the folder, so that the folder can be moved while it is locked."""
        # Absolute, since `.` has no name.
        path = self.path.absolute()
        return path.parent / f".{path.name}.lock"

    def lock(self, patience: float = LOCK_SECONDS, *, watches: bool = False) -> AbstractContextManager[Lease]:
        """Lock the folder for this process while the block runs.

        Args:
            patience: Seconds to wait; another process's `is_locked` holds the lock for a moment.
            watches: Whether to wait longer where the lease is of another machine: until it is renewed, or has expired.

        Raises:
            RunError: another process holds it, or the folder is not writable.
            ConfigError: MEDQA_LEASE_SECONDS is not a number of seconds ≥ 1.
        """
        return self._lock.hold(self._owner(), patience, watches=watches)

    @property
    def _lock(self) -> FolderLock:
        return FolderLock(self.path, self.lock_path)

    def is_locked(self) -> bool:
        """Return whether a process works in the folder; nothing is written, not even the folder."""
        return self._lock.is_held()

    def holder_elsewhere(self) -> str:
        """Return the process on another machine that holds the folder's lease, in words; empty if there is none."""
        return self._lock.holder_elsewhere()

    def drop_expired_lease(self) -> None:
        """Remove the lease of another machine that this process has seen expire, so that others need not watch it."""
        if self._lock.has_expired():
            with contextlib.suppress(RunError), self.lock():
                pass

    def check_free(self) -> None:
        """Check that no process works in the folder; one that only writes a record there is waited for.

        A lease of another machine is watched until it is renewed, or has expired.

        Raises:
            RunError: a process does; names it.
        """
        self._lock.watch()
        if self._lock.is_held(WRITING_SECONDS):
            raise self._lock.busy(self._owner())

    def _owner(self) -> str:
        with contextlib.suppress(DataError):
            record = self.read()
            if record is not None and record.process is not None and _may_work(record.process, record.status):
                return f"process {record.process.pid} on {record.process.host}"
        return "another process"

    @abstractmethod
    def read(self) -> R | None:
        """Return the record, or None where there is none.

        Raises:
            DataError: the file is torn, of another schema, or has a value of the wrong type; names the place.
        """

    def write(self, record: R) -> R:
        """Write the record atomically, and return it."""
        write_json(self.record_path, dataclasses.asdict(record))
        return record

    def update(self, **changes: Any) -> R:
        """Change fields of the existing record, write it, and return it.

        Raises:
            RunError: the record no longer exists.
        """
        record = self.read()
        if record is None:
            problem = "no longer exists: the folder was changed while the run was going on"
            raise RunError(Fault("record-gone", problem, file=os.fspath(self.record_path)))
        return self.write(record.updated(**changes))


def _may_work(process: Process, status: Status) -> bool:
    """Return whether the last known process of a folder may be the one that holds its lock.

    After it, others lock the folder without a word in its record, such as one that writes another evaluation's scores.
    """
    if process.host == socket.gethostname():
        return psutil.pid_exists(process.pid)
    return status not in ("done", "failed", "interrupted")
