"""Attention within each example of a packed row, so that its cost grows with the examples' own lengths."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from medqa_finetune.compat.peft import bare
from medqa_finetune.compat.torch import has_variable_length_attention, varlen_attn
from medqa_finetune.compat.transformers import (
    EAGER,
    Attend,
    attention_by,
    attention_name,
    eager_attention,
    is_eight_bit,
    takes_attention,
    torch_attention,
)
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.model.attention_kernels import attend_padded, has_flash, needs_expanded_keys

log = logging.getLogger(__name__)

# Our attention functions: one for models that use torch's own, one for those that use that of their own file.
NAME, EAGER_NAME = "medqa_per_pair", "medqa_per_pair_eager"
# Options of attention functions that depend on the positions in a row, and so on the other examples in it.
BY_POSITION = ("position_bias", "indices", "block_indices")

HAS_VARLEN = has_variable_length_attention()
ATTEND = torch_attention()
# Lengths of the examples that packing is tried on, and the allowed difference of their logits relative to the norm.
TRIAL_LENGTHS = (9, 14)
TRIAL_TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05}
EIGHT_BIT_TOLERANCE = 0.05
# Difference of a number of order 1 in half precision; one token more or less in a window makes a larger one.
WINDOW_TOLERANCE = 0.05


@dataclass
class Windows:
    """Windows, in tokens, of the masks that a model asked for, and of the attention layers that were told them."""

    of_masks: set[int] = field(default_factory=set)
    of_layers: set[int] = field(default_factory=set)


# Of the model whose packing is being tried.
seen = Windows()


def attend_per_pair(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    pair_lengths: list[int],
    pair_bounds: torch.Tensor,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Run causal attention within each example of a packed row: in one kernel if available, else one by one.

    Args:
        module: The attention layer.
        query: Of shape (1, heads, tokens, width); `key` and `value` likewise, with as many or fewer heads.
        attention_mask: Always None; the lengths define the mask.
        pair_lengths: Tokens of each example, in order; their sum is `tokens`.
        pair_bounds: Cumulative sums of the lengths, starting with 0: int32, of shape (examples + 1,).
        options: `dropout`, the probability of dropping an attention weight; `scaling`, the factor of the attention
            scores, None for 1 / sqrt(width); `sliding_window`, the tokens, up to itself, that a token attends to.
            Others are passed on to the function that the model uses without packing.

    Returns:
        The attended values, of shape (1, tokens, heads, width), and None in place of attention weights.
    """
    states = _as_computed(query, key, value)
    window, longest = _window(options), max(pair_lengths)
    if window is not None and longest <= window:
        window = None
    dropout, scaling = options.get("dropout", 0.0), options.get("scaling")
    if (
        dropout == 0
        and _can_flash(states[0])
        and (window is None or _flash_keeps_windows(query.device, states[0].dtype))
    ):
        return _flash(states, pair_bounds, longest, window, scaling), None
    if _can_pad(query.device, window, options):
        return attend_padded(states, pair_lengths, scaling=scaling, dropout=dropout), None
    return _one_by_one(ATTEND, module, states, pair_lengths, options), None


def _as_computed(*states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return states in autocast's precision where it is on: rotary embeddings leave those of fp32 weights in fp32."""
    if not (states[0].is_cuda and torch.is_autocast_enabled("cuda")):
        return states
    half = torch.get_autocast_dtype("cuda")
    return tuple(each.to(half) for each in states)


def _can_pad(device: torch.device, window: int | None, options: Mapping[str, Any]) -> bool:
    """Return whether examples are padded together: on a GPU without flash attention, unless options ask for more.

    On a CPU one by one is faster (1.3 to 2.8 times for examples of 50 to 500 tokens, in turns): nothing is moved.
    """
    asked = any(options.get(name) is not None for name in (*BY_POSITION, "softcap"))
    return window is None and not asked and needs_expanded_keys(device)


def _flash(
    states: Sequence[torch.Tensor], bounds: torch.Tensor, longest: int, window: int | None, scaling: float | None
) -> torch.Tensor:
    """Attend within all examples of a row by torch's kernel, whose windows do not count the token itself."""
    query, key, value = (each[0].transpose(0, 1) for each in states)
    together: Any = varlen_attn(
        query, key, value, bounds, bounds, longest, longest, scale=scaling,
        window_size=(-1 if window is None else window - 1, 0), enable_gqa=True,
    )  # fmt: skip
    attended: torch.Tensor = together[None]
    return attended


@cache
def _flash_keeps_windows(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether the kernel's windows are those of transformers' masks, tried on a small example."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 1, 9, 32, generator=generator).to(device, dtype) for _ in range(3))
    bounds = torch.tensor([0, 9], dtype=torch.int32, device=device)
    with torch.no_grad():
        found = _flash((query, key, value), bounds, 9, 3, None)
        mask = _mask(query, 3, additive=False)
        wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
    return bool(((found.float() - wanted.float()).abs() < WINDOW_TOLERANCE).all())


def attend_per_pair_eagerly(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    pair_lengths: list[int],
    pair_bounds: torch.Tensor,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Do what `attend_per_pair` does, one by one by the attention function of the model's own file."""
    attend = eager_attention(module)
    if attend is None:
        raise _cannot_pack(module, "its attention is no function of its file")
    return _one_by_one(attend, module, (query, key, value), pair_lengths, options), None


def _one_by_one(
    attend: Attend,
    module: torch.nn.Module,
    states: Sequence[torch.Tensor],
    pair_lengths: list[int],
    options: dict[str, Any],
) -> torch.Tensor:
    """Attend within each example by a function of transformers."""
    if given := [name for name in BY_POSITION if options.get(name) is not None]:
        raise _cannot_pack(module, f"its attention depends on {given[0]}")
    window, eager = _window(options), attend is not ATTEND
    attended = []
    for part in zip(*(torch.split(each, pair_lengths, dim=2) for each in states), strict=True):
        tokens = part[0].shape[2]
        # A mask costs memory, and torch's fastest kernels take none.
        windowed = window is not None and tokens > window
        mask = _mask(part[0], window if windowed else None, additive=eager) if eager or windowed else None
        attended.append(attend(module, *part, mask, **{**options, "is_causal": mask is None})[0])
    return torch.cat(attended, dim=1)


def _window(options: Mapping[str, Any]) -> int | None:
    window = options.get("sliding_window")
    if window is None:
        return None
    seen.of_layers.add(int(window))
    return int(window)


def _mask(query: torch.Tensor, window: int | None, *, additive: bool) -> torch.Tensor:
    """Return the causal mask of one example, of shape (1, 1, tokens, tokens): true, or 0, where a token attends."""
    places = torch.arange(query.shape[2], device=query.device)
    behind = places[:, None] - places[None, :]
    mask = (behind >= 0) if window is None else (behind >= 0) & (behind < window)
    if additive:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
    return mask[None, None]


def _can_flash(query: torch.Tensor) -> bool:
    """Return whether torch's variable-length flash attention supports the GPU, the dtype and the head width (≤ 256)."""
    if not (HAS_VARLEN and query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)):
        return False
    return query.shape[-1] <= 256 and has_flash(query.device)


def _no_mask(*arguments: Any, local_size: int | None = None, **options: Any) -> None:
    """Build no mask: for a row of n tokens it would be n x n."""
    if local_size is not None:
        seen.of_masks.add(int(local_size))


for _name, _attend in ((NAME, attend_per_pair), (EAGER_NAME, attend_per_pair_eagerly)):
    AttentionInterface.register(_name, _attend)
    AttentionMaskInterface.register(_name, _no_mask)


@contextmanager
def attention_per_pair(
    model: Any, max_length: int | None = None, autocast: torch.dtype | None = None
) -> Iterator[None]:
    """Restrict a model's attention to single examples of a packed row inside the block.

    Batches must contain `pair_lengths` and `pair_bounds`. Packing is tried first: an architecture may support no other
    attention, or pass state between examples by other means, as recurrent layers do.

    Args:
        model: With or without adapters.
        max_length: Most tokens of an example; None for any number.
        autocast: Precision of the autocast that the model is trained under, if any: it is tried in that, since the
            precision decides which kernel runs.

    Raises:
        ModelError: the outputs of packed examples differ from those of single ones, or would differ for examples of
            this length.
    """
    base = bare(model)
    if not takes_attention(base):
        raise _cannot_pack(base, "it supports no attention but its own")
    _tell_of_old_torch(base.device)
    with _computed_in(base.device, autocast):
        alone = torch.cat([trial_logits(model, [length]) for length in TRIAL_LENGTHS])
    seen.of_masks.clear()
    seen.of_layers.clear()
    with attention_by(base, EAGER_NAME if attention_name(base) == EAGER else NAME):
        with _computed_in(base.device, autocast):
            together = trial_logits(model, list(TRIAL_LENGTHS), packed=True)
        _compare(base, alone, together)
        _check_windows(base, max_length)
        yield


def _computed_in(device: torch.device, autocast: torch.dtype | None) -> AbstractContextManager[Any]:
    return nullcontext() if autocast is None else torch.autocast(device.type, autocast)


def _tell_of_old_torch(device: torch.device) -> None:
    """Say that this torch lacks the variable-length kernel where the GPU has it: examples are attended one by one."""
    if has_flash(device) and not HAS_VARLEN:
        log.warning(
            "torch %s lacks the variable-length attention that is called here: each example of a pack is attended by "
            "calls of its own, which is slower; torch 2.13 has it",
            torch.__version__,
        )


def _check_windows(base: Any, max_length: int | None) -> None:
    """Refuse examples that are longer than a window that only masks have, such as a chunk's: no mask is built here."""
    only_in_masks = seen.of_masks - seen.of_layers
    if only_in_masks and (max_length is None or max_length > min(only_in_masks)):
        window = min(only_in_masks)
        fault = _cannot_pack(base, f"its layers attend within {window} tokens").faults[0]
        hint = f"{fault.hint} Or give train.max_length={window}."
        raise ModelError(fault.but(hint=hint))


@torch.no_grad()
def trial_logits(model: Any, lengths: list[int], *, packed: bool = False) -> torch.Tensor:
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


def distance(alone: torch.Tensor, together: torch.Tensor) -> float:
    """Return how far two tensors of one shape are apart, relative to the norm of the first."""
    return float((together.float() - alone.float()).norm() / alone.float().norm())


def _compare(base: Any, alone: torch.Tensor, together: torch.Tensor) -> None:
    apart = distance(alone, together)
    # NaN passes the comparison: training reports non-finite weights in more detail.
    # 8-bit layers round activations depending on the other tokens of a row.
    if apart > (EIGHT_BIT_TOLERANCE if is_eight_bit(base) else TRIAL_TOLERANCE[together.dtype]):
        raise _cannot_pack(base, f"packed pairs come out {apart:.0%} different from single ones")


def _cannot_pack(base: Any, reason: str) -> ModelError:
    problem = f"{type(base).__name__} cannot be trained on packed pairs ({reason})"
    hint = "Give train.packing=false, which pads pairs of similar length instead."
    return ModelError(Fault("not-supported", problem, key="train.packing", got=True, hint=hint))
