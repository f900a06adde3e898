"""Who works on a stored run: one process of one machine, which says every minute that it still does.

Clocks of two machines are never compared. Whether an owner elsewhere is alive shows in its counter, which changes
while another process watches it.
"""

import dataclasses
import logging
import os
import time
import uuid
from collections.abc import Callable

from pydantic import TypeAdapter, ValidationError

from medqa_finetune.errors import HELD_ELSEWHERE, Fault, RunError
from medqa_finetune.progress import begin
from medqa_finetune.record.host import host_identity, host_name, start_of
from medqa_finetune.storage.remote import Remote
from medqa_finetune.storage.synced import OWNER

log = logging.getLogger(__name__)

BEAT_SECONDS = 60.0
# An owner whose counter has not changed for so long is gone: two beats may fail to be written.
EXPIRY_SECONDS = 200.0
LOOK_SECONDS = 5.0
# Two that start at once both find the run free; after this time both see who has written last.
SETTLING_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who works on a run.

    Attributes:
        id: Random name of this claim.
        host: Name of the machine, for people.
        host_identity: What tells its machine from others, and from itself before a restart.
        pid: Process on it.
        started: When that process started (`start_of`).
        beats: Counter, raised while the process works.
        has_ended: Whether it works no longer.
    """

    id: str
    host: str
    host_identity: str
    pid: int
    started: str | None
    beats: int = 0
    has_ended: bool = False

    @property
    def is_elsewhere(self) -> bool:
        """Whether it runs on another machine, or in another container."""
        return self.host_identity != host_identity()

    def is_dead_here(self) -> bool:
        """Return whether it is a process of this machine that has ended."""
        try:
            return not self.is_elsewhere and start_of(self.pid) != self.started
        except PermissionError:
            return False


OWNERS = TypeAdapter(Owner)


def this_owner() -> Owner:
    """Return a new claim of this process."""
    pid = os.getpid()
    return Owner(uuid.uuid4().hex, host_name(), host_identity(), pid, start_of(pid))


def read_owner(remote: Remote) -> Owner | None:
    """Return who works on a run, or did last; None where nobody has.

    Raises:
        RunError: the storage does not answer.
    """
    content = remote.read(OWNER)
    try:
        return None if content is None else OWNERS.validate_json(content)
    except ValidationError:
        return None


def write_owner(remote: Remote, owner: Owner) -> None:
    """Write who works on a run.

    Raises:
        RunError: the storage does not answer.
    """
    remote.write(OWNER, OWNERS.dump_json(owner))


def acquire(remote: Remote, check: Callable[[], None], expiry: float | None = None) -> Owner:
    """Become the owner of a stored run; wait until one elsewhere that is silent counts as gone.

    Args:
        remote: The run's copy.
        check: Called while waiting; may raise.
        expiry: Seconds of silence after which an owner is gone; None is `EXPIRY_SECONDS`.

    Raises:
        RunError: another process works on the run, or the storage does not answer.
    """
    expiry = EXPIRY_SECONDS if expiry is None else expiry
    seen = read_owner(remote)
    if seen is not None and not seen.has_ended and not seen.is_dead_here():
        if not seen.is_elsewhere:
            raise busy(remote, seen)
        _watch(remote, seen, expiry, check)
    own = this_owner()
    write_owner(remote, own)
    if seen is not None and not seen.has_ended:
        log.warning("%s: taken over from process %d on %s, which is gone", remote, seen.pid, seen.host)
    time.sleep(min(SETTLING_SECONDS, expiry))
    last = read_owner(remote)
    if last is None or last.id != own.id:
        raise busy(remote, last)
    return own


def _watch(remote: Remote, seen: Owner, expiry: float, check: Callable[[], None]) -> None:
    """Return when an owner has been silent for `expiry` seconds of this machine's own clock, or has ended.

    Raises:
        RunError: it is alive.
    """
    begin("waiting", detail=seen.host)
    log.info(
        "%s: process %d on %s worked on it last; waiting up to %.0f s for a sign of life",
        remote, seen.pid, seen.host, expiry,
    )  # fmt: skip
    until = time.monotonic() + expiry
    while time.monotonic() < until:
        check()
        time.sleep(min(LOOK_SECONDS, expiry / 10))
        now = read_owner(remote)
        if now is None or now.has_ended:
            return
        if now != seen:
            raise busy(remote, now)


def busy(remote: Remote, owner: Owner | None) -> RunError:
    """Return the error that another process works on a stored run."""
    who = "another process" if owner is None else f"process {owner.pid} on {owner.host}"
    hint = "Wait for it, or stop it."
    return RunError(Fault(HELD_ELSEWHERE, f"{who} is working on this run", file=str(remote), hint=hint))
