"""Precisions of numbers, by the names that settings use: their width, and what torch calls them."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["bf16", "fp16", "fp32"]
# Bytes of a number.
WIDTH: dict[Precision, int] = {"bf16": 2, "fp16": 2, "fp32": 4}
DTYPE_NAMES: dict[Precision, str] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# The same by torch's names.
DTYPE_WIDTH = {DTYPE_NAMES[precision]: width for precision, width in WIDTH.items()}


def dtype_of(precision: Precision) -> "torch.dtype":
    """Return torch's type of numbers of this precision; loads torch."""
    import torch

    dtype: torch.dtype = getattr(torch, DTYPE_NAMES[precision])
    return dtype
