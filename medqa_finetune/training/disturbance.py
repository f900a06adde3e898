"""Measures what other programs took from a training: CPU time, and time of the GPU.

A training that shares its machine is slower than another one for no reason of its own, so their times do not compare.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TypedDict

import psutil
import pynvml
import torch

from medqa_finetune.cores import own_cores, seconds_of_cores

# Seconds below which the kernel's clocks, of 10 ms, are too coarse.
SHORTEST_SECONDS = 1.0
# Reasons for a lower clock that come from outside a training. The limit of power is none: it is how a T4 always works.
FROM_OUTSIDE = (
    pynvml.nvmlClocksEventReasonHwSlowdown
    | pynvml.nvmlClocksEventReasonHwThermalSlowdown
    | pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
    | pynvml.nvmlClocksEventReasonSwThermalSlowdown
)


@dataclass(frozen=True)
class Disturbance:
    """What was measured during optimizer steps; may be added up over processes.

    Attributes:
        wanted: Seconds times the threads that the training computes with: all of them without a GPU, one with a GPU.
        used: CPU seconds of the training's processes.
        taken: Seconds of `wanted` for which they had no core, because other programs used it.
        samples: Times that the GPU was looked at.
        throttled: Times of these that its clock was lowered for heat or by the power supply.
        shared: Times of these that another process computed on it.
    """

    wanted: float = 0.0
    used: float = 0.0
    taken: float = 0.0
    samples: int = 0
    throttled: int = 0
    shared: int = 0

    def __add__(self, other: "Disturbance") -> "Disturbance":
        return Disturbance(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Disturbance)))


class Rates(TypedDict):
    """Fields of `TrainRecord`, which documents them."""

    cpu_share: float | None
    cpu_taken_rate: float | None
    gpu_throttled_rate: float | None
    gpu_shared_rate: float | None


def rates(found: Disturbance) -> Rates:
    """Return shares in [0, 1] of what was measured; None where nothing was, or too little."""
    long_enough = found.wanted >= SHORTEST_SECONDS
    return {
        "cpu_share": min(found.used / found.wanted, 1.0) if long_enough else None,
        "cpu_taken_rate": found.taken / found.wanted if long_enough else None,
        "gpu_throttled_rate": found.throttled / found.samples if found.samples else None,
        "gpu_shared_rate": found.shared / found.samples if found.samples else None,
    }


@dataclass(frozen=True)
class _Moment:
    """Seconds since some moments in the past: by the clock, of the training, and of its cores while not idle."""

    clock: float
    process: float
    cores: float


class Watch:
    """Measures a training's disturbance between `resume` and `pause`.

    Args:
        cuda: Whether it computes on a GPU.
        earlier: What earlier processes of the training measured.
        others: Processes that train together with this one.
    """

    def __init__(
        self, *, cuda: bool, earlier: Disturbance | None = None, others: Sequence[psutil.Process] = ()
    ) -> None:
        self._cuda = cuda
        self._others = others
        self._found = earlier or Disturbance()
        self._since: _Moment | None = None

    def resume(self) -> None:
        """Start measuring, or continue after `pause`."""
        self._since = _now(self._others)

    def pause(self) -> None:
        """Stop measuring."""
        self._found, self._since = self.read(), None

    def look_at_gpu(self) -> None:
        """Look at the GPU once."""
        state = gpu_state() if self._cuda else None
        if state is not None:
            self._found += Disturbance(samples=1, throttled=int(state.throttled), shared=int(state.shared))

    def read(self) -> Disturbance:
        """Return what was measured so far."""
        return self._found if self._since is None else self._found + self._between(self._since, _now(self._others))

    def _between(self, start: _Moment, end: _Moment) -> Disturbance:
        seconds, used = end.clock - start.clock, end.process - start.process
        threads = (1 if self._cuda else torch.get_num_threads()) * (1 + len(self._others))
        cores = len(own_cores())
        others = max(end.cores - start.cores - used, 0.0)
        # Others disturb only where they and the training want more than all cores.
        wanted = seconds * min(threads, cores)
        return Disturbance(wanted, used, min(max(others + wanted - seconds * cores, 0.0), wanted))


def _now(others: Sequence[psutil.Process]) -> _Moment:
    used = time.process_time() + sum(map(_cpu_seconds, others))
    return _Moment(time.perf_counter(), used, seconds_of_cores())


def _cpu_seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


@dataclass(frozen=True)
class GpuState:
    """Whether something outside the training lowers a GPU's clock, and whether another process computes on it."""

    throttled: bool
    shared: bool


def gpu_state() -> GpuState | None:
    """Return the state of the GPU that torch computes on; None if the driver does not tell."""
    with contextlib.suppress(pynvml.NVMLError):
        _begin()
        device = pynvml.nvmlDeviceGetHandleByUUID(_gpu_uuid())
        reasons = _told(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(device))
        processes = _told(lambda: len(pynvml.nvmlDeviceGetComputeRunningProcesses(device)))
        # This process is one of them; in a container its number is another, so that it cannot be looked for.
        return GpuState(bool((reasons or 0) & FROM_OUTSIDE), (processes or 0) > 1)
    return None


@cache
def _begin() -> None:
    """Load the driver's library, once per process: that may take seconds."""
    pynvml.nvmlInit()


def _told(ask: Callable[[], int]) -> int | None:
    """Return an answer of the driver; None if this GPU has none (a part of a GPU has no clock of its own)."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None


@cache
def _gpu_uuid() -> str:
    return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
