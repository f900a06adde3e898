"""What training costs: time, tokens and memory, measured in the run's own process."""

import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 2**30


@dataclass(frozen=True)
class Reading:
    """Counts at one moment: seconds of training proper, pairs and tokens seen (padding not counted)."""

    seconds: float = 0.0
    samples: int = 0
    tokens: int = 0
    answer_tokens: int = 0


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

    Counts stay on the device until they are asked for, so that counting does not make the GPU wait.

    Args:
        device: torch's name of it.
        earlier: What a meter of the same run knew before the run was stopped; its peaks and counts are gone on from.
    """

    def __init__(self, device: str, earlier: MeterState | None = None) -> None:
        self._cuda = device == "cuda"
        self._earlier = earlier or MeterState(Reading(), Reading(), (None, None, 0))
        reading = self._earlier.reading
        self._before = reading.seconds
        self._running_since: float | None = None
        counts = (reading.samples, reading.tokens, reading.answer_tokens)
        self._counts = torch.tensor(counts, dtype=torch.int64, device=device)
        self._warm: Reading | None = None
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()

    def resume(self) -> None:
        """Let the stopwatch run."""
        self._running_since = self._clock()

    def pause(self) -> None:
        """Stop the stopwatch, e.g. for validation."""
        if self._running_since is not None:
            self._before += self._clock() - self._running_since
            self._running_since = None

    def count(self, position_ids: torch.Tensor, labels: torch.Tensor) -> None:
        """Add one micro-batch without padding, int64 of shape (1, tokens); a pair begins at each position 0."""
        self._counts += torch.stack([(position_ids == 0).sum(), (position_ids >= 0).sum(), (labels >= 0).sum()])

    def mark_warm(self) -> None:
        """Say that warm-up is over: throughput counts from here."""
        self._warm = self.read()

    def read(self) -> Reading:
        """Return the counts so far; waits for the device."""
        running = 0.0 if self._running_since is None else self._clock() - self._running_since
        samples, tokens, answer_tokens = self._counts.tolist()
        return Reading(self._before + running, samples, tokens, answer_tokens)

    def throughput(self) -> tuple[float | None, float | None]:
        """Return samples/s and tokens/s without warm-ups; None while nothing else has been measured."""
        metered = self._metered()
        if metered.samples == 0:
            return None, None
        return metered.samples / metered.seconds, metered.tokens / metered.seconds

    def _metered(self) -> Reading:
        earlier = self._earlier.metered
        if self._warm is None:
            return earlier
        now, warm = self.read(), self._warm
        return Reading(
            earlier.seconds + now.seconds - warm.seconds,
            earlier.samples + now.samples - warm.samples,
            earlier.tokens + now.tokens - warm.tokens,
            earlier.answer_tokens + now.answer_tokens - warm.answer_tokens,
        )

    def state(self) -> MeterState:
        """Return what a meter needs to go on in another process."""
        peaks = (self.peak_vram_bytes(), self.peak_vram_reserved_bytes(), self.peak_rss_bytes())
        return MeterState(self.read(), self._metered(), peaks)

    def peak_vram_bytes(self) -> int | None:
        """Return the most bytes that tensors held on the GPU at once; None without CUDA."""
        return self._peak(0, torch.cuda.max_memory_allocated)

    def peak_vram_reserved_bytes(self) -> int | None:
        """Return the most bytes that the allocator held on the GPU at once; None without CUDA."""
        return self._peak(1, torch.cuda.max_memory_reserved)

    def peak_rss_bytes(self) -> int:
        """Return the most resident memory that a process of this run held at once, in bytes."""
        return max(peak_rss_bytes(), self._earlier.peaks[2])

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
            "peak_rss_gib": peak_rss_bytes() / GIB,
        }

    def _clock(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


def peak_rss_bytes() -> int:
    """Return the most resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage would also count what the process that started this one held when it did.
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
