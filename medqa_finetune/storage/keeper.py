"""Stores a run while a process works on it: at every checkpoint, every few minutes, and at the end."""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Iterator
from types import TracebackType

from medqa_finetune.config.schema import Config
from medqa_finetune.errors import HELD_ELSEWHERE, Fault, MedQAError, RunError
from medqa_finetune.storage import owner as owners
from medqa_finetune.storage.owner import Owner, acquire, busy, read_owner, write_owner
from medqa_finetune.storage.synced import SyncedRun, synced_run

log = logging.getLogger(__name__)

# Between two storings without a checkpoint, of logs, curves and predictions.
STORE_SECONDS = 120.0
# Waits before the last storing is tried again: a network that fails for a minute costs no result.
LAST_TRIES = (0.0, 5.0, 15.0, 40.0)


class Keeper:
    """Stores one run from a thread of its own while the block runs, and at the end from the caller's.

    Args:
        synced: The run and its copy.
        overwrites: Whether what is stored is moved aside.
    """

    def __init__(self, synced: SyncedRun, *, overwrites: bool) -> None:
        self._synced = synced
        self._overwrites = overwrites
        self._own: Owner | None = None
        self._state = ""
        self._lost: RunError | None = None
        self._busy = threading.Lock()
        self._wanted = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, name="storage", daemon=True)

    def __enter__(self) -> "Keeper":
        """Become the owner of the stored run.

        Raises:
            RunError: another process works on it or has changed it since it was fetched, or the storage does not
                answer.
        """
        synced = self._synced
        self._own = acquire(synced.remote, check=lambda: None)
        try:
            stored = synced.stored()
            if stored is not None and self._overwrites:
                log.info("%s: moved aside to %s", synced.remote, synced.remote.move_aside())
                write_owner(synced.remote, self._own)
                stored = None
            if stored is not None and synced.is_behind():
                problem = "was changed by another machine since this command began"
                hint = "The same command resumes from there."
                raise RunError(Fault(HELD_ELSEWHERE, problem, file=str(synced.remote), hint=hint))
            self._state = "" if stored is None else stored.state
        except BaseException:
            self._release()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Store the end of the work.

        Raises:
            RunError: it could not be stored, and no other error is on its way.
        """
        self._ends.set()
        self._wanted.set()
        self._thread.join()
        try:
            self._store_last()
        except RunError as failure:
            if kind is not None:
                log.error("%s", failure)
                return
            raise
        finally:
            self._release()

    def store_soon(self) -> None:
        """Store what there is now, in the background, such as a new checkpoint.

        Raises:
            RunError: another machine has taken the run over.
        """
        if self._lost is not None:
            raise self._lost
        self._wanted.set()

    def _work(self) -> None:
        next_store = time.monotonic() + STORE_SECONDS
        while self._lost is None:
            asked = self._wanted.wait(min(owners.BEAT_SECONDS, max(0.0, next_store - time.monotonic())))
            if self._ends.is_set():
                return
            self._wanted.clear()
            is_due = asked or time.monotonic() >= next_store
            next_store = time.monotonic() + STORE_SECONDS if is_due else next_store
            try:
                self._beat()
                if is_due:
                    self._store()
            except MedQAError as error:
                # The run goes on: the next storing has all that this one had.
                log.warning("%s", error)
            except OSError as error:
                log.warning("%s: not stored now (%s)", self._synced.run.path, error)

    def _beat(self) -> None:
        """Show that this process works.

        Raises:
            RunError: another one does instead, or the storage does not answer.
        """
        assert self._own is not None, "entered first"  # noqa: S101
        found = read_owner(self._synced.remote)
        if found is not None and found.id != self._own.id:
            self._lost = busy(self._synced.remote, found)
            raise self._lost
        self._own = dataclasses.replace(self._own, beats=self._own.beats + 1)
        write_owner(self._synced.remote, self._own)

    def _store(self) -> None:
        with self._busy:
            stored = self._synced.stored()
            if (stored.state if stored is not None else "") != self._state:
                self._lost = busy(self._synced.remote, read_owner(self._synced.remote))
                raise self._lost
            begun = time.monotonic()
            state = self._synced.store(self._state)
            if state != self._state:
                log.debug("%s: stored in %.1f s", self._synced.run.path, time.monotonic() - begun)
            self._state = state

    def _store_last(self) -> None:
        for wait in LAST_TRIES:
            if self._lost is not None:
                raise self._lost
            time.sleep(wait)
            try:
                self._store()
                log.info("%s: stored at %s", self._synced.run.path, self._synced.remote)
                return
            except RunError as error:
                failure = error
        problem = f"is finished here, and could not be stored: {failure.faults[0].problem}"
        hint = "The same command stores it."
        raise RunError(failure.faults[0].but(code="not-stored", problem=problem, hint=hint))

    def _release(self) -> None:
        if self._own is None or self._lost is not None:
            return
        with contextlib.suppress(MedQAError, OSError):
            write_owner(self._synced.remote, dataclasses.replace(self._own, has_ended=True))


@contextlib.contextmanager
def kept(config: Config) -> Iterator[Keeper | None]:
    """Store a configuration's run while the block runs; None where no storage is set.

    Raises:
        MedQAError: as `Keeper` does, or the storage is of an unknown kind.
    """
    synced = synced_run(config)
    if synced is None:
        yield None
        return
    with Keeper(synced, overwrites=config.overwrite) as keeper:
        yield keeper


def fetch(config: Config) -> bool:
    """Fetch a configuration's run if the storage has a newer state of it; return whether it did.

    Raises:
        MedQAError: the storage does not answer, or another process works on the run here.
    """
    synced = synced_run(config)
    if synced is None or config.overwrite or not synced.is_behind():
        return False
    with synced.run.lock():
        # Another process of this machine may just have fetched it.
        if not synced.is_behind():
            return False
        synced.fetch()
    return True


def store_finished(config: Config) -> None:
    """Store a finished run if that failed when it ended, or if it was made before a storage was set.

    Raises:
        MedQAError: the storage does not answer, or another process works on it.
    """
    synced = synced_run(config)
    if synced is not None and synced.is_ahead():
        with kept(dataclasses.replace(config, overwrite=False)):
            pass
