"""How far training has moved the trained weights from their start: a run that changed nothing is no trained model."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

# Values of some places of every trained weight, by its name.
Sample = Mapping[str, torch.Tensor]

# Every checkpoint has the start, which a resumed training cannot know otherwise.
START_NAME = "start.safetensors"
# Places of each weight that are looked at, evenly spread: 8 MB for the 504 matrices of Qwen2.5-3B's adapters.
PLACES = 4096


@torch.no_grad()
def sample_of(model: Any) -> dict[str, torch.Tensor]:
    """Return a sample of a model's trained weights, in fp32 on the CPU."""
    return {name: _places(weight).float().cpu() for name, weight in model.named_parameters() if weight.requires_grad}


def _places(weight: torch.Tensor) -> torch.Tensor:
    flat = weight.detach().flatten()
    return flat[:: max(1, math.ceil(flat.numel() / PLACES))].clone()


def write_sample(sample: Sample, folder: Path) -> None:
    """Write a sample into the folder of a checkpoint."""
    save_file(dict(sample), folder / START_NAME)


def read_sample(folder: Path) -> dict[str, torch.Tensor] | None:
    """Read what `write_sample` wrote; None from checkpoints of earlier versions, which lack it."""
    path = folder / START_NAME
    return load_file(path) if path.is_file() else None


def relative_change(start: Sample, end: Sample) -> float:
    """Return the norm of the difference of two samples relative to that of the first: 0 only where they are equal."""
    apart = _norm(end[name].double() - values for name, values in start.items())
    before = _norm(values.double() for values in start.values())
    return apart / before if before else apart


def _norm(parts: Iterable[torch.Tensor]) -> float:
    # Exact, so that the order of weights, which a file does not keep, changes no digit.
    return math.sqrt(math.fsum(float(part.square().sum()) for part in parts))
