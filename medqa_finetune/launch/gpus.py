"""Finds this machine's GPUs and assigns them to cells."""

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pynvml

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.ranks import STARTED_VARIABLE

VARIABLE = "CUDA_VISIBLE_DEVICES"
# CUDA ignores every entry after one of these.
NO_DEVICE = ("", "-1", "NoDevFiles")
ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Gpu:
    """A GPU or a MIG part of one: `id` for CUDA_VISIBLE_DEVICES, `label` for display."""

    id: str
    label: str


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


def visible_gpus() -> list[Gpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES allows, or all that the driver lists if it is not set."""
    allowed = os.environ.get(VARIABLE)
    if allowed is None:
        return _ask_driver()
    names = itertools.takewhile(lambda name: name not in NO_DEVICE, (name.strip() for name in allowed.split(",")))
    return [Gpu(name, _shortened(name)) for name in dict.fromkeys(names)]


def _ask_driver() -> list[Gpu]:
    """Return the driver's GPUs; none if there is no driver, or it fails or does not answer in time."""
    found: list[Gpu] = []

    def ask() -> None:
        with contextlib.suppress(pynvml.NVMLError):
            found.extend(installed_gpus())

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
