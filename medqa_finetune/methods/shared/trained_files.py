"""Trained weights in safetensors files: read, and compared with what a model expects, before anything is loaded."""

from collections.abc import Container, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from medqa_finetune.compat.failures import words_of
from medqa_finetune.errors import Fault, ModelError


def read_weights(folder: Path, pattern: str) -> dict[str, torch.Tensor]:
    """Return the weights of all files of a folder that match a pattern, by name.

    Raises:
        ModelError: a file is damaged.
    """
    try:
        files = sorted(folder.glob(pattern))
        return {name: weight for path in files for name, weight in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        problem = f"the trained weights cannot be read ({words_of(error)})"
        raise ModelError(Fault("damaged-file", problem, file=str(folder))) from None


def check_fit(
    weights: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    folder: Path,
    *,
    optional: Container[str] = (),
) -> None:
    """Check that weights are exactly those of a model.

    Args:
        weights: As files have them.
        expected: Of the model, by the names in its files.
        folder: Where the files lie.
        optional: Names that the files need not have.

    Raises:
        ModelError: one is missing, unknown or of another shape; names the first.
    """
    faults = [_misfit(name, "is missing") for name in expected if name not in weights and name not in optional]
    faults += [_misfit(name, "is not of this model") for name in weights if name not in expected]
    faults += [
        _misfit(name, f"must have the shape {list(expected[name].shape)}").but(got=list(weight.shape))
        for name, weight in weights.items()
        if name in expected and weight.shape != expected[name].shape
    ]
    if faults:
        count = f" ({len(faults)} faults in all)" if len(faults) > 1 else ""
        raise ModelError(faults[0].but(problem=f"{faults[0].problem}{count}", file=str(folder)))


def _misfit(name: str, problem: str) -> Fault:
    hint = "These weights were trained for another base model or with other settings."
    return Fault("weights-mismatch", problem, key=name, hint=hint)
