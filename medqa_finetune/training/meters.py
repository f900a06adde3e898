"""What training costs: time, tokens, arithmetic and memory, measured in the run's own process."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch

from medqa_finetune.architecture.flops import Flops
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.memory import GIB, peak_resident_bytes
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.load import LoadedModel
from medqa_finetune.model.rates import find_rates


@dataclass(frozen=True)
class Work:
    """What a model is given to work on, padding never counted.

    Attributes:
        samples: Pairs.
        tokens: Tokens of these pairs.
        answer_tokens: Tokens that the loss is taken on.
        squared_lengths: Sum over the pairs of their length squared, which the cost of attention grows with.
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
        """Return the floating-point operations that the work takes at this cost."""
        return cost.of(self.tokens, self.answer_tokens, self.squared_lengths)


@dataclass(frozen=True)
class Reading:
    """What a meter shows: seconds of training proper, and the work done in them."""

    seconds: float = 0.0
    work: Work = Work()

    def __add__(self, other: "Reading") -> "Reading":
        return Reading(self.seconds + other.seconds, self.work + other.work)


@dataclass(frozen=True)
class MeterState:
    """All that a meter knows, for one that goes on in another process.

    Attributes:
        reading: Everything so far.
        metered: What of it counts for the throughput.
        peaks: Most GPU memory allocated and reserved, and most resident memory, in bytes; None without CUDA.
    """

    reading: Reading
    metered: Reading
    peaks: tuple[int | None, int | None, int]


class Meter:
    """A stopwatch that runs only while optimizer steps are taken, with counters of what they saw.

    Args:
        device: torch's name of it.
        earlier: What a meter of the same run knew before the run was stopped; its peaks and counts are gone on from.
    """

    def __init__(self, device: str, earlier: MeterState | None = None) -> None:
        self._cuda = device == "cuda"
        self._earlier = earlier or MeterState(Reading(), Reading(), (None, None, 0))
        self._seconds = 0.0
        self._running_since: float | None = None
        self._work = Work()
        # Seconds and work of this process before warm-up was over; None until then.
        self._warm: Reading | None = None
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()

    def resume(self) -> None:
        """Let the stopwatch run."""
        self._running_since = self._clock()

    def pause(self) -> None:
        """Stop the stopwatch, e.g. for validation."""
        if self._running_since is not None:
            self._seconds += self._clock() - self._running_since
            self._running_since = None

    def count(self, work: Work) -> None:
        """Add the work of one optimizer step."""
        self._work += work

    def mark_warm(self) -> None:
        """Say that warm-up is over: throughput counts from here."""
        self._warm = self._here()

    def read(self) -> Reading:
        """Return time and work so far, earlier processes included; waits for the device."""
        return self._earlier.reading + self._here()

    def metered(self) -> Reading:
        """Return time and work behind the warm-ups of every process, which throughput is taken over."""
        if self._warm is None:
            return self._earlier.metered
        now, warm = self._here(), self._warm
        done = [getattr(now.work, field.name) - getattr(warm.work, field.name) for field in fields(Work)]
        return self._earlier.metered + Reading(now.seconds - warm.seconds, Work(*done))

    def throughput(self) -> tuple[float | None, float | None]:
        """Return samples/s and tokens/s without warm-ups; None while nothing else has been measured."""
        metered = self.metered()
        if metered.work.samples == 0:
            return None, None
        return metered.work.samples / metered.seconds, metered.work.tokens / metered.seconds

    def _here(self) -> Reading:
        running = 0.0 if self._running_since is None else self._clock() - self._running_since
        return Reading(self._seconds + running, self._work)

    def state(self) -> MeterState:
        """Return what a meter needs to go on in another process."""
        peaks = (self.peak_vram_bytes(), self.peak_vram_reserved_bytes(), self.peak_rss_bytes())
        return MeterState(self.read(), self.metered(), peaks)

    def peak_vram_bytes(self) -> int | None:
        """Return the most bytes that tensors held on the GPU at once; None without CUDA."""
        return self._peak(0, torch.cuda.max_memory_allocated)

    def peak_vram_reserved_bytes(self) -> int | None:
        """Return the most bytes that the allocator held on the GPU at once; None without CUDA."""
        return self._peak(1, torch.cuda.max_memory_reserved)

    def peak_rss_bytes(self) -> int:
        """Return the most resident memory that a process of this run held at once, in bytes."""
        return max(peak_resident_bytes(), self._earlier.peaks[2])

    def _peak(self, place: int, here: Callable[[], int]) -> int | None:
        before = self._earlier.peaks[place]
        return max(here(), before or 0) if self._cuda else before

    def gauges(self) -> dict[str, float]:
        """Return GPU memory held now by tensors and by the allocator, and peak resident memory, in GiB.

        Without CUDA the first two are true zeros: no GPU memory is held.
        """
        return {
            "vram_allocated_gib": torch.cuda.memory_allocated() / GIB,
            "vram_reserved_gib": torch.cuda.memory_reserved() / GIB,
            "peak_rss_gib": peak_resident_bytes() / GIB,
        }

    def _clock(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


def costs(meter: Meter, loaded: LoadedModel, method: MethodConfig) -> dict[str, Any]:
    """Return the fields of a training record that a meter knows, to be asked for when training is over.

    Model FLOPs utilization is the share of the device's measured matrix rate that the model's own arithmetic takes
    (Chowdhery et al. 2022, arXiv:2204.02311, appendix B): what is computed twice to save memory is not counted twice.
    """
    reading, metered = meter.read(), meter.metered()
    samples_per_second, tokens_per_second = meter.throughput()
    peaks = (meter.peak_vram_bytes(), meter.peak_vram_reserved_bytes(), meter.peak_rss_bytes())
    cost = None if loaded.size is None else model_method(method).training_flops(loaded.size)
    # After the peaks, since measuring takes memory of its own.
    rates = find_rates(loaded.device.type, loaded.device.name, loaded.device.precision)
    share = None
    if cost is not None and samples_per_second is not None:
        share = metered.work.flops(cost) / metered.seconds / rates.measured
    return {
        "samples": reading.work.samples,
        "tokens": reading.work.tokens,
        "answer_tokens": reading.work.answer_tokens,
        "seconds": reading.seconds,
        "samples_per_second": samples_per_second,
        "tokens_per_second": tokens_per_second,
        "flops": None if cost is None else float(reading.work.flops(cost)),
        "model_flops_utilization": share,
        "matrix_flops_per_second": rates.measured,
        "datasheet_flops_per_second": rates.datasheet,
        "peak_vram_bytes": peaks[0],
        "peak_vram_reserved_bytes": peaks[1],
        "peak_rss_bytes": peaks[2],
    }


def peak_bytes(device: str) -> int:
    """Return the most memory that tensors held on the GPU since it was last reset, or this process without a GPU."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_resident_bytes()
