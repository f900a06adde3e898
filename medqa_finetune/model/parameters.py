"""Weights of a model in memory: how many, and which modules have adapters."""

import torch

from medqa_finetune.compat.bitsandbytes import stands_for
from medqa_finetune.compat.peft import adapters


def count_parameters(model: torch.nn.Module, *, trainable_only: bool = False) -> int:
    """Return the number of weights; 4-bit ones, stored two to a byte, are counted one by one."""
    return sum(
        stands_for(parameter) for parameter in model.parameters() if parameter.requires_grad or not trainable_only
    )


def adapted_modules(model: torch.nn.Module) -> list[str]:
    """Return the modules that have adapters, as peft names them, sorted; none where there is no adapter."""
    return sorted({module for each in adapters(model).values() for module in each.target_modules or ()})
