"""PiSSA (Meng et al. 2024, arXiv:2404.02948): LoRA whose adapters start as the principal part of the weights.

Each adapted matrix W is divided, W = R + s·B₀·A₀, where B₀·A₀ are its largest singular values with their vectors and s
is the adapter's scale; R is frozen, and the adapter B·A is trained from B₀·A₀.

R is not W, so trained weights are of use only with the very R that they were trained on. Dividing W anew would give
another R: the decomposition is randomised, and differs between devices. So A₀ and B₀ are kept as buffers with A and
B. They are in every checkpoint, and R = W − s·B₀·A₀ is computed from them and W, by the same operations each time.
What `save` writes is, as peft's documentation has it, an ordinary LoRA adapter of twice the rank for the untouched W:
W + s·[B, −B₀]·[A; A₀] = R + s·B·A. Any program that knows LoRA can take it, equal up to rounding, and `restore` gets
all four matrices back from it bit by bit.

peft's `init_lora_weights="pissa_niter_16"` computes the same, but while adapters are added, when it is not known yet
whether training begins or trained weights follow; tests/methods/test_pissa.py compares the two.
"""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.errors import Fault
from medqa_finetune.methods.base import ModelMethod
from medqa_finetune.methods.lora import Lora
from medqa_finetune.precision import WIDTH

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Of the randomised decomposition; more are slower and hardly closer (Meng et al. 2024, appendix on fast SVD).
ITERATIONS = 16
# peft's name of the only adapter, and ours of the buffers with its first weights.
ADAPTER = "default"
INITIAL_A, INITIAL_B = "lora_initial_A", "lora_initial_B"


class Pissa(Lora):
    """Low-rank adapters that start as the principal part of the weights."""

    kind = "pissa"

    def faults(self) -> Iterator[Fault]:
        """Yield a fault for quantization, where R would have to be quantized in place of W, and for DoRA."""
        yield from super().faults()
        if self.settings.quantization != "none":
            problem, got = "is not possible with PiSSA, which changes the frozen weights", self.settings.quantization
            yield Fault("conflict", problem, key="method.quantization", got=got, allowed=("none",))
        if self.settings.dora:
            problem = "is not possible with PiSSA, whose saved form is an ordinary LoRA adapter"
            yield Fault("conflict", problem, key="method.dora", got=True, allowed=("false",))

    @property
    def scale(self) -> float:
        """The factor s of the adapter's update."""
        rank = self.settings.rank
        return self.settings.alpha / (rank**0.5 if self.settings.rslora else rank)

    def weight_bytes(self, size: ModelSize, width: int) -> int:
        """Return the memory of base, adapters and their first weights, in bytes."""
        return super().weight_bytes(size, width) + self.trainable_parameters(size) * WIDTH["fp32"]

    def saved_bytes(self, size: ModelSize) -> int:
        """Return what the adapters and their first weights take on disk, in bytes."""
        return 2 * super().saved_bytes(size)

    def apply(self, base: "PreTrainedModel") -> "PreTrainedModel":
        """Add adapters whose update is zero; the base is divided in `begin`, or in `restore`."""
        import torch

        model = super().apply(base)
        for _, layer in _layers(model):
            for name, weight in ((INITIAL_A, layer.lora_A), (INITIAL_B, layer.lora_B)):
                # In a module of its own, peft takes it for a weight of the adapter when it saves and loads.
                holder = torch.nn.Module()
                holder.register_buffer(ADAPTER, torch.zeros_like(weight[ADAPTER].weight))
                layer.add_module(name, holder)
        return model

    def begin(self, model: "PreTrainedModel", seed: int, checkpoint: Path | None) -> None:
        """Divide the base: anew, or as the checkpoint says."""
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
        """Let the held weights be W less the part that these first weights stand for; W itself for zeros."""
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
        """Write an ordinary LoRA adapter of twice the rank, for the untouched base."""
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
        """Load adapters and their first weights, and divide the base accordingly."""
        import torch
        from peft import get_peft_model_state_dict

        from medqa_finetune.methods.shared.adapters import load_adapters, read_adapters
        from medqa_finetune.methods.shared.trained_files import check_fit

        weights = _halved(read_adapters(folder), self.settings.rank)
        check_fit(weights, get_peft_model_state_dict(model), folder)
        with torch.no_grad():
            for name, layer in _layers(model):
                first = [weights[f"{name}.{each}"].to(_matrix(layer).device) for each in (INITIAL_A, INITIAL_B)]
                self._divide(layer, *first)
        load_adapters(model, weights, folder)

    def attach(self, base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
        """Return a base model divided as it was in training, with the trained adapters."""
        return ModelMethod.attach(self, base, folder)

    def for_inference(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """Forget the first weights, and do as LoRA does."""
        for _, layer in _layers(model):
            for name in (INITIAL_A, INITIAL_B):
                delattr(layer, name)
        return super().for_inference(model)


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the layers that have adapters, with their names."""
    yield from ((name, part) for name, part in model.named_modules() if hasattr(part, "lora_A"))


def _initial(layer: Any) -> list["torch.Tensor"]:
    """Return the buffers of A₀ and B₀."""
    return [getattr(getattr(layer, name), ADAPTER) for name in (INITIAL_A, INITIAL_B)]


def _matrix(layer: Any) -> "torch.Tensor":
    """Return a view of the held weights of a layer, of shape (outputs, inputs)."""
    weight: torch.Tensor = layer.get_base_layer().weight.data
    return weight.T if layer.fan_in_fan_out else weight


def _doubled(weights: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Return the weights of a model's adapters as those of an ordinary LoRA adapter of twice the rank."""
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
    """Undo `_doubled`; weights of a checkpoint, and such of another rank, are returned as they are."""
    halved = dict(weights)
    for name, weight in weights.items():
        stem, _, kind = name.removesuffix(".weight").rpartition(".")
        if kind == "lora_A" and len(weight) == 2 * rank:
            halved[name], halved[f"{stem}.{INITIAL_A}"] = weight[:rank].clone(), weight[rank:].clone()
        elif kind == "lora_B" and weight.shape[1] == 2 * rank:
            halved[name], halved[f"{stem}.{INITIAL_B}"] = weight[:, :rank].clone(), -weight[:, rank:]
    return halved
