"""Computes LoRA layers in fewer passes over memory than peft's: the same sums, and the same parameters.

peft computes `base(x) + B(A(dropout(x))) * scale` as six operations with a gradient each. Here a matrix product adds
the scaled product of B onto the base's output, in place, and the gradient of x is summed by the matrix products
themselves. Layers that read the same input, such as q, k and v, share one function: without dropout, also one product
with all their matrices A.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

from medqa_finetune.compat.peft import LinearAdapter, linear_adapters
from medqa_finetune.compat.torch import is_frozen_linear, version_of
from medqa_finetune.methods.shared.drop_out import draw_dropped, drop_

# Names of layers that read the same input, in the order in which they are called. A layer that is called with another
# input all the same is computed for that.
SHARING = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))

Outputs = tuple[torch.Tensor, ...]


@contextmanager
def fused_adapters(model: Any, *, enabled: bool) -> Iterator[int]:
    """Make a model's plain LoRA layers compute in fused form inside the block; yields how many do.

    Layers with more than peft's plain form (DoRA, adapters of embeddings, biases) keep peft's own forward pass.
    """
    found = linear_adapters(model) if enabled else []
    try:
        for group in map(_Group, sharing_input(found, lambda adapter: is_frozen_linear(adapter.base))):
            for number, adapter in enumerate(group.adapters):
                adapter.layer.forward = _forward(group, number, adapter.layer.forward)
        yield len(found)
    finally:
        for adapter in found:
            adapter.layer.__dict__.pop("forward", None)


def sharing_input(
    adapters: Sequence[LinearAdapter], can_share: Callable[[LinearAdapter], bool] = lambda adapter: True
) -> list[tuple[LinearAdapter, ...]]:
    """Return layers in groups that read the same input; one that cannot share is a group of its own."""
    by_place: dict[tuple[str, int], list[LinearAdapter]] = {}
    for number, adapter in enumerate(adapters):
        shared = [at for at, names in enumerate(SHARING) if adapter.name in names and can_share(adapter)]
        by_place.setdefault((adapter.parent, shared[0]) if shared else ("", -1 - number), []).append(adapter)
    return [tuple(members) for members in by_place.values()]


@dataclass
class _Group:
    """Layers that read the same input.

    Attributes:
        adapters: The layers.
        ready: Outputs of those not called yet, by number, for `given`.
        given: The input.
        version: Its version, which changes when it is modified.
    """

    adapters: tuple[LinearAdapter, ...]
    ready: dict[int, torch.Tensor] = field(default_factory=dict)
    given: torch.Tensor | None = None
    version: int = 0

    def output(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """Return the output of a layer; with the first of a group, those of the others are computed."""
        if x is not self.given or version_of(x) != self.version or number not in self.ready:
            together = self.adapters if number == 0 and self._all_alike() else (self.adapters[number],)
            found = _compute(x, together)
            if len(together) == 1:
                return found[0]
            self.ready, self.given, self.version = dict(enumerate(found)), x, version_of(x)
        result = self.ready.pop(number)
        if not self.ready:
            self.given = None
        return result

    def _all_alike(self) -> bool:
        return all(each.applies and is_frozen_linear(each.base) for each in self.adapters)


def _forward(group: _Group, number: int, peft_forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    adapter = group.adapters[number]

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args or kwargs or not adapter.applies or _dtype(x, adapter) is None:
            return peft_forward(x, *args, **kwargs)
        return group.output(number, x)

    return forward


def _dtype(x: torch.Tensor, adapter: LinearAdapter) -> torch.dtype | None:
    """Return the type to compute in; None where peft converts between types without autocast."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    is_torch, dtype = is_frozen_linear(adapter.base), adapter.lower.weight.dtype
    alike = x.dtype == dtype and (not is_torch or adapter.base.weight.dtype == dtype)
    return dtype if alike else None


def _compute(x: torch.Tensor, adapters: tuple[LinearAdapter, ...]) -> Outputs:
    dtype = _dtype(x, adapters[0])
    matrices = [weight for each in adapters for weight in (each.lower.weight, each.upper.weight)]
    bases = tuple(each.base if is_frozen_linear(each.base) else None for each in adapters)
    scales = tuple(each.scale for each in adapters)
    rates = tuple(each.dropout.p if each.dropout.training and hasattr(each.dropout, "p") else 0.0 for each in adapters)
    outputs: Outputs = _FusedLinear.apply(x, _Plan(dtype, bases, scales, rates), *matrices)  # type: ignore[no-untyped-call]
    if bases[0] is None:  # bitsandbytes computes its own; one kernel adds the two
        below = adapters[0].base(x)
        return (below + outputs[0].to(below.dtype),)
    return outputs


@dataclass(frozen=True)
class _Plan:
    """What a call computes.

    Attributes:
        dtype: Type to compute in.
        bases: The layers below; None for one that is added by the caller.
        scales: Of the products.
        rates: Probabilities of dropping an element.
    """

    dtype: torch.dtype | None
    bases: tuple[torch.nn.Linear | None, ...]
    scales: tuple[float, ...]
    rates: tuple[float, ...]

    def weight(self, number: int) -> torch.Tensor | None:
        base = self.bases[number]
        return None if base is None else base.weight.to(self.dtype)

    @property
    def drops(self) -> bool:
        return any(self.rates)


class _FusedLinear(torch.autograd.Function):
    """y_i = W_i x + b_i + scale_i B_i A_i dropout(x), for layers i with the same input."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, plan: _Plan, *matrices: torch.Tensor) -> Outputs:
        rows = x.reshape(-1, x.shape[-1]).to(plan.dtype)
        lowers = [each.to(plan.dtype) for each in matrices[::2]]
        uppers = [each.to(plan.dtype) for each in matrices[1::2]]
        dropped = [draw_dropped(rows.numel(), rate, rows.device) for rate in plan.rates if rate]
        if plan.drops:
            marks = iter(dropped)
            thin = [
                drop_(rows.clone(memory_format=torch.contiguous_format), next(marks)) @ lower.T / (1 - rate)
                if rate
                else rows @ lower.T
                for lower, rate in zip(lowers, plan.rates, strict=True)
            ]
        else:
            thin = list(torch.split(rows @ torch.cat(lowers).T, [len(each) for each in lowers], dim=1))
        outputs = []
        for number, (base, upper) in enumerate(zip(plan.bases, uppers, strict=True)):
            if base is None:
                output = (thin[number] @ upper.T).mul_(plan.scales[number])
            else:
                bias = None if base.bias is None else base.bias.to(plan.dtype)
                output = functional.linear(rows, base.weight.to(plan.dtype), bias)
                output.addmm_(thin[number], upper.T, alpha=plan.scales[number])
            outputs.append(output.view(*x.shape[:-1], -1))
        ctx.plan, ctx.dtype, ctx.shape, ctx.layers = plan, x.dtype, x.shape, len(thin)
        ctx.save_for_backward(rows, *matrices, *thin, *dropped)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        plan, layers = ctx.plan, ctx.layers
        rows, *saved = ctx.saved_tensors
        matrices, thin, dropped = saved[: 2 * layers], saved[2 * layers : 3 * layers], saved[3 * layers :]
        outer = [each.reshape(-1, each.shape[-1]).to(plan.dtype) for each in gradients]
        lowers = [each.to(plan.dtype) for each in matrices[::2]]
        inner = [
            (gradient @ upper.to(plan.dtype)).mul_(scale)
            for gradient, upper, scale in zip(outer, matrices[1::2], plan.scales, strict=True)
        ]
        of_uppers = [
            (gradient.T @ low).mul_(scale) for gradient, low, scale in zip(outer, thin, plan.scales, strict=True)
        ]
        of_rows = _through_bases(plan, outer) if ctx.needs_input_grad[0] else None
        if plan.drops:
            of_lowers, of_rows = _through_dropout(
                plan, rows, (lowers, inner, dropped), of_rows, ctx.needs_input_grad[0]
            )
        else:
            together = torch.cat(inner, dim=1)
            of_lowers = list(torch.split(together.T @ rows, [len(each) for each in lowers]))
            if ctx.needs_input_grad[0]:
                of_rows = _add_product(of_rows, together, torch.cat(lowers))
        of_x = None if of_rows is None else of_rows.view(ctx.shape).to(ctx.dtype)
        pairs = zip(of_lowers, of_uppers, strict=True)
        of_matrices = [gradient for pair in pairs for gradient in pair]
        return (of_x, None, *(each.to(own.dtype) for each, own in zip(of_matrices, matrices, strict=True)))


def _through_bases(plan: _Plan, outer: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Return the gradient of the input that comes through the frozen matrices."""
    total = None
    for number, gradient in enumerate(outer):
        weight = plan.weight(number)
        if weight is not None:
            total = _add_product(total, gradient, weight)
    return total


def _through_dropout(
    plan: _Plan,
    rows: torch.Tensor,
    parts: tuple[Sequence[torch.Tensor], ...],
    of_rows: torch.Tensor | None,
    needs_input: bool,
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Return the gradients of the matrices A, and that of the input with what comes through them added."""
    lowers, inner, dropped = parts
    marks, of_lowers = iter(dropped), []
    for lower, gradient, rate in zip(lowers, inner, plan.rates, strict=True):
        mark = next(marks) if rate else None
        scaled = gradient / (1 - rate)
        of_lowers.append(
            scaled.T @ (rows if mark is None else drop_(rows.clone(memory_format=torch.contiguous_format), mark))
        )
        if needs_input:
            through = scaled @ lower
            if mark is not None:
                drop_(through, mark)
            of_rows = through if of_rows is None else of_rows.add_(through)
    return of_lowers, of_rows


def _add_product(total: torch.Tensor | None, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left @ right if total is None else total.addmm_(left, right)
