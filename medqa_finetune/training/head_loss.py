"""The loss of a frozen head's logits with its gradient, in one pass: no logits are kept or computed again."""

from typing import Any

import torch
from torch.nn import functional

from medqa_finetune.compat.torch import is_frozen_linear


def is_fusible(head: Any, states: torch.Tensor) -> bool:
    """Say whether `HeadLoss` can compute a head's loss.

    Not in fp16, where gradients that no scaler has enlarged yet would vanish.
    """
    autocast = torch.is_autocast_enabled(states.device.type)
    dtype = torch.get_autocast_dtype(states.device.type) if autocast else states.dtype
    return (
        is_frozen_linear(head)
        and (autocast or head.weight.dtype == states.dtype)
        and dtype != torch.float16
        and states.requires_grad
        and torch.is_grad_enabled()
    )


class HeadLoss(torch.autograd.Function):
    """The summed cross-entropy, in nats, of a frozen linear head.

    The gradient of the states is computed at once, chunk by chunk: of the logits and their log-probabilities, one chunk
    exists at a time.
    """

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, targets: torch.Tensor, head: torch.nn.Linear, rows: int
    ) -> torch.Tensor:
        """Return the loss, a scalar in fp32.

        Args:
            states: Of shape (answer tokens, width).
            targets: Ids, of shape (answer tokens,).
            head: Of shape (vocabulary, width).
            rows: Answer tokens of a chunk.
        """
        autocast = torch.is_autocast_enabled(states.device.type)
        dtype = torch.get_autocast_dtype(states.device.type) if autocast else states.dtype
        weight = head.weight.to(dtype)
        bias = None if head.bias is None else head.bias.to(dtype)
        gradient = torch.empty_like(states)
        losses = [torch.zeros((), device=states.device)] if not len(targets) else []
        for begin in range(0, len(targets), rows):
            part, ids = states[begin : begin + rows].to(dtype), targets[begin : begin + rows, None]
            values = functional.log_softmax(functional.linear(part, weight, bias).float(), dim=-1)
            losses.append(-values.gather(1, ids).sum())
            values.exp_()
            values.scatter_add_(1, ids, values.new_full((1, 1), -1.0).expand_as(ids))
            gradient[begin : begin + rows] = values.to(dtype) @ weight
            del values
        ctx.save_for_backward(gradient)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[Any, ...]:
        """Scale the gradient by that of the loss."""
        (gradient,) = ctx.saved_tensors
        return gradient * outer.to(gradient.dtype), None, None, None
