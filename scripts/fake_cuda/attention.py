"""Attention as the GPU would run it: which kernel torch takes, as one launch of its own.

Fake tensors show torch's `scaled_dot_product_attention` as many small operators, whatever kernel a GPU would choose,
and the variable-length kernel without its work. Both are recorded here instead.
"""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from scripts.fake_cuda.record import Attention, Recorder, dtypes_of

# Our file, where the variable-length kernel is called.
OWN = "medqa_finetune.model.attention"
HALVES = (torch.float16, torch.bfloat16)
FLASH_CAPABILITY = (8, 0)
FLASH_WIDTH = 256
# Matrix products of attention: two forward; five backward, one of which repeats the scores.
FORWARD_PRODUCTS, BACKWARD_PRODUCTS = 2, 5


def chosen_kernel(
    states: Sequence[torch.Tensor], capability: tuple[int, int], *, masked: bool, shared_keys: bool
) -> str:
    """Return the kernel that torch ≤ 2.13 takes: `flash`, `efficient` or `math`, by the conditions of its sources.

    Flash attention takes no mask and needs Ampere; the memory-efficient kernel takes no keys shared between heads.
    """
    query = states[0]
    same = len({each.dtype for each in states}) == 1
    has_flash = capability >= FLASH_CAPABILITY
    if same and has_flash and query.dtype in HALVES and not masked and query.shape[-1] <= FLASH_WIDTH:
        return "flash"
    if same and not shared_keys and (query.dtype != torch.bfloat16 or has_flash):
        return "efficient"
    return "math"


class _OneKernel(torch.autograd.Function):
    """Attention as one launch forward and one backward, which keeps what those kernels keep."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Any) -> torch.Tensor:
        recorder, name, flops = call
        with recorder.one_kernel():
            made = query.new_empty((*query.shape[:-1], value.shape[-1]))
            sums = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        recorder.add(f"{name}_attention", [query, key, value, made], FORWARD_PRODUCTS * flops)
        ctx.save_for_backward(query, key, value, made, sums)
        ctx.call = call
        return made

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        query, key, value, made, _ = ctx.saved_tensors
        recorder, name, flops = ctx.call
        with recorder.one_kernel():
            found = [torch.empty_like(each) for each in (query, key, value)]
        recorder.add(
            f"{name}_attention_backward", [query, key, value, made, gradient, *found], BACKWARD_PRODUCTS * flops
        )
        return (*found, None)


def _work(query: torch.Tensor, keys: int, *, causal: bool) -> int:
    """Return the FLOPs of one product of all queries with `keys` keys; a causal kernel passes over half of them."""
    work = 2 * query.numel() * keys
    return work // 2 if causal else work


@contextmanager
def attention_recorded(recorder: Recorder, capability: tuple[int, int]) -> Iterator[None]:
    """Replace torch's attention by one that records the kernel that a GPU of this capability would run."""
    original: Any = functional.scaled_dot_product_attention
    ours: Any = importlib.import_module(OWN)

    def note(call: Attention) -> None:
        recorder.trace.attention[call] += 1

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if query.device.type != "cuda":
            return original(query, key, value, *arguments, **options)
        given = dict(zip(("attn_mask", "dropout_p", "is_causal"), arguments, strict=False)) | options
        if torch.is_autocast_enabled("cuda"):
            query, key, value = (each.to(torch.get_autocast_dtype("cuda")) for each in (query, key, value))
        masked = given.get("attn_mask") is not None
        shared = bool(given.get("enable_gqa")) and query.shape[1] != key.shape[1]
        states = (query, key, value)
        name = chosen_kernel(states, capability, masked=masked, shared_keys=shared)
        note(Attention(name, dtypes_of(states), shapes_of(states), masked, shared))
        if name == "math":
            return original(query, key, value, **given)
        work = _work(query, key.shape[-2], causal=bool(given.get("is_causal")))
        return one_kernel(query, key, value, (recorder, name, work))

    def attend_varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *bounds: Any, **options: Any) -> Any:
        states = (query, key, value)
        note(Attention("varlen", dtypes_of(states), shapes_of(states), False, query.shape[1] != key.shape[1]))
        check_varlen(states)
        # Causal, over examples of the longest one's length; exact where all are equally long.
        return one_kernel(query, key, value, (recorder, "varlen", _work(query, int(bounds[2]), causal=True)))

    one_kernel: Any = _OneKernel.apply
    own_kernel = ours.varlen_attn
    functional.scaled_dot_product_attention = attend
    ours.varlen_attn = attend_varlen
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = original
        ours.varlen_attn = own_kernel


def shapes_of(tensors: Sequence[torch.Tensor]) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of tensors."""
    return tuple(tuple(each.shape) for each in tensors)


def check_varlen(states: Sequence[torch.Tensor]) -> None:
    """Fail where torch's variable-length kernel would."""
    for each in states:
        if each.dtype not in HALVES or each.dim() != 3 or each.shape[-1] > FLASH_WIDTH or each.stride(-1) != 1:
            raise RuntimeError(f"the variable-length kernel takes no {each.dtype} of shape {tuple(each.shape)}")
