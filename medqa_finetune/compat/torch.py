"""torch: a kernel whose arguments grew from release to release."""

import inspect

from torch.nn.attention.varlen import varlen_attn

__all__ = ["has_variable_length_attention", "varlen_attn"]

# Of the kernel for variable lengths; that of 2.10 has fewer.
WANTED_ARGUMENTS = frozenset({"window_size", "enable_gqa", "scale"})


def has_variable_length_attention() -> bool:
    """Say whether torch's variable-length flash attention takes what our one call needs."""
    return set(inspect.signature(varlen_attn).parameters) >= WANTED_ARGUMENTS
