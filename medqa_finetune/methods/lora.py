"""LoRA (Hu et al. 2021, arXiv:2106.09685) and its variants: low-rank adapters on frozen weights.

With `method.quantization` the frozen weights are quantized (QLoRA: Dettmers et al. 2023, arXiv:2305.14314).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medqa_finetune.architecture.flops import Flops, forward_flops
from medqa_finetune.architecture.size import HEAD, ModelSize, layer_number
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.methods.base import EXCHANGE_INSTEAD, ModelMethod
from medqa_finetune.methods.shared.targets import (
    adapted_matrices,
    adapted_parameters,
    adapter_weights,
    multiplied_weights,
)
from medqa_finetune.precision import WIDTH, Precision

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from transformers import PreTrainedModel, TrainingArguments

# Prefixes of transformers' optimizer names that LoRA+ supports.
ADAMW = ("adamw_", "paged_adamw_")
# Modules that read a layer's input: in the lowest trained layer, no gradient is needed below these.
INPUT_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn")


class Lora(ModelMethod):
    """Low-rank adapters on frozen, possibly quantized, weights."""

    kind = "adapter"
    variants = ("base", "quantized", "lora", "lora_quantized", "merged")

    @property
    def can_fuse(self) -> bool:
        """Whether there are plain adapters: DoRA's also scale the sum, those on parameters change the weights."""
        return not self.settings.dora and self.settings.target_parameters is None

    def faults(self) -> Iterator[Fault]:
        """Yield faults of LoRA+ with an optimizer other than AdamW, and of adapters on parameters that peft lacks."""
        ratio = self.settings.loraplus_ratio
        for key in ("optimizer", "optimizer_without_cuda"):
            name = getattr(self.settings, key)
            if ratio is not None and not name.startswith(ADAMW):
                problem = f"must begin with {' or '.join(ADAMW)}: LoRA+ (method.loraplus_ratio={ratio:g}) needs AdamW"
                yield Fault("conflict", problem, key=f"method.{key}", got=name)

        if self.settings.target_parameters is not None:
            for key, allowed in (("dropout", "0"), ("dora", "false")):
                value = getattr(self.settings, key)
                if value:
                    problem = (
                        "is not possible with method.target_parameters, whose adapters change the weights themselves"
                    )
                    yield Fault("conflict", problem, key=f"method.{key}", got=value, allowed=(allowed,))

    def sharding_faults(self) -> Iterator[Fault]:
        """Yield why processes that train together cannot divide the weights."""
        got = self.settings.quantization
        if got == "none":
            yield from super().sharding_faults()
        else:
            stored = "int8" if got == "int8" else "bytes of two 4-bit weights each"
            problem = f"train.sharding=full divides weights in floating point, and these are stored as {stored}"
            yield Fault(
                "conflict", problem, key="method.quantization", got=got, allowed=("none",), hint=EXCHANGE_INSTEAD
            )

    def trainable_parameters(self, size: ModelSize) -> int:
        """Return the number of weights of all adapters; every expert has its own."""
        experts = adapted_parameters(size, self.settings).values()
        return adapter_weights(adapted_matrices(size, self.settings), self.settings) + self.settings.rank * sum(
            count * (rows + columns) for count, rows, columns in experts
        )

    def weight_bytes(self, size: ModelSize, width: int) -> int:
        """Return the memory of the base and of the adapters, which are in fp32, in bytes.

        Embeddings and heads with an adapter count twice: merging needs a copy of weights that both share.
        """
        copies = self._embedding_weights(size) * width
        return super().weight_bytes(size, width) + copies + self.trainable_parameters(size) * WIDTH["fp32"]

    def saved_bytes(self, size: ModelSize) -> int:
        """Return the size of the adapters on disk, in bytes, and of the embeddings that peft saves with theirs."""
        return super().saved_bytes(size) + self._embedding_weights(size) * WIDTH["fp32"]

    def _embedding_weights(self, size: ModelSize) -> int:
        """Return the weights of embeddings and heads that have an adapter."""
        adapted = adapted_matrices(size, self.settings)
        return sum(rows * columns for name, (rows, columns) in adapted.items() if name in size.embeddings)

    def forward_flops(self, size: ModelSize) -> Flops:
        """Return the FLOPs of one forward pass.

        Without the work per pass of DoRA and of adapters on experts, which does not depend on the tokens.
        """
        return forward_flops(size, multiplied_weights(self.adapted(size), self.settings))

    def adapted(self, size: ModelSize) -> dict[str, tuple[int, int]]:
        """Return (rows, columns) that a token passes of everything with an adapter, by name."""
        parameters = adapted_parameters(size, self.settings)
        passed = {name: min(count, size.experts_per_token) for name, (count, _, _) in parameters.items()}
        of_parameters = {
            name: (passed[name] * rows, passed[name] * columns) for name, (_, rows, columns) in parameters.items()
        }
        return adapted_matrices(size, self.settings) | of_parameters

    def training_flops(self, size: ModelSize) -> Flops:
        """Return the FLOPs of a forward and a backward pass.

        Backward takes two per weight for the gradient of a matrix's input, if something below it is trained, and two
        more for the gradient of the weight, if it is trained; attention takes twice its forward cost (Chowdhery et al.
        2022, arXiv:2204.02311, appendix B, for training every weight: six per weight). So frozen weights cost four.

        Exact if all linear layers have adapters. Otherwise slightly high: the lowest layer with an adapter counts as if
        all of its matrices had one. The same holds for the lowest layer of Phi, whose MLP also reads the layer's input.
        """
        forward, rank = self.forward_flops(size), self.settings.rank
        adapted = self.adapted(size)
        lowest = min((size.layers if name.endswith(HEAD) else _layer(name) for name in adapted), default=0)
        crossed = {
            name: shape
            for name, shape in size.linear.items()
            if _layer(name) > lowest or (_layer(name) == lowest and name.split(".")[-1] not in INPUT_PROJECTIONS)
        }
        weights = sum(rows * columns for rows, columns in crossed.values())
        experts = {name: shape for name, shape in size.experts.items() if _layer(name) >= lowest}
        weights += sum(size.experts_per_token * rows * columns for _, rows, columns in experts.values())
        crossed |= {name: size.passed_experts[name] for name in experts}
        # Both halves of an adapter are trained, and B always passes a gradient to A.
        trained = multiplied_weights(adapted, self.settings)
        to_lower = rank * sum(rows for rows, _ in adapted.values())
        to_input = rank * sum(columns for name, (_, columns) in adapted.items() if name in crossed)
        return Flops(
            per_token=forward.per_token + 2 * (weights + trained + to_lower + to_input),
            per_answer_token=2 * forward.per_answer_token,
            per_attended=forward.per_attended + 2 * 4 * sum(size.attention_widths[lowest:]),
        )

    def apply(self, base: "PreTrainedModel") -> "PreTrainedModel":
        """Add adapters to the target modules; their initial update is zero."""
        from medqa_finetune.methods.shared.adapters import add_adapters

        return add_adapters(base, self.settings)

    def optimizer(self, model: "PreTrainedModel", arguments: "TrainingArguments") -> "Optimizer | None":
        """Return an optimizer with two learning rates for LoRA+, None for LoRA."""
        from medqa_finetune.methods.shared.adapters import loraplus_optimizer

        ratio = self.settings.loraplus_ratio
        return None if ratio is None else loraplus_optimizer(model, ratio, arguments)

    def save(self, model: "PreTrainedModel", folder: Path) -> None:
        """Write the weights of the adapters, and their settings."""
        from medqa_finetune.methods.shared.adapters import save_adapters

        save_adapters(model, folder)

    def restore(self, model: "PreTrainedModel", folder: Path) -> None:
        """Load the weights of the adapters."""
        from medqa_finetune.methods.shared.adapters import load_adapters, read_adapters

        load_adapters(model, read_adapters(folder), folder)

    def attach(self, base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
        """Return a base model with an adapter that peft saved, with the rank and modules of its own files.

        Raises:
            ModelError: the adapter is damaged, or its layers or shapes do not fit the model.
        """
        from medqa_finetune.methods.shared.adapters import attach_saved

        return attach_saved(base, folder)

    def for_inference(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """Merge adapters into fp32 weights: equal up to rounding, with one matrix product per layer instead of three.

        In half precision or quantized weights, a merge would round away most of a small update, so adapters stay there.
        """
        from medqa_finetune.methods.shared.adapters import is_full_precision, merged

        return merged(model) if self.settings.quantization == "none" and is_full_precision(model) else model

    def merge(self, base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
        """Return the model in fp32 on the CPU, adapters merged into the weights that they were trained on.

        Quantized weights are dequantized first. Quantizing the sum again would round away most of a small update
        (peft#2321, transformers#31293), and the original weights lack the quantization error that the adapter was
        trained with.
        """
        from medqa_finetune.methods.shared.adapters import dequantized, merged_on_cpu

        model = self.apply(dequantized(base))
        self.restore(model, folder)
        return merged_on_cpu(model, folder)

    def plain_form(self, precision: Precision) -> tuple[str, int | None]:
        """Return dtype and rank of what vLLM gets: in fp32 merged weights, in half precision a separate adapter.

        Raises:
            ModelError: DoRA in half precision, which vLLM does not support.
        """
        dtype, _ = super().plain_form(precision)
        if precision == "fp32":
            return dtype, None
        if self.settings.target_parameters is not None:
            problem = f"in {precision} the adapter is not merged into the weights, and vLLM knows none on parameters"
            hint = "Give precision=fp32, or evaluate.backend=transformers."
            got = self.settings.target_parameters
            raise ModelError(Fault("not-supported", problem, key="method.target_parameters", got=got, hint=hint))
        if self.settings.dora:
            problem = f"in {precision} the adapter is not merged into the weights, and vLLM does not know DoRA adapters"
            hint = "Give precision=fp32, or evaluate.backend=transformers."
            raise ModelError(Fault("not-supported", problem, key="method.dora", got=True, hint=hint))
        return dtype, self.settings.rank


def _layer(name: str) -> int:
    """Return the number of a matrix's transformer layer; 0 outside the layers."""
    return layer_number(name) or 0
