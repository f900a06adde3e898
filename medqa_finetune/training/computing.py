"""How a model computes in training: kernels, fused adapters, attention and precision; for trials as for training."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from medqa_finetune.compat.peft import own_input_precision
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import Config
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.shared.fused_adapters import fused_adapters
from medqa_finetune.model.attention import attention_per_pair
from medqa_finetune.model.kernels import training_kernels
from medqa_finetune.model.load import Device


@contextmanager
def computing(model: Any, config: Config, half: torch.dtype | None, *, fused: bool) -> Iterator[int]:
    """Let a model compute as in training inside the block; yields how many adapters are fused.

    Args:
        model: The model.
        config: Settings of the run.
        half: Precision of autocast, which the caller enters; None for fp32.
        fused: Whether to fuse adapters.
    """
    with ExitStack() as stack:
        stack.enter_context(training_kernels(config.train.kernels, model))
        stack.enter_context(own_input_precision(model, active=half is not None))
        count = stack.enter_context(fused_adapters(model, enabled=fused))
        if config.train.packing:
            stack.enter_context(attention_per_pair(model, config.train.max_length, half))
        yield count


def wants_fused(config: Config, device: Device) -> bool:
    """Return whether a new training fuses adapters, by `train.fused_adapters` and the method."""
    asked = config.train.fused_adapters
    return model_method(config.method).can_fuse and (device.type == "cpu" if asked == AUTO else bool(asked))
