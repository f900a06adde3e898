"""torch: variable-length attention, whose arguments depend on the release; what only private names tell."""

import inspect
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn

__all__ = ["has_hooks", "has_variable_length_attention", "is_frozen_linear", "varlen_attn", "version_of"]

# Arguments of our call; torch 2.10 lacks some.
WANTED_ARGUMENTS = frozenset({"window_size", "enable_gqa", "scale"})


def has_variable_length_attention() -> bool:
    """Return whether torch's variable-length flash attention has the arguments of our call."""
    return set(inspect.signature(varlen_attn).parameters) >= WANTED_ARGUMENTS


def has_hooks(module: Any) -> bool:
    """Return whether calling a module does more than its class's forward pass: it has hooks, or a replaced one."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in module.__dict__


def is_frozen_linear(module: Any) -> bool:
    """Return whether a module is nothing but torch's matrix, and perhaps a bias, neither of them trained."""
    is_plain = type(module) is torch.nn.Linear and not has_hooks(module)
    return is_plain and not any(weight.requires_grad for weight in module.parameters())


def version_of(tensor: torch.Tensor) -> int:
    """Return a number that changes whenever a tensor is modified in place."""
    return int(tensor._version)
