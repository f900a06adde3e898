"""Walks through steps in a process of its own, to which a CUDA is lent that computes nothing.

    from scripts.fake_cuda.walk import walk
    (step,) = walk([{"step": "training", "method": {"name": "lora"}, "layers": 2, "vocabulary": 1024}])

As a program it reads the settings from standard input and prints the steps, both as JSON.
"""

import gc
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.fake_cuda.lend import CannotLendError, lack, lend_cuda, library

__all__ = ["CannotLendError", "Walked", "lack", "walk"]

ROOT = Path(__file__).resolve().parents[2]
MODULE = "scripts.fake_cuda.walk"
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Walked:
    """A step, as the other process describes it; see `record.Trace` and `steps.Step`.

    Attributes:
        kernels: (name, dtypes, bytes, FLOPs), each with its number.
        attention: (kernel, dtypes, shapes, masked, shared keys), each with its number.
        first_waits: Waits of the first step, which has trials of its own.
        logging_waits: Of a whole training, waits of a step after which the curve has a point.
        outside_passes: Of a whole training, launches and bytes of a step outside its forward and backward passes.
    """

    kernels: Counter[tuple[str, tuple[str, ...], int, int]]
    attention: Counter[tuple[str, tuple[str, ...], tuple[tuple[int, ...], ...], bool, bool]]
    waits: dict[str, int]
    first_waits: dict[str, int]
    blocking_copies: dict[str, int]
    launches: int
    bytes: int
    flops: int
    peak: int
    weights: int
    without_gradient: tuple[str, ...]
    logging_waits: dict[str, int]
    outside_passes: tuple[int, int]


def walk(settings: Sequence[dict[str, Any]]) -> list[Walked]:
    """Return the steps of several settings, of one process.

    Args:
        settings: Fields of `steps.Setting`, with `step`: `training`, `decoding`, `replayed` or `loop`; `method` as a
            dictionary.

    Raises:
        CannotLendError: no CUDA can be lent here; the message says why.
        RuntimeError: a step failed; the message has its traceback.
    """
    library()
    done = subprocess.run(
        [sys.executable, "-m", MODULE], input=json.dumps(list(settings)), capture_output=True, text=True, check=False,
        cwd=ROOT, timeout=TIMEOUT_SECONDS, env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"a step on fake CUDA failed:\n{done.stderr[-4000:]}")
    return [_read(found) for found in json.loads(done.stdout.splitlines()[-1])]


def _read(found: dict[str, Any]) -> Walked:
    kernels = Counter({(name, tuple(dtypes), moved, flops): n for name, dtypes, moved, flops, n in found["kernels"]})
    attention = Counter(
        {
            (name, tuple(dtypes), tuple(map(tuple, shapes)), masked, shared): number
            for name, dtypes, shapes, masked, shared, number in found["attention"]
        }
    )
    tuples = {name: tuple(found[name]) for name in ("without_gradient", "outside_passes")}
    return Walked(**(found | tuples | {"kernels": kernels, "attention": attention}))


def main() -> None:
    """Read settings, walk, and print the steps."""
    lend_cuda()
    # Only now may torch be imported.
    from medqa_finetune.config.schema import MethodConfig
    from scripts.fake_cuda.loop import loop_step
    from scripts.fake_cuda.steps import Setting, Step, decoding_step, replayed_step, training_step

    def described(step: Step) -> dict[str, Any]:
        trace = step.trace
        return {
            "kernels": [(k.name, k.dtypes, k.bytes, k.flops, number) for k, number in trace.kernels.items()],
            "attention": [
                (a.kernel, a.dtypes, a.shapes, a.masked, a.shared_keys, number) for a, number in trace.attention.items()
            ],
            "waits": dict(trace.waits),
            "first_waits": dict(step.first.waits),
            "blocking_copies": {copy.site: number for copy, number in trace.copies.items() if copy.blocking},
            "launches": trace.launches,
            "bytes": trace.bytes,
            "flops": trace.flops,
            "peak": trace.peak,
            "weights": step.weights,
            "without_gradient": step.without_gradient,
            "logging_waits": dict(step.logging.waits),
            "outside_passes": step.outside_passes,
        }

    steps = {"training": training_step, "decoding": decoding_step, "replayed": replayed_step, "loop": loop_step}
    gc.freeze()  # what was imported stays, and need not be looked through before every step
    found = []
    for given in json.load(sys.stdin):
        kind = given.pop("step")
        given["method"] = MethodConfig(**given["method"])
        for name in ("capability", "lengths", "fp32_blocks"):
            if name in given:
                given[name] = tuple(given[name])
        found.append(described(steps[kind](Setting(**given))))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
