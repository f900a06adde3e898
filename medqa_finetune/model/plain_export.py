"""Exports a trained model as plain weights, for programs that support neither peft nor bitsandbytes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from medqa_finetune.compat.peft import adapters
from medqa_finetune.compat.transformers import dequantize, is_quantized
from medqa_finetune.methods.shared.adapters import attach_saved, merged, save_adapters


@dataclass(frozen=True)
class Plain:
    """An exported model.

    Attributes:
        model: Folder of weights that are not quantized.
        dtype: torch's name of the weights' dtype.
        adapter: Folder of the adapter of these weights; None if there is none, or it was merged.
        rank: Rank of the adapter; None without one.
    """

    model: Path
    dtype: str
    adapter: Path | None = None
    rank: int | None = None


def write_plain(model: PreTrainedModel, folder: Path) -> Plain:
    """Write a trained model, from `for_inference`, into new folders below `folder`; it is modified in place.

    4-bit weights are dequantized, which gives the values that they are multiplied as. As in `for_inference`, an adapter
    is merged into fp32 weights, and stays separate with half-precision weights.
    """
    adapter, target = folder / "adapter", folder / "model"
    base, rank = _lift_adapter(model, adapter)
    if is_quantized(base):
        base = dequantize(base)
    merges = rank is not None and base.dtype == torch.float32
    if merges:
        base = merged(attach_saved(base, adapter))
    base.save_pretrained(target)
    dtype = str(base.dtype).removeprefix("torch.")
    return Plain(target, dtype) if merges or rank is None else Plain(target, dtype, adapter, rank)


def _lift_adapter(model: PreTrainedModel, folder: Path) -> tuple[PreTrainedModel, int | None]:
    """Write a model's adapter into a folder; return the base without it, and its rank (None without an adapter).

    The model is modified in place.
    """
    settings = adapters(model)
    if not settings:
        return model, None
    adapted, rank = cast(Any, model), max(each.r for each in settings.values())
    save_adapters(model, folder)
    return cast(PreTrainedModel, adapted.unload()), rank
