"""peft: models with adapters, and the settings of the adapters."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.helpers import disable_input_dtype_casting
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.integrations import dequantize_module_weight
from torch.nn import Dropout, Identity, Linear

from medqa_finetune.compat.torch import has_hooks

# Layers whose forward pass is that of `linear_adapters`; the last two have bases of bitsandbytes.
LINEAR_LAYERS = ("Linear", "Linear4bit", "Linear8bitLt")
# What peft calls DoRA's forward pass of linear layers, of any base.
DORA = "DoraLinearVariant"


def bare(model: Any) -> Any:
    """Return the transformers model inside a peft model; any other model unchanged."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def own_input_precision(model: Any, *, active: bool) -> AbstractContextManager[None]:
    """Let adapters take their input as it is inside the block, where autocast chooses the precision of products.

    peft converts the input of each adapter to the fp32 of its weights, drops out there, and autocast converts it back:
    a quarter of the memory traffic of training. Its adapters of 4-bit layers do not. Without autocast the conversion is
    needed.
    """
    block: AbstractContextManager[None] = disable_input_dtype_casting(model, active=active)
    return block


def has_adapter(module: Any) -> bool:
    """Return whether a module of a model has an adapter of its own."""
    return isinstance(module, BaseTunerLayer)


def adapters(model: Any) -> Mapping[str, LoraConfig]:
    """Return the settings of a model's adapters by name; empty without adapters.

    Includes those of transformers' `add_adapter`. Until 0.18 peft left the settings on a model whose adapters it had
    merged; our minimum version is higher.
    """
    settings: Mapping[str, LoraConfig] = getattr(model, "peft_config", None) or {}
    return settings


def known_settings() -> Collection[str]:
    """Return the LoRA keys of `adapter_config.json` that the installed peft supports."""
    return {field.name for field in dataclasses.fields(LoraConfig)}


def sort_targets(settings: LoraConfig) -> None:
    """Fix the order of the names of target modules and parameters.

    peft writes them in the order of a set, which differs between processes.
    """
    settings.target_modules = sorted(settings.target_modules or ())
    settings.target_parameters = sorted(settings.target_parameters) if settings.target_parameters else None


def taken_for_experts(base: Any, names: Iterable[str]) -> list[str]:
    """Return those names of target modules that peft takes for experts of transformers before version 5.

    Of some mixtures of experts it reads `gate_proj` and the like as matrices of single experts, which transformers has
    joined since, even where a dense layer or a shared expert is called so. Adapters would sit elsewhere than asked for.

    Args:
        base: A model without adapters.
        names: Names of modules, or ends of them.
    """
    try:
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
    except ImportError:
        return []
    return [name for name in names if not _is_kept(convert_peft_config_for_transformers, base, name)]


def _is_kept(convert: Callable[..., None], base: Any, name: str) -> bool:
    settings = LoraConfig(target_modules=[name])
    try:
        convert(settings, model=base, conversions=None)
    except ValueError:  # it wants the other matrices of an expert as well
        return False
    return name in (settings.target_modules or ())


@dataclasses.dataclass(frozen=True)
class LinearAdapter:
    """A layer of peft that adds one low-rank product to a linear layer and does nothing else.

    Attributes:
        name: Its name within the module that holds it.
        parent: That module's name in the model.
        layer: The layer of peft.
        lower, upper: The linear layers A and B.
        dropout: `torch.nn.Dropout`, or an identity.
        scale: What the product is multiplied by.
        dora: peft's layer with the magnitudes of DoRA; None for a plain adapter.
    """

    name: str
    parent: str
    layer: Any
    lower: Any
    upper: Any
    dropout: Any
    scale: float
    dora: Any = None

    @property
    def base(self) -> Any:
        """The layer below: torch's own, or one of bitsandbytes."""
        return self.layer.base_layer

    @property
    def applies(self) -> bool:
        """Whether the adapter takes part in the forward pass: neither merged nor switched off."""
        return not self.layer.disable_adapters and not self.layer.merged

    @torch.no_grad()
    def magnitudes(self) -> torch.Tensor:
        """Return what DoRA multiplies each output by, in fp32: the magnitude over the norm of W + scale B A."""
        matrix = dequantize_module_weight(self.base).float()
        if self.layer.fan_in_fan_out:
            matrix = matrix.T
        change = self.scale * (self.upper.weight.float() @ self.lower.weight.float())
        norms = torch.linalg.vector_norm(matrix + change, dim=1)
        magnitudes: torch.Tensor = self.dora.weight.float() / norms
        return magnitudes


@torch.no_grad()
def fold_scales(model: Any) -> bool:
    """Multiply the scales of all adapters into their matrices B, in their own precision, and set the scales to 1.

    The settings say so as well: what is saved now means the same. Returns False, and changes nothing, where an adapter
    is of a kind that may use its scale in another way.
    """
    layers = [part for part in model.modules() if isinstance(part, LoraLayer)]
    kinds = {type(variant).__name__ for layer in layers for variant in layer.lora_variant.values()}
    if any(not kind.startswith("Dora") for kind in kinds):
        return False
    for layer in layers:
        for name, scale in layer.scaling.items():
            for weight in _upper_weights(layer, name):
                weight.mul_(scale)
            layer.scaling[name], layer.lora_alpha[name], layer.use_rslora[name] = 1.0, layer.r[name], False
    for settings in adapters(model).values():
        settings.lora_alpha, settings.use_rslora = settings.r, False
        settings.alpha_pattern = dict(settings.rank_pattern or {})
    return True


def _upper_weights(layer: Any, name: str) -> list[torch.Tensor]:
    if name in layer.lora_embedding_B:
        return [layer.lora_embedding_B[name].data]
    return [weight.data for weight in layer.lora_B[name].parameters()]


def cast_adapters(model: Any, precision_of: Callable[[str], torch.dtype]) -> None:
    """Convert the weights of plain adapters of linear layers and embeddings to the precision of the layer by that name.

    Those of DoRA stay, of which the norms are computed; and those on parameters, which are added to the parameters.
    """
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer) or isinstance(layer, ParamWrapper) or layer.lora_variant:
            continue
        for holder in (layer.lora_A, layer.lora_B, layer.lora_embedding_A, layer.lora_embedding_B):
            for weight in holder.parameters():
                weight.data = weight.data.to(precision_of(name))


def linear_adapters(model: Any, *, dora: bool = False) -> list[LinearAdapter]:
    """Return all layers of a model with one plain adapter, in the model's order, and those with DoRA if asked for.

    Relied on: the classes and attributes of peft's LoRA layers, and that their forward pass is
    `base(x) + B(A(dropout(x))) * scale`; with DoRA all but the bias is multiplied by the magnitudes.
    """
    found = []
    for path, layer in model.named_modules():
        is_known = type(layer).__module__.startswith("peft.tuners.lora.") and type(layer).__name__ in LINEAR_LAYERS
        if not is_known or len(layer.active_adapters) != 1:
            continue
        active = layer.active_adapters[0]
        variant = layer.lora_variant.get(active)
        if active not in layer.lora_A or not (variant is None or (dora and type(variant).__name__ == DORA)):
            continue
        lower, upper, dropout = layer.lora_A[active], layer.lora_B[active], layer.lora_dropout[active]
        parts = (lower, upper, dropout)
        is_plain = type(lower) is type(upper) is Linear and type(dropout) in (Dropout, Identity)
        if is_plain and lower.bias is upper.bias is None and not any(map(has_hooks, parts)):
            parent, _, name = path.rpartition(".")
            magnitudes = None if variant is None else layer.lora_magnitude_vector[active]
            found.append(LinearAdapter(name, parent, layer, *parts, layer.scaling[active], magnitudes))
    return found
