"""Full fine-tuning: every weight is trained."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medqa_finetune.architecture.flops import Flops
from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.errors import Fault
from medqa_finetune.methods.base import ModelMethod
from medqa_finetune.precision import WIDTH, Precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(ModelMethod):
    """Every weight is trained, in fp32."""

    kind = "all"
    variants = ("base", "quantized", "merged")

    def faults(self) -> Iterator[Fault]:
        """Yield a fault for quantization, and for every setting that only adapters have."""
        if self.settings.quantization != "none":
            problem = "quantized weights cannot be trained, which method.trains=all asks for"
            got, allowed = self.settings.quantization, ("none",)
            yield Fault("conflict", problem, key="method.quantization", got=got, allowed=allowed)
        for key in ("rslora", "dora", "loraplus_ratio"):
            value = getattr(self.settings, key)
            if value not in (False, None):
                yield Fault("conflict", "needs method.trains=adapter, not all", key=f"method.{key}", got=value)

    def trainable_parameters(self, size: ModelSize) -> int:
        """Return the number of all weights."""
        return size.parameters

    def weight_bytes(self, size: ModelSize, width: int) -> int:
        """Return the memory of fp32 weights, and under autocast of a copy of every matrix in half precision."""
        copies = size.linear_weights * width if width < WIDTH["fp32"] else 0
        return size.parameters * WIDTH["fp32"] + copies

    def training_flops(self, size: ModelSize) -> Flops:
        """Return three times a forward pass: six per weight (Chowdhery et al. 2022, arXiv:2204.02311, appendix B)."""
        return self.forward_flops(size).times(3)

    def base_precision(self, precision: Precision) -> Precision:
        """Return fp32: half precision loses small updates."""
        return "fp32"

    def apply(self, base: "PreTrainedModel") -> "PreTrainedModel":
        """Let every weight be trained."""
        base.requires_grad_(True)
        return base

    def restore(self, model: "PreTrainedModel", folder: Path) -> None:
        """Load all weights; tied ones share theirs and are in no file."""
        from medqa_finetune.compat.transformers import tied_weights
        from medqa_finetune.methods.shared.trained_files import check_fit, read_weights

        weights = read_weights(folder, "model*.safetensors")
        check_fit(weights, model.state_dict(), folder, optional=tied_weights(model))
        model.load_state_dict(weights, strict=False)
