"""Attention on GPUs without flash attention: no keys shared between heads, and one call for many examples of a row.

Flash attention needs compute capability 8.0 (Ampere). Below, torch's memory-efficient kernel is the fastest one; it
takes no keys and values that heads share (`enable_gqa`), for which torch falls back to products in fp32 with whole
matrices of scores. So keys and values are expanded to all heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from medqa_finetune.compat.transformers import attention_name, takes_attention, torch_attention, torch_attention_mask

# Our attention function for models that use torch's own, on GPUs without flash attention.
EXPANDED_NAME = "medqa_expanded_keys"
TORCH_NAME = "sdpa"
# Flash attention needs this compute capability.
FLASH_CAPABILITY = (8, 0)
# Examples of at least this share of the longest one's length are padded to it and share a call.
PADDED_SHARE = 0.75

ATTEND = torch_attention()


def has_flash(device: torch.device) -> bool:
    """Return whether a GPU has flash attention; False for other devices."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FLASH_CAPABILITY


def needs_expanded_keys(device: torch.device) -> bool:
    """Return whether a device is a GPU whose attention kernels take no keys that heads share."""
    return device.type == "cuda" and not has_flash(device)


def expand_keys_where_needed(model: Any) -> None:
    """Let a model without adapters expand keys and values, in training and answering, if its GPU needs that."""
    if needs_expanded_keys(model.device) and takes_attention(model) and attention_name(model) == TORCH_NAME:
        model.set_attn_implementation(EXPANDED_NAME)


def expanded(states: torch.Tensor, heads: int) -> torch.Tensor:
    """Return keys or values of shape (rows, heads, tokens, width), each repeated for the heads that share it."""
    rows, own, tokens, width = states.shape
    if own == heads:
        return states
    return states[:, :, None].expand(rows, own, heads // own, tokens, width).reshape(rows, heads, tokens, width)


def attend_expanded(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Do what transformers' wrapper of torch's attention does, without keys that heads share.

    For one new token, heads that share a key become queries of one head, which moves no key.
    """
    rows, heads, tokens, _ = query.shape
    own = key.shape[1]
    if attention_mask is not None or own == heads or options.get("position_bias") is not None:
        return ATTEND(module, query, key, value, attention_mask, **options)
    # Without `num_key_value_groups`, by which the wrapper would ask for shared keys.
    plain: Any = SimpleNamespace(is_causal=getattr(module, "is_causal", True))
    if tokens == 1:
        grouped = query.reshape(rows, own, heads // own, -1)
        attended, _ = ATTEND(plain, grouped, key, value, None, **{**options, "is_causal": False})
        # (rows, groups, own, width), where head h is group h % groups of its own key.
        return attended.transpose(1, 2).reshape(rows, 1, heads, -1), None
    return ATTEND(plain, query, expanded(key, heads), expanded(value, heads), None, **options)


AttentionInterface.register(EXPANDED_NAME, attend_expanded)
AttentionMaskInterface.register(EXPANDED_NAME, torch_attention_mask())


@dataclass(frozen=True)
class Padding:
    """How the examples of a row are laid out in padded groups.

    Attributes:
        groups: (examples, tokens of the longest) of each group.
        gather: For every place of all groups its token in the row; padding repeats an example's last token.
        back: For every token of the row its place in the groups.
    """

    groups: tuple[tuple[int, int], ...]
    gather: torch.Tensor
    back: torch.Tensor


def group_lengths(lengths: Sequence[int], share: float = PADDED_SHARE) -> list[list[int]]:
    """Group examples of similar length: none is shorter than this share of the longest of its group."""
    groups: list[list[int]] = []
    for example in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if groups and lengths[example] >= share * lengths[groups[-1][0]]:
            groups[-1].append(example)
        else:
            groups.append([example])
    return groups


def padding_of(lengths: Sequence[int], device: torch.device) -> Padding:
    """Lay the examples of a row out in padded groups; built on the host and copied without waiting."""
    begins = [0, *accumulate(lengths)]
    groups, gather, back = [], list[int](), [0] * begins[-1]
    for group in group_lengths(lengths):
        longest = lengths[group[0]]
        groups.append((len(group), longest))
        for example in group:
            begin, end = begins[example], begins[example + 1]
            back[begin:end] = range(len(gather), len(gather) + end - begin)
            gather += [*range(begin, end), *[end - 1] * (longest - (end - begin))]
    places = torch.tensor([*gather, *back])
    if device.type == "cuda":  # only copies from pinned memory wait for nothing
        places = places.pin_memory()
    places = places.to(device, non_blocking=True)
    return Padding(tuple(groups), places[: len(gather)], places[len(gather) :])


class _LastPadding:
    """The layout of the row that is computed now: the same in all layers, and in the backward pass."""

    def __init__(self) -> None:
        self._of: object = None
        self._padding: Padding | None = None

    def of(self, lengths: Sequence[int], device: torch.device) -> Padding:
        """Return the layout of a row, built at its first layer."""
        key = (tuple(lengths), device)
        if self._padding is None or self._of != key:
            self._of, self._padding = key, padding_of(lengths, device)
        return self._padding


_last = _LastPadding()


def attend_padded(
    states: Sequence[torch.Tensor], lengths: Sequence[int], *, scaling: float | None, dropout: float
) -> torch.Tensor:
    """Run causal attention within each example of a row, in one call for each group of similar lengths.

    Padding comes after an example's own tokens, which attend to no later ones, so that no mask is needed.

    Args:
        states: Query, key and value of shape (1, heads, tokens, width).
        lengths: Tokens of each example.
        scaling: Factor of the scores; None for 1 / sqrt(width).
        dropout: Probability of dropping an attention weight.

    Returns:
        The attended values, of shape (1, tokens, heads, width).
    """
    padding, heads = _last.of(lengths, states[0].device), states[0].shape[1]
    laid = [each[0].transpose(0, 1).index_select(0, padding.gather) for each in states]
    attended, begin = [], 0
    for examples, longest in padding.groups:
        end = begin + examples * longest
        parts = [each[begin:end].view(examples, longest, *each.shape[1:]).transpose(1, 2) for each in laid]
        query, key, value = (expanded(part, heads) for part in parts)
        found = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scaling
        )
        attended.append(found.transpose(1, 2).flatten(0, 1))
        begin = end
    return torch.cat(attended).index_select(0, padding.back)[None]
