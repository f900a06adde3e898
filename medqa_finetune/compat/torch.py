"""torch: variable-length attention, whose arguments depend on the release."""

import inspect

from torch.nn.attention.varlen import varlen_attn

__all__ = ["has_variable_length_attention", "varlen_attn"]

# Arguments of our call; torch 2.10 lacks some.
WANTED_ARGUMENTS = frozenset({"window_size", "enable_gqa", "scale"})


def has_variable_length_attention() -> bool:
    """Return whether torch's variable-length flash attention has the arguments of our call."""
    return set(inspect.signature(varlen_attn).parameters) >= WANTED_ARGUMENTS
