"""A lock that says who works in a folder; the operating system frees it when the process ends, however it ends."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from medqa_finetune.errors import Fault, RunError

LOCK_SECONDS = 1.0


@dataclass(frozen=True)
class FolderLock:
    """The lock of a folder.

    Attributes:
        folder: What is locked, for messages.
        path: The lock's own file. It lies next to the folder, so that the folder can be moved while it is held.
    """

    folder: Path
    path: Path

    @contextlib.contextmanager
    def hold(self, owner: str, patience: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold the lock while the block runs.

        Args:
            owner: Who holds it where this process does not get it, for the message.
            patience: Seconds to wait; `is_held` of another process holds it for a moment.

        Raises:
            RunError: another process holds it, or the place is not writable.
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
                    "not-writable", f"cannot be locked ({error.strerror})", file=str(self.folder),
                    hint="Give a folder that is writable.",
                )
            ) from None  # fmt: skip
        try:
            yield
        finally:
            lock.release()

    def is_held(self) -> bool:
        """Return whether a process holds it now; nothing is written, not even the folder.

        A lock that cannot be opened is nobody's: whoever starts the run is told what is wrong with it.
        """
        if not self.path.is_file():
            return False
        try:
            with FileLock(self.path).acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def busy(self, owner: str) -> RunError:
        """Return the error for a folder in which another process works."""
        return RunError(
            Fault("busy", f"{owner} is working on this run", file=str(self.folder), hint="Wait for it, or stop it.")
        )
