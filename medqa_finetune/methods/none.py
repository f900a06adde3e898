"""The untuned base model, a baseline: nothing is trained."""

from pathlib import Path
from typing import TYPE_CHECKING

from medqa_finetune.architecture.flops import Flops
from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.methods.base import ModelMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Untrained(ModelMethod):
    """The base model without training. Only its quantization and `train.max_length` change its predictions."""

    kind = "nothing"
    trains_weights = False
    uses_training_data = False
    unused = (
        "seed",
        "train",
        "method",
        "data.train_size",
        "data.effective_train_size",
        "data.near_duplicate_threshold",
    )
    used_all_the_same = (
        "method.quantization",
        "method.double_quantization",
        "method.compute_dtype",
        "train.max_length",
    )
    variants = ("base", "quantized")

    def trainable_parameters(self, size: ModelSize) -> int:
        """Return 0, since nothing is trained."""
        return 0

    def training_flops(self, size: ModelSize) -> Flops:
        """Return the FLOPs of a forward pass, since there is no backward pass."""
        return self.forward_flops(size)

    def apply(self, base: "PreTrainedModel") -> "PreTrainedModel":
        """Freeze every weight."""
        base.requires_grad_(False)
        return base

    def restore(self, model: "PreTrainedModel", folder: Path) -> None:
        """Do nothing: no weights were saved."""
