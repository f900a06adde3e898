"""The processes that train one model together: how they meet, what they tell each other, and how a loss is noticed.

What a step computes is exchanged by torch's usual means (NCCL between GPUs, gloo without); everything that the
processes agree on goes through a second group of gloo, which waits without computing and fails at once where a process
of the group is gone.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed as dist

from medqa_finetune.compat.failures import is_out_of_memory, words_of
from medqa_finetune.compat.trainer import forget_processes
from medqa_finetune.errors import ConfigError, Fault, MedQAError
from medqa_finetune.ranks import (
    LOCAL_RANK,
    RANK,
    SIZE,
    STARTED_VARIABLE,
    VARIABLES,
    Place,
    RankLostError,
    this_place,
    training_processes,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

# torch documents its stores, and does not export them for type checkers.
STORES: Any = dist

# While rank 0 loads, writes or hashes, the others wait however long that takes.
PATIENCE = timedelta(days=30)
# Within a step no process waits long for another: one that does not come is stuck.
STUCK = timedelta(minutes=30)
# Time in which the main thread notices by itself that a process is gone; on a GPU it may never.
NOTICE_SECONDS = 10.0
LOOK_SECONDS = 1.0
# Time in which a failing process leaves its reason, and the system its end.
REASON_SECONDS = 3.0
# Time that a process may take to end once the training is over.
END_SECONDS = 30.0
# A process that this one starts.
FOLLOWING = [sys.executable, "-m", "medqa_finetune.follow"]
# What torch's own starter sets besides the variables of ranks.
STARTER_PREFIX = "TORCHELASTIC_"


@dataclass(frozen=True)
class Peer:
    """A process of the group: its id, and the name of its device."""

    pid: int
    device: str


class Group:
    """The processes that train one model together.

    A group of one, which `Group()` is, exchanges nothing: every method returns what it is given.

    Attributes:
        rank: Number of this process; rank 0 alone writes.
        peers: All processes, by rank; empty for one alone.
    """

    def __init__(self, place: Place | None = None, store: Any = None) -> None:
        self.rank = 0 if place is None else place.rank
        self.peers: tuple[Peer, ...] = ()
        self._store = store
        self._control: Any = None
        self._children: list[subprocess.Popen[bytes]] = []
        self._left = threading.Event()
        self._on_loss: Callable[[RankLostError], None] = lambda lost: None

    @property
    def size(self) -> int:
        """Number of processes, ≥ 1."""
        return max(1, len(self.peers))

    @property
    def is_first(self) -> bool:
        """Whether this process is rank 0."""
        return self.rank == 0

    @property
    def devices(self) -> list[str]:
        """Names of the devices, by rank; empty for one process alone."""
        return [peer.device for peer in self.peers]

    def others(self) -> list[psutil.Process]:
        """Return the other processes that are still there."""
        found = []
        for number, peer in enumerate(self.peers):
            with contextlib.suppress(psutil.NoSuchProcess):
                if number != self.rank:
                    found.append(psutil.Process(peer.pid))
        return found

    # ------------------------------------------------------------------ what the processes exchange

    def share(self, value: T) -> T:
        """Return rank 0's value in every process; waits for rank 0."""
        if self.size == 1:
            return value
        box = [value]
        with self.noticing_losses():
            dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def largest(self, *numbers: int) -> list[int]:
        """Return the largest of every number over all processes; waits for all of them."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.int64)
        with self.noticing_losses():
            dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self._control)
        return [int(value) for value in values.tolist()]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean of tensors on the devices over all processes."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    # ------------------------------------------------------------------ the end of one of them

    def report(self, error: BaseException) -> None:
        """Leave the reason for which this process fails to rank 0, unless that is the end of another one."""
        if isinstance(error, RankLostError):
            return
        faults = list(error.faults) if isinstance(error, MedQAError) else []
        text = f"{type(error).__name__}: {words_of(error)}"
        reason = {
            "problem": faults[0].line() if faults else text,
            "final": bool(faults) or is_out_of_memory(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
        if self._store is not None:
            # The store's process may be gone as well.
            with contextlib.suppress(RuntimeError):
                self._store.set(_reason_key(self.rank), json.dumps(reason))

    @contextlib.contextmanager
    def noticing_losses(self) -> Iterator[None]:
        """Raise the reason for which another process ended in place of the error that its end causes here.

        Raises:
            RankLostError: another process has ended.
        """
        try:
            yield
        except RankLostError:
            raise
        except RuntimeError as error:
            others_matter = self.size > 1 and not is_out_of_memory(error)
            until = time.monotonic() + (REASON_SECONDS if others_matter else 0)
            while time.monotonic() < until:
                lost = self.lost()
                if lost is not None:
                    log.debug("%s", lost.traceback)
                    self._note(lost)
                    raise lost from error
                time.sleep(0.1)
            raise

    def lost(self) -> RankLostError | None:
        """Return the error for a process that failed or is gone; None while all are there."""
        for number, peer in enumerate(self.peers):
            if number == self.rank:
                continue
            name = f"process {number + 1} of {self.size}"
            reason = self._reason(number)
            if reason is not None:
                problem = f"{name} failed: {reason['problem']}"
                fault = Fault("process-failed", problem)
                return RankLostError(fault, is_final=reason["final"], traceback=reason["traceback"])
            if not _is_alive(peer.pid):
                problem = f"{name} (pid {peer.pid}) ended without a reason, often killed by the system, out of memory"
                hint = "The same command resumes from the last checkpoint."
                return RankLostError(Fault("process-lost", problem, hint=hint))
        return None

    def _reason(self, number: int) -> dict[str, Any] | None:
        with contextlib.suppress(RuntimeError):
            if self._store is not None and self._store.check([_reason_key(number)]):
                found: dict[str, Any] = json.loads(self._store.get(_reason_key(number)))
                return found
        return None

    def watch(self, on_loss: Callable[[RankLostError], None]) -> None:
        """End this process where another one is gone and the main thread does not notice: a GPU may wait forever.

        Args:
            on_loss: Called once when a process is gone, maybe in another thread.
        """

        self._on_loss = on_loss

        def look() -> None:
            since: float | None = None
            while not self._left.wait(LOOK_SECONDS):
                lost = self.lost()
                since = None if lost is None else since or time.monotonic()
                if lost is not None and since is not None and time.monotonic() - since > NOTICE_SECONDS:
                    self._note(lost)
                    _end_at_once()

        if self.size > 1:
            threading.Thread(target=look, name="rank-watch", daemon=True).start()

    def _note(self, lost: RankLostError) -> None:
        """Have it recorded at once: what ends the other processes may end this one too."""
        if not self._left.is_set():
            self._left.set()
            self._on_loss(lost)

    # ------------------------------------------------------------------ the beginning and the end of all

    def meet(self, place: Place) -> None:
        """Wait for all processes and exchange who they are."""
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(place.rank)
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=STORES.PrefixStore("medqa", self._store),
            rank=place.rank,
            world_size=place.size,
            timeout=STUCK,
        )
        self._control = dist.new_group(backend="gloo", timeout=PATIENCE)
        device = torch.cuda.get_device_name() if cuda else "CPU"
        found: list[Any] = [None] * place.size
        dist.all_gather_object(found, Peer(os.getpid(), device), group=self._control)
        self.peers = tuple(found)

    def leave(self) -> None:
        """Part: from here on, this process is one alone. All processes call it, and wait for rank 0."""
        if self.size == 1:
            return
        if self.is_first:
            self._left.set()  # the others end as soon as they hear of it
        self.share(None)
        self._left.set()
        dist.destroy_process_group()
        forget_processes()
        for name in [*VARIABLES, STARTED_VARIABLE, *(name for name in os.environ if name.startswith(STARTER_PREFIX))]:
            os.environ.pop(name, None)
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(END_SECONDS)
            child.kill()
        # One process alone has the threads of all.
        torch.set_num_threads(torch.get_num_threads() * self.size)
        self.peers, self.rank = (), 0


def _reason_key(rank: int) -> str:
    return f"reason-{rank}"


def _end_at_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def check_devices(size: int) -> None:
    """Check that each process has a GPU of its own, where there are GPUs.

    Raises:
        ConfigError: it has not.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < count < size:
        problem = f"each process needs a GPU of its own, and {count} are visible"
        hint = "Give torchrun a smaller --nproc_per_node, or show more with CUDA_VISIBLE_DEVICES."
        raise ConfigError(Fault("out-of-range", problem, key=SIZE, got=size, hint=hint))


def join() -> Group:
    """Meet the other processes, as the variables of this one say, and return their group; one alone meets none.

    Raises:
        ConfigError: there are fewer GPUs than processes.
    """
    place = this_place()
    if place.size == 1:
        return Group()
    check_devices(place.size)
    # torchrun's own process keeps the store where it says so.
    keeps = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = STORES.TCPStore(address, port, is_master=keeps, wait_for_workers=False, timeout=PATIENCE)
    group = Group(place, store)
    group.meet(place)
    return group


def start(on_loss: Callable[[RankLostError], None]) -> Group:
    """Return the group of this cell's processes, in rank 0: meet those of torchrun, or start those asked for.

    Args:
        on_loss: Called once where another process is gone, maybe in another thread.

    Raises:
        ConfigError: there are fewer GPUs than processes.
    """
    group = join() if training_processes() == this_place().size else _started(training_processes())
    if group.size > 1:
        log.info("%d processes train together: %s", group.size, ", ".join(group.devices))
    group.watch(on_loss)
    return group


def dismiss() -> None:
    """Let the processes that torchrun has started end, where there was nothing to train."""
    group = join()
    group.share(None)
    group.leave()


def _started(size: int) -> Group:
    check_devices(size)
    # A free port, known before anybody else can take it.
    store = STORES.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
    group = Group(Place(0, size), store)
    values = ("0", str(size), "0", str(size), "127.0.0.1", str(store.port))
    variables = dict(zip(VARIABLES, values, strict=True))
    for rank in range(1, size):
        own = {**os.environ, **variables, RANK: str(rank), LOCAL_RANK: str(rank)}
        # They end when the pipe closes, however this process ends.
        group._children.append(subprocess.Popen(FOLLOWING, env=own, stdin=subprocess.PIPE))
    os.environ.update(variables)
    group.meet(Place(0, size))
    return group
