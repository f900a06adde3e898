"""The GPUs of this machine, and how cells share them out."""

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pynvml

from medqa_finetune.errors import ConfigError, Fault

VARIABLE = "CUDA_VISIBLE_DEVICES"
# What CUDA takes for the end of the list.
NO_DEVICE = ("", "-1", "NoDevFiles")
ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a part of one: `id` is what CUDA_VISIBLE_DEVICES takes, `label` what people call it."""

    id: str
    label: str


@dataclass(frozen=True)
class Slot:
    """A place for one cell at a time, and the GPUs that it sees; None leaves that to the cell."""

    gpus: tuple[Gpu, ...] | None

    @property
    def label(self) -> str:
        """What people call its GPUs; empty without any."""
        return ",".join(gpu.label for gpu in self.gpus or ())

    def environment(self) -> dict[str, str]:
        """Return the variables that a cell in this slot is started with."""
        return {} if self.gpus is None else {VARIABLE: ",".join(gpu.id for gpu in self.gpus)}


def visible_gpus() -> list[Gpu]:
    """Return the GPUs that the user's CUDA_VISIBLE_DEVICES allows; without it, all that the driver lists."""
    allowed = os.environ.get(VARIABLE)
    if allowed is None:
        return _ask_driver()
    names = itertools.takewhile(lambda name: name not in NO_DEVICE, (name.strip() for name in allowed.split(",")))
    return [Gpu(name, _shortened(name)) for name in dict.fromkeys(names)]


def _ask_driver() -> list[Gpu]:
    """Return what the driver lists; nothing where there is none, or where it fails or does not answer in time."""
    found: list[Gpu] = []

    def ask() -> None:
        with contextlib.suppress(pynvml.NVMLError):
            found.extend(installed_gpus())

    # In a thread that is left behind if need be: a driver that is stuck never answers.
    thread = threading.Thread(target=ask, name="nvml", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return [] if thread.is_alive() else found


def installed_gpus() -> list[Gpu]:
    """Return the GPUs that NVML lists; of a GPU that is cut into parts (MIG), the parts.

    Their UUIDs are used: numbers mean one thing to the driver and, unless CUDA_DEVICE_ORDER is set, another to CUDA.

    Raises:
        pynvml.NVMLError: there is no driver, or it fails.
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
    except pynvml.NVMLError:  # a GPU, or a driver, that cannot be cut
        return
    for place in range(most):
        with contextlib.suppress(pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):
            yield place, pynvml.nvmlDeviceGetMigDeviceHandleByIndex(device, place)


def make_slots(gpus: Sequence[Gpu], gpus_per_cell: int, max_parallel: int | None) -> list[Slot]:
    """Return a slot for every cell that may run at the same time; without GPUs, one unless more are asked for.

    Raises:
        ConfigError: a cell wants more GPUs than there are.
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
