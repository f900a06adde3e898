"""Measures the cost of training in the training process: time, tokens, FLOPs and memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from medqa_finetune.architecture.flops import Flops
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.memory import GIB, peak_resident_bytes
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.load import LoadedModel
from medqa_finetune.model.rates import find_rates
from medqa_finetune.training import disturbance
from medqa_finetune.training.disturbance import Disturbance, Watch
from medqa_finetune.training.group import Group


@dataclass(frozen=True)
class Work:
    """Amount of input to a model, without padding.

    Attributes:
        samples: Number of examples.
        tokens: Number of tokens.
        answer_tokens: Number of tokens on which the loss is computed.
        squared_lengths: Sum of the squared lengths of the examples, which the cost of attention is proportional to.
    """

    samples: int = 0
    tokens: int = 0
    answer_tokens: int = 0
    squared_lengths: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.samples + other.samples,
            self.tokens + other.tokens,
            self.answer_tokens + other.answer_tokens,
            self.squared_lengths + other.squared_lengths,
        )

    def flops(self, cost: Flops) -> int:
        """Return the FLOPs that the work takes under this cost model."""
        return cost.of(self.tokens, self.answer_tokens, self.squared_lengths)


@dataclass(frozen=True)
class Reading:
    """Seconds of optimizer steps, and the work done in them."""

    seconds: float = 0.0
    work: Work = Work()

    def __add__(self, other: "Reading") -> "Reading":
        return Reading(self.seconds + other.seconds, self.work + other.work)


@dataclass(frozen=True)
class MeterState:
    """The state of a meter, for resuming in another process.

    Attributes:
        reading: Time and work so far.
        metered: The part of it that counts for the throughput.
        peaks: Peak GPU memory allocated and reserved (None without CUDA), and peak resident memory, in bytes.
        disturbance: What other programs took from it.
    """

    reading: Reading
    metered: Reading
    peaks: tuple[int | None, int | None, int]
    disturbance: Disturbance = Disturbance()  # noqa: RUF009 (frozen)


class Meter:
    """Measures the time of optimizer steps alone, their work, and peak memory.

    Args:
        device: Type of the device, as torch names it: `cuda` or `cpu`.
        earlier: State of the meter before the run was stopped; this meter continues it.
        group: The processes that train together; None for this one alone.
    """

    def __init__(self, device: str, earlier: MeterState | None = None, group: Group | None = None) -> None:
        self._cuda = device == "cuda"
        self._earlier = earlier or MeterState(Reading(), Reading(), (None, None, 0))
        others = group.others() if group is not None else []
        self._watch = Watch(cuda=self._cuda, earlier=self._earlier.disturbance, others=others)
        # Peaks of the processes that train with this one, as in `MeterState.peaks`.
        self._of_others: tuple[int, int, int] = (0, 0, 0)
        self._seconds = 0.0
        self._running_since: float | None = None
        self._work = Work()
        # Seconds and work of this process at the end of warm-up; None before.
        self._warm: Reading | None = None
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()

    def resume(self) -> None:
        """Start the clock, or continue after `pause`."""
        self._running_since = self._clock()
        self._watch.resume()

    def pause(self) -> None:
        """Stop the clock, e.g. for validation."""
        if self._running_since is not None:
            self._seconds += self._clock() - self._running_since
            self._running_since = None
            self._watch.pause()

    def count(self, work: Work) -> None:
        """Add the work of one optimizer step to the total."""
        self._work += work

    def mark_warm(self) -> None:
        """Mark the end of warm-up: throughput is measured from here."""
        self._warm = self._here()

    def read(self) -> Reading:
        """Return time and work so far, earlier processes included; synchronizes with the device."""
        return self._earlier.reading + self._here()

    def metered(self) -> Reading:
        """Return time and work after the warm-up of each process: the basis of throughput."""
        if self._warm is None:
            return self._earlier.metered
        now, warm = self._here(), self._warm
        done = [getattr(now.work, field.name) - getattr(warm.work, field.name) for field in fields(Work)]
        return self._earlier.metered + Reading(now.seconds - warm.seconds, Work(*done))

    def throughput(self) -> tuple[float | None, float | None]:
        """Return samples/s and tokens/s after warm-up, without padding; None before the first such step."""
        metered = self.metered()
        if metered.work.samples == 0:
            return None, None
        return metered.work.samples / metered.seconds, metered.work.tokens / metered.seconds

    def _here(self) -> Reading:
        running = 0.0 if self._running_since is None else self._clock() - self._running_since
        return Reading(self._seconds + running, self._work)

    def state(self) -> MeterState:
        """Return the state, from which a meter in another process can continue."""
        peaks = (self.peak_vram_bytes(), self.peak_vram_reserved_bytes(), self.peak_rss_bytes())
        return MeterState(self.read(), self.metered(), peaks, self._watch.read())

    def join_peaks(self, group: Group) -> None:
        """Take over the largest peaks of all processes that train together; all of them call it."""
        if group.size > 1:
            vram, reserved, resident = self.peak_vram_bytes(), self.peak_vram_reserved_bytes(), self.peak_rss_bytes()
            first, second, third = group.largest(vram or 0, reserved or 0, resident)
            self._of_others = (first, second, third)

    def peak_vram_bytes(self) -> int | None:
        """Return the peak of GPU memory allocated by tensors, in bytes; None without CUDA."""
        return self._peak(0, torch.cuda.max_memory_allocated)

    def peak_vram_reserved_bytes(self) -> int | None:
        """Return the peak of GPU memory reserved by the allocator, in bytes; None without CUDA."""
        return self._peak(1, torch.cuda.max_memory_reserved)

    def peak_rss_bytes(self) -> int:
        """Return the peak resident memory of one process of this run, in bytes."""
        return max(peak_resident_bytes(), self._earlier.peaks[2], self._of_others[2])

    def _peak(self, place: int, here: Callable[[], int]) -> int | None:
        before = self._earlier.peaks[place]
        return max(here(), before or 0, self._of_others[place]) if self._cuda else before

    def gauges(self) -> dict[str, float]:
        """Return the current GPU memory, allocated and reserved (0 without CUDA), and peak resident memory, in GiB.

        The GPU is looked at for disturbances then.
        """
        self._watch.look_at_gpu()
        return {
            "vram_allocated_gib": torch.cuda.memory_allocated() / GIB,
            "vram_reserved_gib": torch.cuda.memory_reserved() / GIB,
            "peak_rss_gib": peak_resident_bytes() / GIB,
        }

    def _clock(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


class Costs(disturbance.Rates):
    """The measured fields of `TrainRecord`, which documents their units."""

    samples: int
    tokens: int
    answer_tokens: int
    seconds: float
    samples_per_second: float | None
    tokens_per_second: float | None
    flops: float | None
    model_flops_utilization: float | None
    matrix_flops_per_second: float
    datasheet_flops_per_second: float | None
    peak_vram_bytes: int | None
    peak_vram_reserved_bytes: int | None
    peak_rss_bytes: int


def costs(meter: Meter, loaded: LoadedModel, method: MethodConfig, devices: int = 1) -> Costs:
    """Return the measured fields of a training record, after the last step; rates are those of all devices together.

    Model FLOPs utilization is the model's FLOPs per second over the measured rate of matrix products of the device
    (Chowdhery et al. 2022, arXiv:2204.02311, appendix B); recomputation to save memory does not count. It is usually in
    (0, 1], and None for a model without a known FLOPs formula or a run within its warm-up.
    """
    state = meter.state()
    reading, metered, peaks = state.reading, state.metered, state.peaks
    samples_per_second, tokens_per_second = meter.throughput()
    cost = None if loaded.size is None else model_method(method).training_flops(loaded.size)
    # After the peaks, since the measurement allocates memory.
    rates = find_rates(loaded.device.type, loaded.device.name, loaded.device.precision)
    measured = rates.measured * devices
    share = None
    if cost is not None and samples_per_second is not None:
        share = metered.work.flops(cost) / metered.seconds / measured
    return {
        "samples": reading.work.samples,
        "tokens": reading.work.tokens,
        "answer_tokens": reading.work.answer_tokens,
        "seconds": reading.seconds,
        "samples_per_second": samples_per_second,
        "tokens_per_second": tokens_per_second,
        "flops": None if cost is None else float(reading.work.flops(cost)),
        "model_flops_utilization": share,
        "matrix_flops_per_second": measured,
        "datasheet_flops_per_second": None if rates.datasheet is None else rates.datasheet * devices,
        "peak_vram_bytes": peaks[0],
        "peak_vram_reserved_bytes": peaks[1],
        "peak_rss_bytes": peaks[2],
        **disturbance.rates(state.disturbance),
    }


def peak_bytes(device: str) -> int:
    """Return the peak memory in bytes: of tensors on the GPU since the last reset, or of this process without a GPU."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_resident_bytes()
