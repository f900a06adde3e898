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

# Optimizers whose state several processes can divide.
DIVISIBLE = ("adamw_torch_fused", "adamw_torch")


class Full(ModelMethod):
    """Every weight is trained, in fp32."""

    kind = "all"
    without_effect = ("method.rank", "method.alpha", "method.dropout", "method.target_modules")
    variants = ("base", "quantized", "merged")

    def faults(self) -> Iterator[Fault]:
        """Yield faults of quantization, and of settings that only adapters have."""
        if self.settings.quantization != "none":
            problem = "quantized weights cannot be trained, which method.trains=all asks for"
            got, allowed = self.settings.quantization, ("none",)
            yield Fault("conflict", problem, key="method.quantization", got=got, allowed=allowed)
        for key in ("rslora", "dora", "loraplus_ratio", "target_parameters"):
            value = getattr(self.settings, key)
            if value not in (False, None):
                yield Fault("conflict", "needs method.trains=adapter, not all", key=f"method.{key}", got=value)

    def sharding_faults(self) -> Iterator[Fault]:
        """Yield faults of optimizers whose state is not divided with the weights."""
        for key in ("optimizer", "optimizer_without_cuda"):
            name = getattr(self.settings, key)
            if name not in DIVISIBLE:
                problem = "train.sharding=full divides the state of torch's AdamW alone"
                hint = "Paged and 8-bit optimizers of bitsandbytes fail at checkpoints of divided weights."
                yield Fault("conflict", problem, key=f"method.{key}", got=name, allowed=DIVISIBLE, hint=hint)

    def trainable_parameters(self, size: ModelSize) -> int:
        """Return the number of all weights, since all are trained."""
        return size.parameters

    def weight_bytes(self, size: ModelSize, width: int) -> int:
        """Return the memory of fp32 weights, and under autocast of a half-precision copy of every matrix, in bytes."""
        copies = (size.linear_weights + size.expert_weights) * width if width < WIDTH["fp32"] else 0
        return size.parameters * WIDTH["fp32"] + copies

    def training_flops(self, size: ModelSize) -> Flops:
        """Return three forward passes: six FLOPs per weight (Chowdhery et al. 2022, arXiv:2204.02311, appendix B)."""
        return self.forward_flops(size).times(3)

    def base_precision(self, precision: Precision) -> Precision:
        """Return fp32, since half precision loses small updates."""
        return "fp32"

    def apply(self, base: "PreTrainedModel") -> "PreTrainedModel":
        """Make every weight trainable."""
        base.requires_grad_(True)
        return base

    def restore(self, model: "PreTrainedModel", folder: Path) -> None:
        """Load all weights; tied weights share storage and are not in the files."""
        from medqa_finetune.compat.transformers import tied_weights
        from medqa_finetune.methods.shared.trained_files import check_fit, read_weights

        weights = read_weights(folder, "model*.safetensors")
        check_fit(weights, model.state_dict(), folder, optional=tied_weights(model))
        model.load_state_dict(weights, strict=False)
