"""A pack through a model with Liger's kernels and without.

TRITON_INTERPRET=1 python -m tests.compat.liger_trial FAMILY

Prints one JSON object: for LoRA and full training how far loss and gradients are apart, as shares of the largest; how
many parts of the model computed with the kernels; and which still do afterwards.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import liger_kernel.ops.rms_norm
import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

from medqa_finetune.model.attention import attention_per_pair
from medqa_finetune.model.kernels import training_kernels
from medqa_finetune.training.batches import Batch, concatenate
from medqa_finetune.training.loss import AnswerLoss
from scripts.small_models import write_micro_model
from tests.training.trial import load, make_config

METHODS: dict[str, dict[str, Any]] = {"lora": {}, "full": {"trains": "all"}}


def teach_interpreter() -> None:
    """Give Triton's interpreter two things that its compiler has: numbers of type float, and CUDA's `rsqrt`."""
    original: Callable[[Any], Any] = interpreter._implicit_cvt

    def convert(argument: Any) -> Any:
        if isinstance(argument, float):
            return tl.tensor(interpreter.TensorHandle(np.array([argument], np.float32), tl.float32), tl.float32)
        return original(argument)

    interpreter._implicit_cvt = convert
    # Looked up when it is called: the interpreter puts its own operations into `tl` meanwhile.
    liger_kernel.ops.rms_norm.rsqrt = lambda number: tl.rsqrt(number)  # noqa: PLW0108


def loss_and_gradients(model: Any, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    with attention_per_pair(model):
        loss = AnswerLoss(model)(model, batch)
    return loss.detach(), list(torch.autograd.grad(loss, trained))


def bound(model: Any) -> list[str]:
    """Return the parts of a model whose forward pass is Liger's."""
    return [
        name
        for name, part in model.named_modules()
        if "forward" in vars(part) and "liger" in vars(part)["forward"].__func__.__module__
    ]


def main(family: str) -> None:
    """Compare, and print what was found."""
    teach_interpreter()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = write_micro_model(Path(folder), family)
        for method, settings in METHODS.items():
            loaded, sets = load(path, make_config(settings))
            model: Any = loaded.model.train()
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, std=0.02)  # zeros leave the other half without a gradient
            batch = concatenate([sets.train[pair] for pair in (0, 1, 3)])
            loss, gradients = loss_and_gradients(model, batch)
            with training_kernels("liger", model):
                found["replaced"] = len(bound(model))
                other, others = loss_and_gradients(model, batch)
            found["left"] = bound(model)
            apart = max((a - b).abs().max().item() for a, b in zip(gradients, others, strict=True))
            largest = max(gradient.abs().max().item() for gradient in gradients)
            found[method] = {"loss": ((other - loss).abs() / loss).item(), "gradients": apart / largest}
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
