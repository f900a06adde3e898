"""Attention for pairs laid end to end in one row: each by itself, so that cost grows with the pairs' own lengths."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "medqa_per_pair"

log = logging.getLogger(__name__)


def attend_per_pair(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    pair_lengths: list[int],
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Run torch's causal attention on each pair of a row by itself.

    Args:
        module: The attention layer.
        query: Of shape (1, heads, tokens, width); `key` and `value` likewise, with as many or fewer heads.
        attention_mask: None; the lengths say it all.
        pair_lengths: Tokens of each pair, in order; they add up to `tokens`.
        dropout: Probability of dropping an attention weight.
        scaling: Factor of the scores; None for 1 / sqrt(width).

    Returns:
        The attended values, of shape (1, tokens, heads, width), and no weights.
    """
    parts = zip(*(torch.split(states, pair_lengths, dim=2) for states in (query, key, value)), strict=True)
    attended = [
        sdpa_attention_forward(module, part[0], part[1], part[2], None, dropout, scaling, is_causal=True)[0]
        for part in parts
    ]
    return torch.cat(attended, dim=1), None


def _no_mask(*arguments: Any, **options: Any) -> None:
    """Build no mask: a row of n tokens would need one of n x n."""


AttentionInterface.register(NAME, attend_per_pair)
AttentionMaskInterface.register(NAME, _no_mask)


@contextmanager
def attention_per_pair(model: Any) -> Iterator[None]:
    """Let a model, with adapters or without, attend per pair while the block runs; batches must bring `pair_lengths`.

    An architecture that cannot take another attention keeps its own, which builds a block mask from the position ids:
    the same result, at a cost that grows with the square of the row.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = base.config._attn_implementation
    if not base._can_set_attn_implementation():
        log.warning("%s takes no other attention: training with a block mask, slower.", type(base).__name__)
        yield
        return
    base.set_attn_implementation(NAME)
    try:
        yield
    finally:
        base.set_attn_implementation(before)
