"""PiSSA (Meng et al. 2024, arXiv:2404.02948): LoRA adapters initialised with the principal part of the weights.

Each adapted matrix W is decomposed, W = R + s·B₀·A₀. s·B₀·A₀ is its truncated singular value decomposition and s is the
adapter's scale. R is frozen, and the adapter B·A is trained from B₀·A₀.

Trained weights are valid only with the R that they were trained on. Decomposing W again would give another R, since
the decomposition is randomised and differs between devices. So A₀ and B₀ are buffers next to A and B. They are in
every checkpoint, and R = W − s·B₀·A₀ is computed from them and W by the same operations each time. `save` writes an
ordinary LoRA adapter of twice the rank for the unchanged W, as peft's documentation suggests:
W + s·[B, −B₀]·[A; A₀] = R + s·B·A. Any program that supports LoRA can load it, with results equal up to rounding.
`restore` recovers all four matrices bit by bit.

peft's `init_lora_weights="pissa_niter_16"` computes the same, but when adapters are added, before it is known whether
training starts or trained weights are loaded; tests/methods/test_pissa.py compares the two.
"""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.methods.base import ModelMethod
from medqa_finetune.methods.lora import Lora
from medqa_finetune.precision import WIDTH

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Power iterations of the randomised SVD; more are slower and hardly closer (Meng et al. 2024, appendix on fast SVD).
ITERATIONS = 16
# peft's name of the only adapter, and our names of the buffers with its initial values.
ADAPTER = "default"
INITIAL_A, INITIAL_B = "lora_initial_A", "lora_initial_B"


class Pissa(Lora):
    """Low-rank adapters initialised with the principal part of the weights."""

    kind = "pissa"

    def faults(self) -> Iterator[Fault]:
        """Yield faults of quantization, which would apply to R and not W, and of DoRA."""
        yield from super().faults()
        if self.settings.quantization != "none":
            problem, got = "is not possible with PiSSA, which changes the frozen weights", self.settings.quantization
            yield Fault("conflict", problem, key="method.quantization", got=got, allowed=("none",))
        if self.settings.target_parameters is not None:
            problem, got = "is not possible with PiSSA, which decomposes linear layers", self.settings.target_parameters
            yield Fault("conflict", problem, key="method.target_parameters", got=got, allowed=("null",))
        if self.settings.dora:
            problem = "is not possible with PiSSA, whose saved form is an ordinary LoRA adapter"
            yield Fault("conflict", problem, key="method.dora", got=True, allowed=("false",))

    @property
    def scale(self) -> float:
        """The factor s of the adapter's update."""
        rank = self.settings.rank
        return self.settings.alpha / (rank**0.5 if self.settings.rslora else rank)

    def weight_bytes(self, size: ModelSize, width: int) -> int:
        """Return the memory of base, adapters, and the adapters' initial values, in bytes."""
        return super().weight_bytes(size, width) + self.trainable_parameters(size) * WIDTH["fp32"]

    def saved_bytes(self, size: ModelSize) -> int:
        """Return the size of the adapters and their initial values on disk, in bytes."""
        return 2 * super().saved_bytes(size)

    def apply(self, base: "PreTrainedModel") -> "PreTrainedModel":
        """Add adapters whose update is zero; `begin` or `restore` decomposes the base.

        A head that shares its weights with the token embedding gets its own, since only the head's are decomposed.

        Raises:
            ModelError: as LoRA, or an adapted module is no linear layer.
        """
        import torch

        from medqa_finetune.methods.shared.adapters import untie_adapted

        model = super().apply(base)
        for name, layer in _layers(model):
            if ADAPTER not in layer.lora_A:
                problem = f"PiSSA decomposes matrices of linear layers, and {name.rpartition('.')[2]} is an embedding"
                got, hint = self.settings.target_modules, "Give method=lora, or other modules."
                raise ModelError(Fault("not-supported", problem, key="method.target_modules", got=got, hint=hint))
        untie_adapted(model)
        for _, layer in _layers(model):
            for name, weight in ((INITIAL_A, layer.lora_A), (INITIAL_B, layer.lora_B)):
                # In its own module, peft saves and loads it as a weight of the adapter.
                holder = torch.nn.Module()
                holder.register_buffer(ADAPTER, torch.zeros_like(weight[ADAPTER].weight))
                layer.add_module(name, holder)
        return model

    def begin(self, model: "PreTrainedModel", seed: int, checkpoint: Path | None) -> None:
        """Decompose the base at the first start; otherwise restore the checkpoint's decomposition."""
        import torch

        if checkpoint is not None:
            self.restore(model, checkpoint)
            return
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for _, layer in _layers(model):
                zeros = [torch.zeros_like(initial) for initial in _initial(layer)]
                self._divide(layer, *zeros)
                first_a, first_b = self._principal_part(_matrix(layer).float())
                self._divide(layer, first_a, first_b)
                for weight, first in zip((layer.lora_A, layer.lora_B), _initial(layer), strict=True):
                    weight[ADAPTER].weight.copy_(first)

    def _principal_part(self, matrix: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
        """Return A₀ of shape (rank, inputs) and B₀ of shape (outputs, rank) of a matrix of shape (outputs, inputs)."""
        import torch

        left, values, right = torch.svd_lowrank(matrix, self.settings.rank, niter=ITERATIONS)
        roots = (values / self.scale).sqrt()
        return roots[:, None] * right.T, left * roots

    def _divide(self, layer: Any, first_a: "torch.Tensor", first_b: "torch.Tensor") -> None:
        """Set the base weights to R = W − s·B₀·A₀ for these A₀ and B₀; zeros restore W."""
        import torch

        held = _initial(layer)
        if all(map(torch.equal, held, (first_a, first_b))):
            return
        matrix = _matrix(layer)
        for sign, (a, b) in ((1, held), (-1, (first_a, first_b))):
            if a.any():
                matrix.copy_(matrix.float() + sign * self.scale * (b @ a))
        for buffer, first in zip(held, (first_a, first_b), strict=True):
            buffer.copy_(first)

    def save(self, model: "PreTrainedModel", folder: Path) -> None:
        """Write an ordinary LoRA adapter of twice the rank, for the unchanged base."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        from medqa_finetune.compat.peft import adapters

        folder.mkdir(parents=True, exist_ok=True)
        settings: Any = copy.copy(adapters(model)[ADAPTER])
        settings.r = 2 * self.settings.rank
        settings.lora_alpha = 2 * self.settings.alpha
        if self.settings.rslora:
            settings.use_rslora, settings.lora_alpha = False, settings.r * self.scale
        settings.inference_mode = True
        settings.save_pretrained(folder)
        weights = _doubled(get_peft_model_state_dict(model))
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})

    def restore(self, model: "PreTrainedModel", folder: Path) -> None:
        """Load adapters and their initial values, and set the base weights accordingly."""
        import torch

        from medqa_finetune.methods.shared.adapters import check_adapters, load_adapters, read_adapters

        weights = _halved(read_adapters(folder), self.settings.rank)
        check_adapters(weights, model, folder)
        with torch.no_grad():
            for name, layer in _layers(model):
                first = [weights[f"{name}.{each}"].to(_matrix(layer).device) for each in (INITIAL_A, INITIAL_B)]
                self._divide(layer, *first)
        load_adapters(model, weights, folder)

    def attach(self, base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
        """Return a base model with the decomposition of the training and the trained adapters."""
        return ModelMethod.attach(self, base, folder)

    def for_inference(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """Remove the initial values, then proceed as LoRA does."""
        for _, layer in _layers(model):
            for name in (INITIAL_A, INITIAL_B):
                delattr(layer, name)
        return super().for_inference(model)


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    yield from ((name, part) for name, part in model.named_modules() if hasattr(part, "lora_A"))


def _initial(layer: Any) -> list["torch.Tensor"]:
    return [getattr(getattr(layer, name), ADAPTER) for name in (INITIAL_A, INITIAL_B)]


def _matrix(layer: Any) -> "torch.Tensor":
    """Return a view of a layer's base weights, of shape (outputs, inputs)."""
    weight: torch.Tensor = layer.get_base_layer().weight.data
    return weight.T if layer.fan_in_fan_out else weight


def _doubled(weights: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Return the adapter weights as an ordinary LoRA adapter of twice the rank: [A; A₀] and [B, −B₀]."""
    import torch

    doubled = {}
    for name, weight in weights.items():
        stem, _, kind = name.removesuffix(".weight").rpartition(".")
        if kind == "lora_A":
            doubled[name] = torch.cat([weight, weights[f"{stem}.{INITIAL_A}"]], dim=0).cpu()
        elif kind == "lora_B":
            doubled[name] = torch.cat([weight, -weights[f"{stem}.{INITIAL_B}"]], dim=1).cpu()
    return doubled


def _halved(weights: Mapping[str, "torch.Tensor"], rank: int) -> dict[str, "torch.Tensor"]:
    """Undo `_doubled`; weights of a checkpoint, and of another rank, are returned unchanged."""
    halved = dict(weights)
    for name, weight in weights.items():
        stem, _, kind = name.removesuffix(".weight").rpartition(".")
        if kind == "lora_A" and len(weight) == 2 * rank:
            halved[name], halved[f"{stem}.{INITIAL_A}"] = weight[:rank].clone(), weight[rank:].clone()
        elif kind == "lora_B" and weight.shape[1] == 2 * rank:
            halved[name], halved[f"{stem}.{INITIAL_B}"] = weight[:, :rank].clone(), -weight[:, rank:]
    return halved
