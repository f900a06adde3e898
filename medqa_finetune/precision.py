"""Floating-point precisions by the names that settings use: their width and torch dtype."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["bf16", "fp16", "fp32"]
# Bytes per number.
WIDTH: dict[Precision, int] = {"bf16": 2, "fp16": 2, "fp32": 4}
DTYPE_NAMES: dict[Precision, str] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# Bytes per number, by torch's name of the dtype.
DTYPE_WIDTH = {DTYPE_NAMES[precision]: width for precision, width in WIDTH.items()}


def dtype_of(precision: Precision) -> "torch.dtype":
    """Return the torch dtype of a precision; imports torch."""
    import torch

    dtype: torch.dtype = getattr(torch, DTYPE_NAMES[precision])
    return dtype
