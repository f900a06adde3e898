"""The folder of a run or an evaluation, with its record and its lock, which one process at a time holds.

The operating system frees the lock when the process ends, also when it is killed.
"""

import contextlib
import dataclasses
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil
from filelock import FileLock, Timeout

from medqa_finetune.errors import DataError, Fault, RunError
from medqa_finetune.record.files import write_json
from medqa_finetune.record.schema import Evaluation, Process, Record, Status

LOCK_SECONDS = 1.0
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

    @contextlib.contextmanager
    def hold(self, owner: str, patience: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold the lock while the block runs.

        Args:
            owner: Process that holds it if this one cannot, for the message.
            patience: Seconds to wait; another process's `is_held` holds it for a moment.

        Raises:
            RunError: another process holds it, or the folder is not writable.
        """
        lock = FileLock(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=patience)
        except Timeout:
            raise self.busy(owner) from None
        except OSError as error:
            raise RunError(
                Fault(
                    "not-writable",
                    f"cannot be locked ({error.strerror})",
                    file=str(self.folder),
                    hint="Give a folder that is writable.",
                )
            ) from None
        try:
            yield
        finally:
            lock.release()

    def is_held(self, patience: float = 0.0) -> bool:
        """Return whether a process holds the lock, and still does after `patience` seconds.

        Nothing is written, not even the folder.
        A lock that cannot be opened counts as free; starting the run reports why.
        """
        if not self.path.is_file():
            return False
        try:
            with FileLock(self.path).acquire(timeout=patience):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def busy(self, owner: str) -> RunError:
        """Return the error that `owner` works in the folder."""
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

    def lock(self, patience: float = LOCK_SECONDS) -> AbstractContextManager[None]:
        """Lock the folder for this process while the block runs.

        Args:
            patience: Seconds to wait; another process's `is_locked` holds the lock for a moment.

        Raises:
            RunError: another process holds it, or the folder is not writable.
        """
        return FolderLock(self.path, self.lock_path).hold(self._owner(), patience)

    def is_locked(self) -> bool:
        """Return whether a process works in the folder; nothing is written, not even the folder."""
        return FolderLock(self.path, self.lock_path).is_held()

    def check_free(self) -> None:
        """Check that no process works in the folder; one that only writes a record there is waited for.

        Raises:
            RunError: a process does; names it.
        """
        if FolderLock(self.path, self.lock_path).is_held(WRITING_SECONDS):
            raise FolderLock(self.path, self.lock_path).busy(self._owner())

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
