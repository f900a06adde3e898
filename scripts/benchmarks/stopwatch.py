"""Measures peers like our own runs: by a callback of transformers' Trainer, without warm-up steps."""

import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationMixin, TrainerCallback

from scripts.benchmarks.settings import WARM_UP_STEPS


class Stopwatch(TrainerCallback):
    """Times the optimizer steps after the first `WARM_UP_STEPS`."""

    def __init__(self) -> None:
        self._begin = self._end = 0.0
        self._steps = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Store the time at the end of a step."""
        if state.global_step == WARM_UP_STEPS:
            self._begin = _now()
        elif state.global_step == state.max_steps:
            self._end = _now()
            self._steps = state.max_steps - WARM_UP_STEPS

    def samples_per_second(self, batch: int) -> float:
        """Return examples per second after warm-up.

        Raises:
            ValueError: no step was left to time.
        """
        if self._steps < 1:
            raise ValueError(f"no steps behind the {WARM_UP_STEPS} of the warm-up")
        return self._steps * batch / (self._end - self._begin)


class GenerationTime:
    """Adds up the seconds that every model of transformers spends in `generate`, whoever calls it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._original: Callable[..., Any] = GenerationMixin.generate

    def __enter__(self) -> "GenerationTime":
        original = self._original

        def timed(model: Any, *arguments: Any, **options: Any) -> Any:
            begin = _now()
            try:
                return original(model, *arguments, **options)
            finally:
                self.seconds += _now() - begin

        setattr(GenerationMixin, "generate", timed)  # noqa: B010 (mypy takes it for a method of its own)
        return self

    def __exit__(self, *error: object) -> None:
        setattr(GenerationMixin, "generate", self._original)  # noqa: B010


def memory() -> dict[str, int | None]:
    """Return the most resident memory of this process so far, and the most GPU memory of its tensors, in bytes."""
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE) if status.is_file() else None
    # getrusage also counts the memory of the parent process at the time of the fork.
    resident = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    vram = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"peak_rss_bytes": resident * 1024, "peak_vram_bytes": vram}


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
