"""Adapters in the form that answers: two kernels a linear layer instead of six, in the precision of the layer.

peft keeps A and B in fp32. Without autocast it converts the input of each adapter to fp32, multiplies by A, by B and by
the scale, adds, and converts the sum back. Here both matrices are converted once, after B was multiplied by the scale:
one thin product, which layers that read the same input share, and one product that is added onto the base's output in
place. Merging would launch still less, but rounds the sum to the few bits of half-precision or quantized weights, which
takes away most of a small update; and LoRA and QLoRA, which are compared, would answer by different arithmetic. So only
fp32 weights are merged, see `for_inference`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medqa_finetune.compat.peft import LinearAdapter, cast_adapters, fold_scales, linear_adapters
from medqa_finetune.methods.shared.fused_adapters import sharing_input


def fold_adapters(model: Any, dtype: torch.dtype, full: Collection[str] = ()) -> int:
    """Let a model's adapters compute in folded form, in place; return how many layers do.

    Adapters on embeddings and on parameters keep peft's forward pass, with a scale of 1. Saved ones are not changed;
    those of the model can still be saved, switched off and taken away.

    Args:
        model: To answer with: it cannot be trained afterwards.
        dtype: Of the model's activations.
        full: Names of modules below which activations are in fp32.
    """

    def precision_of(name: str) -> torch.dtype:
        return torch.float32 if any(f".{each}." in f".{name}." for each in full) else dtype

    if not fold_scales(model):
        return 0
    cast_adapters(model, precision_of)
    found = linear_adapters(model, dora=True)
    with torch.no_grad():
        for members in sharing_input(found):
            precision = precision_of(members[0].parent)
            thin = _Thin.of(members, precision)
            for number, adapter in enumerate(members):
                adapter.layer.forward = _forward(adapter, number, thin, precision)
    return len(found)


@dataclass
class _Thin:
    """The products with the matrices A of layers that read the same input.

    Attributes:
        lower: Their matrices A, one below the other.
        ranks: Rows of each.
        given: The input whose products are held for the layers that are called next.
        products: Those of each layer.
    """

    lower: torch.Tensor
    ranks: list[int]
    given: torch.Tensor | None = None
    products: tuple[torch.Tensor, ...] = ()

    @classmethod
    def of(cls, members: Sequence[LinearAdapter], dtype: torch.dtype) -> "_Thin":
        """Lay the matrices together; those that are held in this precision become views of the whole."""
        weights = [each.lower.weight for each in members]
        lower = torch.cat([weight.detach().to(dtype) for weight in weights])
        ranks = [len(weight) for weight in weights]
        for weight, part in zip(weights, torch.split(lower, ranks), strict=True):
            if weight.dtype == dtype:
                weight.data = part
        return cls(lower, ranks)

    def product(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """Return the product of a layer; the first layer of a group computes those of all."""
        if len(self.ranks) == 1:
            return _rows(x) @ self.lower.T
        if number == 0:
            together = _rows(x) @ self.lower.T
            self.given, self.products = x, torch.split(together, self.ranks, dim=1)
        elif x is not self.given:
            begin = sum(self.ranks[:number])
            return _rows(x) @ self.lower[begin : begin + self.ranks[number]].T
        product = self.products[number]
        if number == len(self.ranks) - 1:
            self.given, self.products = None, ()
        return product


def _rows(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1, x.shape[-1])


def _forward(adapter: LinearAdapter, number: int, thin: _Thin, dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    peft_forward: Callable[..., torch.Tensor] = adapter.layer.forward
    upper, factors, shift = adapter.upper.weight.detach(), None, None
    if adapter.dora is not None:
        magnitudes = adapter.magnitudes()
        upper, factors = upper * magnitudes[:, None], magnitudes.to(dtype)
        bias = adapter.base.bias
        shift = None if bias is None else (bias.float() * (1 - magnitudes)).to(dtype)
    # In the layout of `lora_B`, whose weight it is where nothing was changed.
    transposed = upper.to(dtype).T

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args or kwargs or not adapter.applies or x.dtype != dtype:
            return peft_forward(x, *args, **kwargs)
        output: torch.Tensor = adapter.base(x)
        if output.dtype != dtype or not output.is_contiguous():
            output = output.to(dtype, memory_format=torch.contiguous_format)
        rows = output.view(-1, output.shape[-1])
        if factors is not None:
            rows.mul_(factors)
            if shift is not None:
                rows.add_(shift)
        rows.addmm_(thin.product(x, number), transposed)
        return output

    return forward
