"""torch: variable-length attention, whose arguments depend on the release, and errors that mean a lack of memory."""

import inspect

import torch
from torch.nn.attention.varlen import varlen_attn

__all__ = ["has_variable_length_attention", "is_out_of_memory", "varlen_attn"]

# Arguments of our call; torch 2.10 lacks some.
WANTED_ARGUMENTS = frozenset({"window_size", "enable_gqa", "scale"})

# Words of plain RuntimeErrors by which CUDA's libraries say that they got no memory for their own work space.
NO_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUSOLVER_STATUS_ALLOC_FAILED",
             "out of memory")  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a GPU has too little memory."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in str(error) for words in NO_MEMORY)


def has_variable_length_attention() -> bool:
    """Return whether torch's variable-length flash attention has the arguments of our call."""
    return set(inspect.signature(varlen_attn).parameters) >= WANTED_ARGUMENTS
