"""The one numeric form in which every model answers: behind training, after a restart, in a chat, measured, untuned."""

import logging
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from medqa_finetune.compat.peft import adapters, bare
from medqa_finetune.compat.transformers import is_kept_in_fp32
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.shared.folded_adapters import fold_adapters
from medqa_finetune.model.fp32_blocks import hold_in_fp32, names_in_fp32
from medqa_finetune.model.load import Device
from medqa_finetune.precision import dtype_of

log = logging.getLogger(__name__)


def answering_model(model: PreTrainedModel, method: MethodConfig, device: Device) -> PreTrainedModel:
    """Return a model, as a method trained or attached it, ready to answer; the given one is modified in place.

    With full-precision weights an adapter is merged; elsewhere it stays separate, see `answering_form`.
    """
    return answering_form(model_method(method).for_inference(model), device)


def answering_form(model: PreTrainedModel, device: Device) -> PreTrainedModel:
    """Return a model in the numeric form that it answers in, in place, nothing merged.

    Weights are in the precision of the run, as those of the untuned model are loaded: under autocast every product of
    fp32 weights had them in half precision as well. So are adapters, with their scale multiplied in. Quantized weights
    stay, and those that an architecture keeps in fp32, and buffers, as those of rotary embeddings must. Blocks that
    compute in fp32 since fp16 overflows there are in fp32 (`fp32_blocks`).
    """
    dtype = dtype_of(device.precision)
    if adapters(model):
        folded = fold_adapters(model, dtype, names_in_fp32(model))
        log.debug("%d adapters are folded", folded)
    elif dtype != torch.float32:
        base: Any = bare(model)
        for name, weight in base.named_parameters():
            if weight.dtype == torch.float32 and not is_kept_in_fp32(base, name, dtype):
                weight.data = weight.data.to(dtype)
    hold_in_fp32(model)
    return cast(PreTrainedModel, cast(Any, model).eval())
