"""Finds this machine's GPUs, assigns them to cells, and keeps them from other launches while a cell runs."""

import contextlib
import errno
import itertools
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pynvml

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.ranks import STARTED_VARIABLE

VARIABLE = "CUDA_VISIBLE_DEVICES"
# CUDA ignores every entry after one of these.
NO_DEVICE = ("", "-1", "NoDevFiles")
ANSWER_SECONDS = 10.0
# Before the name of a GPU's socket; the zero byte stands for Linux's names without files.
KEPT_PREFIX = "\0medqa_finetune/gpu/"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpu:
    """A GPU or a MIG part of one.

    Attributes:
        id: For CUDA_VISIBLE_DEVICES.
        label: For display.
        uuid: What all launches know it by; empty if the driver does not tell, in which case that is `id`.
    """

    id: str
    label: str
    uuid: str = field(default="", compare=False)


@dataclass(frozen=True)
class Slot:
    """A place for one cell at a time and the GPUs that the cell sees; None does not restrict them."""

    gpus: tuple[Gpu, ...] | None

    @property
    def label(self) -> str:
        """Display names of its GPUs; empty without any."""
        return ",".join(gpu.label for gpu in self.gpus or ())

    def environment(self) -> dict[str, str]:
        """Return the environment variables that restrict a cell to this slot's GPUs, each with a process to train."""
        if self.gpus is None:
            return {}
        several = {STARTED_VARIABLE: str(len(self.gpus))} if len(self.gpus) > 1 else {}
        return {VARIABLE: ",".join(gpu.id for gpu in self.gpus), **several}


class KeptGpus:
    """GPUs that no other launch on this machine uses until this process and the cell that got `files` have ended.

    The name of a GPU belongs to one socket at a time. The kernel frees it when the last process has closed the socket,
    also if all are killed: a cell outlives a killed launcher until it has written a checkpoint.

    Args:
        sockets: A socket per GPU.
    """

    def __init__(self, sockets: Sequence[socket.socket] = ()) -> None:
        self._sockets = sockets

    @property
    def files(self) -> list[int]:
        """Numbers of the open sockets, which the cell's process must get."""
        return [each.fileno() for each in self._sockets]

    def give_back(self) -> None:
        """Let others use them as soon as the cell's process has ended."""
        for each in self._sockets:
            each.close()


def keep_gpus(gpus: Sequence[Gpu]) -> KeptGpus | None:
    """Keep GPUs from other launches on this machine; return None if one uses any of them.

    Launches in containers with networks of their own do not know of each other. Where the system has no such names
    (macOS) or forbids them, nothing is kept.
    """
    with contextlib.ExitStack() as opened:
        sockets = []
        for gpu in gpus if sys.platform == "linux" else ():
            each = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            try:
                each.bind(KEPT_PREFIX + (gpu.uuid or gpu.id))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return None
                log.warning("GPUs are not kept from other launches on this machine: %s", error)
                return KeptGpus()
            sockets.append(each)
        opened.pop_all()
        return KeptGpus(sockets)


def visible_gpus() -> list[Gpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES allows, or all that the driver lists if it is not set."""
    allowed = os.environ.get(VARIABLE)
    if allowed is None:
        return _ask_driver(installed_gpus)
    names = itertools.takewhile(lambda name: name not in NO_DEVICE, (name.strip() for name in allowed.split(",")))
    found = [Gpu(name, _shortened(name)) for name in dict.fromkeys(names)]
    known = _ask_driver(_numbered_as_in_cuda) if found else []
    return [Gpu(gpu.id, gpu.label, _uuid_of(gpu.id, known)) for gpu in found]


def _uuid_of(name: str, known: Sequence[Gpu]) -> str:
    """Return the UUID of the GPU with a number, or with a UUID that begins so; empty if that is not known."""
    numbered = [gpu.id for gpu in known if gpu.label == name]
    begun = [gpu.id for gpu in known if gpu.id.startswith(name)]
    return next(iter(numbered or (begun if len(begun) == 1 else [])), "")


def _numbered_as_in_cuda() -> list[Gpu]:
    """Return the installed GPUs, with a label that is no number where CUDA may number them otherwise than the driver.

    Raises:
        pynvml.NVMLError: the driver is missing or fails.
    """
    gpus = installed_gpus()
    pynvml.nvmlInit()
    try:
        models = {pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(int(gpu.label.partition(":")[0])))
                  for gpu in gpus}  # fmt: skip
    finally:
        pynvml.nvmlShutdown()
    # CUDA puts the fastest first, unless it is told to number them as the driver does.
    is_same = len(models) <= 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return gpus if is_same else [Gpu(gpu.id, "") for gpu in gpus]


def _ask_driver(ask_for: Callable[[], list[Gpu]]) -> list[Gpu]:
    """Return the driver's GPUs; none if there is no driver, or it fails or does not answer in time."""
    found: list[Gpu] = []

    def ask() -> None:
        with contextlib.suppress(pynvml.NVMLError):
            found.extend(ask_for())

    # In a thread that can be abandoned, since a hung driver never answers.
    thread = threading.Thread(target=ask, name="nvml", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return [] if thread.is_alive() else found


def installed_gpus() -> list[Gpu]:
    """Return the GPUs that NVML lists; a GPU partitioned by MIG is listed by its parts.

    They are identified by UUID: driver and CUDA number GPUs differently unless CUDA_DEVICE_ORDER is set.

    Raises:
        pynvml.NVMLError: the driver is missing or fails.
    """
    pynvml.nvmlInit()
    try:
        gpus: list[Gpu] = []
        for number in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(number)
            parts = [Gpu(pynvml.nvmlDeviceGetUUID(part), f"{number}:{place}") for place, part in _mig_parts(device)]
            gpus += parts or [Gpu(pynvml.nvmlDeviceGetUUID(device), str(number))]
        return gpus
    finally:
        pynvml.nvmlShutdown()


def _mig_parts(device: object) -> Iterator[tuple[int, object]]:
    try:
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(device)
    except pynvml.NVMLError:  # GPU or driver without MIG
        return
    for place in range(most):
        with contextlib.suppress(pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):
            yield place, pynvml.nvmlDeviceGetMigDeviceHandleByIndex(device, place)


def make_slots(gpus: Sequence[Gpu], gpus_per_cell: int, max_parallel: int | None) -> list[Slot]:
    """Return one slot per cell that may run at the same time; without GPUs, `max_parallel` slots or one.

    Raises:
        ConfigError: `gpus_per_cell` exceeds the number of GPUs.
    """
    if gpus_per_cell == 0 or not gpus:
        return [Slot(() if gpus_per_cell == 0 else None)] * (max_parallel or 1)
    if gpus_per_cell > len(gpus):
        problem = f"must be at most {len(gpus)}: visible are {', '.join(gpu.label for gpu in gpus)}"
        hint = "Give 0 to run on the CPU."
        key = "hydra.launcher.gpus_per_cell"
        raise ConfigError(Fault("out-of-range", problem, key=key, got=gpus_per_cell, hint=hint))
    shares = [tuple(gpus[first : first + gpus_per_cell]) for first in range(0, len(gpus), gpus_per_cell)]
    return [Slot(share) for share in shares if len(share) == gpus_per_cell][:max_parallel]


def _shortened(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}…"
