"""Which GPUs there are to work with, and how cells share them out."""

import itertools
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from medqa_finetune.errors import ConfigError, Fault

VARIABLE = "CUDA_VISIBLE_DEVICES"
# What CUDA takes for the end of the list.
NO_DEVICE = ("", "-1", "NoDevFiles")
# A driver that is stuck does not answer at all.
ANSWER_SECONDS = 10.0
GPU_LINE = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[^)]+)\)")
# A GPU that is cut into parts lists them below itself.
MIG_LINE = re.compile(r"\s+MIG .*Device\s+(\d+): .*\(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a part of one: `id` is what CUDA_VISIBLE_DEVICES takes, `label` what people call it."""

    id: str
    label: str


@dataclass(frozen=True)
class Slot:
    """A place for one cell at a time: the GPUs that it sees; None leaves to the cell what it sees."""

    gpus: tuple[Gpu, ...] | None

    @property
    def label(self) -> str:
        """What people call its GPUs; empty without any."""
        return ",".join(gpu.label for gpu in self.gpus or ())

    def environment(self) -> dict[str, str]:
        """Return what a cell in this place is told."""
        return {} if self.gpus is None else {VARIABLE: ",".join(gpu.id for gpu in self.gpus)}


def visible_gpus() -> list[Gpu]:
    """Return the GPUs that the user's CUDA_VISIBLE_DEVICES allows; without it, all that `nvidia-smi` knows of."""
    allowed = os.environ.get(VARIABLE)
    if allowed is None:
        return installed_gpus(_ask_driver())
    names = itertools.takewhile(lambda name: name not in NO_DEVICE, (name.strip() for name in allowed.split(",")))
    return [Gpu(name, _shortened(name)) for name in dict.fromkeys(names)]


def _ask_driver() -> str:
    try:
        asked = subprocess.run(
            ["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.decode("utf-8", errors="replace")


def installed_gpus(listing: str) -> list[Gpu]:
    """Return the GPUs in what `nvidia-smi -L` prints; of a GPU that is cut into parts (MIG), the parts.

    Their UUIDs are used: numbers mean one thing to the driver and, unless CUDA_DEVICE_ORDER is set, another to CUDA.
    """
    groups: list[list[Gpu]] = []
    for line in listing.splitlines():
        if whole := GPU_LINE.match(line):
            groups.append([Gpu(whole[2], whole[1])])
        elif (part := MIG_LINE.match(line)) and groups:
            groups[-1].append(Gpu(part[2], f"{groups[-1][0].label}:{part[1]}"))
    return [gpu for whole, *parts in groups for gpu in parts or [whole]]


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
