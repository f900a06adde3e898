"""Runs one of our trainings under torch's profiler: `python -m scripts.benchmarks.profile_stage SETTINGS.json OUTPUTS`.

Prints one JSON object: for training and for answering the wall time, and for every operator its calls and the time
spent in itself, on the GPU where the work is done there.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from medqa_finetune.runtime import settle_before_torch
from scripts.benchmarks.ours import command
from scripts.benchmarks.settings import read_settings


def main(settings_path: str, outputs: str) -> int:
    """Train and generate predictions according to the settings; return the exit code."""
    settings = read_settings(Path(settings_path))
    settle_before_torch()  # before torch is loaded, as every run does
    import medqa_finetune.evaluation.generate as answering
    import medqa_finetune.training.fit as training
    from medqa_finetune.train import train

    measured: dict[str, Any] = {}
    _watch(training, "fit", "training", measured)
    _watch(answering, "generate_predictions", "answering", measured)
    _, _, _, *arguments = command(settings, Path(outputs))
    code = train(arguments)
    print("\n" + json.dumps(measured), flush=True)
    return code


def _watch(module: ModuleType, name: str, part: str, measured: dict[str, Any]) -> None:
    """Patch a module's function to run under the profiler and store its costs in `measured`."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    work: Callable[..., Any] = getattr(module, name)
    on_gpu = torch.cuda.is_available()

    def watched(*arguments: Any, **options: Any) -> Any:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with profile(activities=activities, acc_events=True) as profiler:
            begin = time.perf_counter()
            result = work(*arguments, **options)
            seconds = time.perf_counter() - begin
        operators = {
            event.key: {"calls": event.count, "seconds": _own_microseconds(event, on_gpu) / 1e6}
            for event in profiler.key_averages()
        }
        measured[part] = {"seconds": seconds, "operators": operators}
        return result

    setattr(module, name, watched)


def _own_microseconds(event: Any, on_gpu: bool) -> float:
    return float(event.self_device_time_total if on_gpu else event.self_cpu_time_total)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
