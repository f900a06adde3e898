"""Attention within each example of a packed row, so that its cost grows with the examples' own lengths."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from medqa_finetune.compat.peft import bare
from medqa_finetune.compat.torch import has_variable_length_attention, varlen_attn
from medqa_finetune.compat.transformers import attention_by, is_eight_bit, takes_attention, torch_attention
from medqa_finetune.errors import Fault, ModelError

NAME = "medqa_per_pair"

HAS_VARLEN = has_variable_length_attention()
ATTEND = torch_attention()
# Flash attention needs this compute capability (Ampere) and half precision.
FLASH_CAPABILITY = (8, 0)
# Lengths of the examples that packing is tried on, and the allowed difference of their logits relative to the norm.
TRIAL_LENGTHS = (9, 14)
TRIAL_TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05}
EIGHT_BIT_TOLERANCE = 0.05


def attend_per_pair(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    pair_lengths: list[int],
    pair_bounds: torch.Tensor,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Run causal attention within each example of a packed row: in one kernel if available, else one by one.

    Args:
        module: The attention layer.
        query: Of shape (1, heads, tokens, width); `key` and `value` likewise, with as many or fewer heads.
        attention_mask: Always None; the lengths define the mask.
        pair_lengths: Tokens of each example, in order; their sum is `tokens`.
        pair_bounds: Cumulative sums of the lengths, starting with 0: int32, of shape (examples + 1,).
        scaling: Factor of the attention scores; None for 1 / sqrt(width).
        options: `dropout`, the probability of dropping an attention weight, and `sliding_window`, the window in tokens,
            which no example may exceed. Others are ignored.

    Returns:
        The attended values, of shape (1, tokens, heads, width), and None in place of attention weights.

    Raises:
        ModelError: an example is longer than the sliding window.
    """
    sliding_window, dropout = options.get("sliding_window"), options.get("dropout", 0.0)
    if sliding_window is not None and max(pair_lengths) > sliding_window:
        length, window = max(pair_lengths), int(sliding_window)
        problem = f"a pair of {length} tokens is longer than this model's sliding window of {window}"
        hint = f"Give train.max_length={window}, or train.packing=false."
        raise ModelError(Fault("too-long", problem, key="train.packing", got=True, hint=hint))
    if dropout == 0 and _can_flash(query):
        rows = [states[0].transpose(0, 1) for states in (query, key, value)]
        longest = max(pair_lengths)
        together: Any = varlen_attn(
            rows[0], rows[1], rows[2], pair_bounds, pair_bounds, longest, longest,
            scale=scaling, window_size=(-1, 0), enable_gqa=True,
        )  # fmt: skip
        return together[None], None
    parts = zip(*(torch.split(states, pair_lengths, dim=2) for states in (query, key, value)), strict=True)
    attended = [ATTEND(module, part[0], part[1], part[2], None, dropout, scaling, is_causal=True)[0] for part in parts]
    return torch.cat(attended, dim=1), None


def _can_flash(query: torch.Tensor) -> bool:
    """Return whether torch's variable-length flash attention supports the GPU, the dtype and the head width (≤ 256)."""
    if not (HAS_VARLEN and query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)):
        return False
    return query.shape[-1] <= 256 and torch.cuda.get_device_capability(query.device) >= FLASH_CAPABILITY


def _no_mask(*arguments: Any, **options: Any) -> None:
    """Build no mask: for a row of n tokens it would be n x n."""


AttentionInterface.register(NAME, attend_per_pair)
AttentionMaskInterface.register(NAME, _no_mask)


@contextmanager
def attention_per_pair(model: Any) -> Iterator[None]:
    """Restrict a model's attention to single examples of a packed row inside the block.

    Batches must contain `pair_lengths` and `pair_bounds`. Packing is tried first: an architecture may support no other
    attention, or pass state between examples by other means, as recurrent layers do.

    Args:
        model: With or without adapters.

    Raises:
        ModelError: the outputs of packed examples differ from those of single ones.
    """
    base = bare(model)
    if not takes_attention(base):
        raise _cannot_pack(base, "it supports no attention but its own")
    alone = torch.cat([_states(model, [length]) for length in TRIAL_LENGTHS])
    with attention_by(base, NAME):
        _compare(base, alone, _states(model, list(TRIAL_LENGTHS), packed=True))
        yield


@torch.no_grad()
def _states(model: Any, lengths: list[int], *, packed: bool = False) -> torch.Tensor:
    """Return the logits of synthetic examples, of shape (tokens, vocabulary); the random state is not changed."""
    places = torch.tensor([[place for length in lengths for place in range(length)]], device=model.device)
    # Any token ids will do if both layouts use the same.
    ids = places + torch.tensor([[length for length in lengths for _ in range(length)]], device=model.device)
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=model.device)
    lengths_given = {"pair_lengths": lengths, "pair_bounds": bounds} if packed else {}
    was_training = model.training
    try:
        logits: torch.Tensor = model.eval()(
            input_ids=ids, position_ids=places, use_cache=False, **lengths_given
        ).logits[0]
        return logits
    finally:
        model.train(was_training)


def _compare(base: Any, alone: torch.Tensor, together: torch.Tensor) -> None:
    apart = ((together.float() - alone.float()).norm() / alone.float().norm()).item()
    # NaN passes the comparison: training reports non-finite weights in more detail.
    # 8-bit layers round activations depending on the other tokens of a row.
    if apart > (EIGHT_BIT_TOLERANCE if is_eight_bit(base) else TRIAL_TOLERANCE[together.dtype]):
        raise _cannot_pack(base, f"packed pairs come out {apart:.0%} different from single ones")


def _cannot_pack(base: Any, reason: str) -> ModelError:
    problem = f"{type(base).__name__} cannot be trained on packed pairs ({reason})"
    hint = "Give train.packing=false, which pads pairs of similar length instead."
    return ModelError(Fault("not-supported", problem, key="train.packing", got=True, hint=hint))
