"""Counts a loaded model's weights, and lists the modules that have adapters."""

import torch

from medqa_finetune.compat.bitsandbytes import stands_for
from medqa_finetune.compat.peft import adapters


def count_parameters(model: torch.nn.Module, *, trainable_only: bool = False) -> int:
    """Return the number of weights; 4-bit weights, stored two per byte, count individually."""
    return sum(
        stands_for(parameter) for parameter in model.parameters() if parameter.requires_grad or not trainable_only
    )


def adapted_modules(model: torch.nn.Module) -> list[str]:
    """Return the modules that have adapters, as peft names them, sorted; empty without adapters."""
    return sorted({module for each in adapters(model).values() for module in each.target_modules or ()})
