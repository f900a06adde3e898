"""transformers: attention, and names that moved between releases."""

import dataclasses
import inspect
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PreTrainedModel,
    TrainingArguments,
)
from transformers.pytorch_utils import Conv1D
from transformers.training_args import OptimizerNames

__all__ = ["Conv1D"]

# Names of the option of gradient checkpointing: the second until 5.22.
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")


def forward_arguments(model: Any) -> Collection[str]:
    """Return the names of the arguments that a model's own `forward` takes."""
    return inspect.signature(model.forward).parameters


def head_width(attention: Any) -> int:
    """Return the width of the heads of an attention layer of Llama, Phi or Qwen2."""
    return int(attention.head_dim)


def share_keys(attention: Any, heads_per_key: int) -> None:
    """Set how many heads share one key-value head in an attention layer of Llama, Phi or Qwen2."""
    attention.num_key_value_groups = heads_per_key


Attend = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]
# The name of the attention that every model's own module defines, and of the function there.
EAGER, EAGER_FUNCTION = "eager", "eager_attention_forward"


def torch_attention() -> Attend:
    """Return transformers' wrapper of torch's `scaled_dot_product_attention`."""
    found: Attend = AttentionInterface()["sdpa"]  # type: ignore[no-untyped-call]
    return found


def torch_attention_mask() -> Callable[..., Any]:
    """Return the function that builds the mask of `torch_attention`."""
    found: Callable[..., Any] = AttentionMaskInterface()["sdpa"]  # type: ignore[no-untyped-call]
    return found


def eager_attention(module: torch.nn.Module) -> Attend | None:
    """Return the attention function of the file that defines an attention layer; None where it has none.

    It knows what torch's does not: limits of scores in Gemma 2, sinks in gpt-oss.
    """
    found: Attend | None = getattr(sys.modules.get(type(module).__module__), EAGER_FUNCTION, None)
    return found


def attention_name(model: PreTrainedModel) -> str:
    """Return the name of a model's attention function, such as `sdpa` or `eager`."""
    return str(model.config._attn_implementation)


def takes_attention(model: PreTrainedModel) -> bool:
    """Return whether `set_attn_implementation` has an effect on a model; elsewhere it only warns."""
    return bool(model._can_set_attn_implementation())


@contextmanager
def attention_by(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Use the registered attention function `name` in a model without adapters while the block runs."""
    before = attention_name(model)
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def is_quantized(model: Any) -> bool:
    """Return whether a model has quantized weights."""
    return bool(getattr(model, "is_quantized", False))


def is_eight_bit(model: Any) -> bool:
    """Return whether a model has 8-bit weights of bitsandbytes."""
    return bool(getattr(model, "is_loaded_in_8bit", False))


def dequantize(model: Any) -> Any:
    """Return the dequantized model; silences transformers' warning about the memory that this needs."""
    logging.getLogger("transformers.integrations.bitsandbytes").setLevel(logging.ERROR)
    return model.dequantize()


def is_kept_in_fp32(model: Any, name: str, dtype: torch.dtype) -> bool:
    """Return whether transformers loads a weight in fp32 although half precision is asked for, as some routers."""
    kept = set(model._keep_in_fp32_modules_strict or ())
    if dtype == torch.float16:
        kept |= set(model._keep_in_fp32_modules or ())
    return any(re.search(re.escape(each).replace(r"\*", ".*"), name) for each in kept)


def tied_weights(model: Any) -> Mapping[str, str]:
    """Return the names of tied weights, each with the name of the weight it is tied to."""
    tied: Mapping[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    return tied


def forget_ties(model: Any) -> None:
    """Let a model whose tied weights have become apart save and load them as such."""
    model.all_tied_weights_keys = {}
    for settings in {id(each): each for each in (model.config, model.config.get_text_config())}.values():
        settings.tie_word_embeddings = False


def optimizer_names() -> list[str]:
    """Return the names of the optimizers that `TrainingArguments(optim=…)` takes."""
    return [str(each.value) for each in OptimizerNames]


def optimizer_name(arguments: TrainingArguments) -> str:
    """Return the optimizer name in training arguments."""
    return str(OptimizerNames(arguments.optim).value)


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Stop Trainer from splitting each batch over all visible GPUs (DataParallel)."""
    arguments._n_gpu = min(1, arguments.n_gpu)


def checkpointing_options(on: bool) -> dict[str, Any]:
    """Return the arguments of `TrainingArguments` that enable or disable non-reentrant gradient checkpointing."""
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    name = next(name for name in CHECKPOINTING if name in known)
    return {name: on, f"{name}_kwargs": {"use_reentrant": False}}


@contextmanager
def gradient_checkpointing(model: Any) -> Iterator[None]:
    """Enable gradient checkpointing in a model, with or without adapters, while the block runs."""
    name = next(name for name in CHECKPOINTING if hasattr(model, f"{name}_enable"))
    getattr(model, f"{name}_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()
