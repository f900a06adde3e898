"""Counts a loaded model's weights, and lists the modules that have adapters."""

from typing import Any

import torch

from medqa_finetune.compat.bitsandbytes import stands_for
from medqa_finetune.compat.peft import adapters, bare, has_adapter


def count_parameters(model: torch.nn.Module, *, trainable_only: bool = False) -> int:
    """Return the number of weights; 4-bit weights, stored two per byte, count individually."""
    return sum(
        stands_for(parameter) for parameter in model.parameters() if parameter.requires_grad or not trainable_only
    )


def adapts_embeddings(model: Any) -> bool:
    """Return whether the token embedding or the head has an adapter."""
    base = bare(model)
    return any(has_adapter(part) for part in (base.get_input_embeddings(), base.get_output_embeddings()))


def adapted_modules(model: torch.nn.Module) -> list[str]:
    """Return the modules that have adapters, as peft names them, sorted; empty without adapters."""
    return sorted(
        {
            name
            for each in adapters(model).values()
            for name in (*(each.target_modules or ()), *(each.target_parameters or ()))
        }
    )
