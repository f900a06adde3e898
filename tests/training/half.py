"""Training in fp16 without a GPU: accelerate refuses it there, although torch computes it, slowly."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from medqa_finetune.compat.trainer import AdaptedTrainer
from medqa_finetune.model.load import Device
from tests.training import trial

HALF = Device("cpu", "CPU", "fp16")


@contextmanager
def fp16_on_a_cpu(scale: float = 2.0**16) -> Iterator[None]:
    """Let trials train in fp16 inside the block, with a gradient scaler that begins at `scale`."""
    begin: Any = AdaptedTrainer.create_accelerator_and_postprocess

    def begin_with_a_scaler(self: Any) -> None:
        begin(self)
        if self.args.fp16:
            self.accelerator.native_amp = True
            self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdaptedTrainer, "create_accelerator_and_postprocess", begin_with_a_scaler)
        patch.setattr(trial, "CPU", HALF)
        yield
