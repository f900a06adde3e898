"""From the base model to one that trains as the method says. The only code that knows LoRA."""

from collections.abc import Callable
from typing import cast

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError


def apply_method(base: PreTrainedModel, method: MethodConfig) -> PreTrainedModel:
    """Return the model to train: adapters added, or weights unfrozen, or everything frozen.

    Raises:
        ModelError: `method.target_modules` names no module of this model.
    """
    return METHODS[method.trains](base, method)


def _train_nothing(base: PreTrainedModel, method: MethodConfig) -> PreTrainedModel:
    base.requires_grad_(False)
    return base


def _train_all(base: PreTrainedModel, method: MethodConfig) -> PreTrainedModel:
    base.requires_grad_(True)
    return base


def _train_adapter(base: PreTrainedModel, method: MethodConfig) -> PreTrainedModel:
    # Adapter weights are fp32 (peft's autocast_adapter_dtype) whatever the base is held in.
    modules = method.target_modules
    adapter = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules="all-linear" if modules == "all_linear" else list(modules),
        task_type="CAUSAL_LM",
    )
    try:
        return cast(PreTrainedModel, get_peft_model(base, adapter))
    except ValueError as error:
        parts = base.named_modules()
        linear = sorted({name.rpartition(".")[2] for name, part in parts if isinstance(part, torch.nn.Linear)})
        reason = str(error).splitlines()[0][:200]
        raise ModelError(
            f"method.target_modules={modules}: {reason} Linear layers here: {', '.join(linear)}."
        ) from None


METHODS: dict[str, Callable[[PreTrainedModel, MethodConfig], PreTrainedModel]] = {
    "adapter": _train_adapter,
    "all": _train_all,
    "nothing": _train_nothing,
}


def count_parameters(model: torch.nn.Module, *, trainable_only: bool = False) -> int:
    """Return the number of weights; 4-bit ones, stored two to a byte, are counted one by one."""
    total = 0
    for parameter in model.parameters():
        if trainable_only and not parameter.requires_grad:
            continue
        packed = type(parameter).__name__ == "Params4bit" and getattr(parameter, "bnb_quantized", False)
        total += parameter.numel() * 2 * parameter.element_size() if packed else parameter.numel()
    return total
