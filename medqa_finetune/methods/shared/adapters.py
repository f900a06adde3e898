"""Adapters of peft on a model: add, load, attach, merge."""

import logging
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.optimizers import create_loraplus_optimizer
from torch.optim import Optimizer
from transformers import PreTrainedModel, Trainer, TrainingArguments

from medqa_finetune.architecture.experts import experts_of
from medqa_finetune.architecture.files import read_object
from medqa_finetune.compat.failures import words_of
from medqa_finetune.compat.peft import bare, has_adapter, known_settings, sort_targets, taken_for_experts
from medqa_finetune.compat.transformers import Conv1D, dequantize, forget_ties, is_quantized
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.methods.shared.targets import EXPERTS, choose_linear, fits
from medqa_finetune.methods.shared.trained_files import check_fit, read_weights

log = logging.getLogger(__name__)

CONFIG = "adapter_config.json"
# Beginnings of peft's warnings of what is taken care of here.
SAVES_EMBEDDINGS = "Setting `save_embedding_layers`"
TIED = "Model has `tie_word_embeddings=True`|Model with `tie_word_embeddings=True`"
NO_LONGER_TIED = "Input and output embeddings are no longer tied"


def adapted(base: PreTrainedModel, settings: LoraConfig) -> PreTrainedModel:
    """Return a base model with adapters; weights that modules share stay shared, see `merged`.

    Raises:
        ValueError: the settings do not fit the model.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=TIED)
        return cast(PreTrainedModel, get_peft_model(base, settings))


def add_adapters(base: PreTrainedModel, settings: MethodConfig) -> PreTrainedModel:
    """Return a base model with adapters as the settings say; their update is zero.

    Raises:
        ModelError: `method.target_modules` names no module of this model, or peft cannot import a package.
    """
    modules, parameters = _targets(base, settings), _parameters(base, settings)
    modules, renamed = _apart_from_experts(base, settings, modules)
    # Adapter weights are fp32 (peft's autocast_adapter_dtype) whatever the base is held in.
    adapter = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=modules,
        target_parameters=[*parameters, *renamed] or None,
        # GPT-2 has its matrices transposed.
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in base.modules()),
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        task_type="CAUSAL_LM",
    )
    try:
        model = adapted(base, adapter)
    except ImportError as error:  # peft imports every quantization library that is installed, needed or not
        problem = f"peft cannot import a package that is installed ({words_of(error)})"
        hint = "Repair or uninstall it (often bitsandbytes)."
        got = settings.trains
        raise ModelError(Fault("not-importable", problem, key="method.trains", got=got, hint=hint)) from None
    except ValueError as error:
        raise _no_such_module(base, settings, words_of(error)) from None
    sort_targets(adapter)
    if not settings.target_parameters and base.device.type != "meta":
        _tell_of_experts(base)
    return model


def _parameters(base: PreTrainedModel, settings: MethodConfig) -> list[str]:
    """Return the parameters that get adapters, by the ends of their paths.

    Raises:
        ModelError: there are no experts, or a name fits nothing.
    """
    asked, experts = settings.target_parameters, expert_parameters(base)
    if asked is None:
        return []
    names = [name for name, weight in base.named_parameters() if weight.ndim in (2, 3)]
    # Two parts of a path: the parameter, and what holds it.
    shown = sorted({".".join(name.split(".")[-2:]) for name in experts})
    missing = [] if asked == EXPERTS else [each for each in asked if not any(fits(name, each) for name in names)]
    if missing or (asked == EXPERTS and not experts):
        problem = f"no parameter is called {missing[0]}" if missing else "this model is no mixture of experts"
        got, key = asked if isinstance(asked, str) else list(asked), "method.target_parameters"
        raise ModelError(Fault("no-such-module", problem, key=key, got=got, allowed=(*shown, "null")))
    return shown if asked == EXPERTS else list(asked)


def expert_parameters(base: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """Return the matrices of all experts of a model without adapters: parameters of three dimensions."""
    shapes = {name: tuple(weight.shape) for name, weight in base.named_parameters() if weight.ndim == 3}
    found = experts_of(shapes)
    return {name: weight for name, weight in base.named_parameters() if name in found}


def _tell_of_experts(base: PreTrainedModel) -> None:
    weights = sum(weight.numel() for weight in expert_parameters(base).values())
    if weights:
        log.warning(
            "%s weights of experts are no linear layers and get no adapter; method.target_parameters=experts with "
            "method.dropout=0 adapts them", f"{weights:,}",
        )  # fmt: skip


def _apart_from_experts(
    base: PreTrainedModel, settings: MethodConfig, modules: list[str]
) -> tuple[list[str], list[str]]:
    """Return modules as peft understands them: those that it takes for experts by their names become parameters.

    Raises:
        ModelError: adapters on parameters are not possible with these settings.
    """
    taken = taken_for_experts(base, modules)
    if not taken:
        return modules, []
    if settings.dropout or settings.dora or settings.trains != "adapter" or settings.quantization != "none":
        problem = (
            f"peft takes {', '.join(taken)} of {type(base).__name__} for experts; they can have adapters as parameters "
            "alone, without dropout, DoRA, PiSSA and quantization"
        )
        hint = "Give method.dropout=0, or method.target_modules=attention."
        got = settings.target_modules if isinstance(settings.target_modules, str) else list(settings.target_modules)
        raise ModelError(Fault("not-supported", problem, key="method.target_modules", got=got, hint=hint))
    return [name for name in modules if name not in taken], [f"{name}.weight" for name in taken]


def _targets(base: PreTrainedModel, settings: MethodConfig) -> list[str]:
    """Return the modules that get adapters: whole paths, or their ends.

    Raises:
        ModelError: a name fits nothing, or there is no attention by that name.
    """
    modules = settings.target_modules
    if isinstance(modules, str):
        chosen = choose_linear(_linear_layers(base), modules)
        if not chosen:
            problem, hint = "no linear layer of this model is recognized as one", "Give a list of names."
            raise _no_such_module(base, settings, problem, hint)
        # Two parts of a path tell layers apart that one does not: `c_proj` is in GPT-2's attention and in its MLP.
        return sorted({".".join(name.split(".")[-2:]) for name in chosen})
    names = [name for name, _ in base.named_modules()]
    # peft passes over a name that fits nothing as long as another one fits, and would train less than was asked for.
    for module in modules:
        if not any(fits(name, module) for name in names):
            raise _no_such_module(base, settings, f"no module is called {module}")
    return list(modules)


def _linear_layers(base: PreTrainedModel) -> list[str]:
    head = cast(Any, base).get_output_embeddings()
    return [
        name for name, part in base.named_modules() if isinstance(part, torch.nn.Linear | Conv1D) and part is not head
    ]


def _no_such_module(base: PreTrainedModel, settings: MethodConfig, problem: str, hint: str = "") -> ModelError:
    """Return the error about `method.target_modules`; what is allowed are the names of the linear layers."""
    if not hint and expert_parameters(base):
        hint = "Experts are parameters: give method.target_parameters=experts."
    key, linear = "method.target_modules", sorted({name.rpartition(".")[2] for name in _linear_layers(base)})
    got = settings.target_modules if isinstance(settings.target_modules, str) else list(settings.target_modules)
    return ModelError(Fault("no-such-module", problem, key=key, got=got, allowed=tuple(linear), hint=hint))


def loraplus_optimizer(model: PreTrainedModel, ratio: float, arguments: TrainingArguments) -> Optimizer:
    """Return an optimizer that gives matrix B of every adapter `ratio` times the learning rate of A."""
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    rate = options.pop("lr")
    optimizer: Optimizer = create_loraplus_optimizer(
        cast(Any, model), kind, lr=rate, loraplus_lr_ratio=ratio, loraplus_weight_decay=arguments.weight_decay,
        **options,
    )  # fmt: skip
    return optimizer


def read_adapters(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of adapters that peft saved, by their names in the file.

    Raises:
        ModelError: the file is damaged.
    """
    return read_weights(folder, "adapter_model.safetensors")


def save_adapters(model: PreTrainedModel, folder: Path) -> None:
    """Write adapters as peft does, but for the frozen weights of embeddings and heads that have one."""
    cast(Any, model).save_pretrained(folder, save_embedding_layers=False)


def check_adapters(weights: Mapping[str, torch.Tensor], model: PreTrainedModel, folder: Path) -> None:
    """Check that weights are those of a model's adapters; peft may have saved frozen weights of embeddings with them.

    Raises:
        ModelError: they are not exactly those.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=SAVES_EMBEDDINGS)
        expected = get_peft_model_state_dict(model)
    check_fit(weights, expected, folder, optional=set(filter(_is_frozen, expected)))


def load_adapters(model: PreTrainedModel, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Load weights of adapters into a model that has such.

    Raises:
        ModelError: they are not exactly those of the model's adapters; nothing is loaded then.
    """
    check_adapters(weights, model, folder)
    set_peft_model_state_dict(model, {name: weight for name, weight in weights.items() if not _is_frozen(name)})


def _is_frozen(name: str) -> bool:
    """Return whether a weight in a file of adapters is one of the base, as peft saves them of embeddings and heads."""
    return ".base_layer." in name and ".lora_" not in name


def attach_saved(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return a base model with an adapter as peft saved it in a folder, to predict with.

    Raises:
        ModelError: the adapter is damaged, or of another model: its layers or shapes do not fit.
    """
    adapter = _read_settings(folder)
    adapter.inference_mode = True
    adapter.base_model_name_or_path = base.name_or_path  # else peft warns of every base that was moved
    try:
        model = adapted(base, adapter)
    except ValueError as error:
        problem = f"the adapter does not fit this base model ({words_of(error)})"
        hint = "It was trained for another base model."
        raise ModelError(Fault("weights-mismatch", problem, file=str(folder), hint=hint)) from None
    load_adapters(model, read_adapters(folder), folder)
    return model


def _read_settings(folder: Path) -> LoraConfig:
    """Read an adapter's settings; peft's own reader may fetch them from a hub, or a class that they name."""
    path = folder / CONFIG
    settings, known = read_object(path, "Give a folder that peft saved."), known_settings()
    kind = settings.get("peft_type")
    if kind != "LORA":
        problem, allowed = "no such kind of adapter is loaded", ("LORA",)
        raise ModelError(Fault("not-allowed", problem, key="peft_type", got=kind, allowed=allowed, file=str(path)))
    unknown = sorted(name for name in settings.keys() - known if settings[name])
    if unknown:
        key, problem = unknown[0], "the installed peft does not know this setting"
        raise ModelError(Fault("unknown-key", problem, key=key, got=settings[key], file=str(path)))
    try:
        return LoraConfig(**{name: value for name, value in settings.items() if name in known})
    except (ValueError, TypeError, AttributeError) as error:
        problem = f"holds no settings of an adapter ({words_of(error)})"
        raise ModelError(Fault("damaged-file", problem, file=str(path))) from None


def is_full_precision(model: PreTrainedModel) -> bool:
    """Say whether the weights that are not quantized are held in fp32."""
    return bool(cast(Any, model.get_input_embeddings()).weight.dtype == torch.float32)


def merged(model: PreTrainedModel, *, checked: bool = False) -> PreTrainedModel:
    """Return the model with adapters merged into its weights, in place.

    Weights that it shares with a module without this adapter are copied first: merging into the shared ones would
    change both, where only one was trained. The model's configuration then says that they are not tied.

    Args:
        model: A model with adapters.
        checked: Whether a merged weight that is not finite is an error.

    Raises:
        ValueError: there is such a weight.
    """
    untie_adapted(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=NO_LONGER_TIED)
        return cast(PreTrainedModel, cast(Any, model).merge_and_unload(safe_merge=checked))


def untie_adapted(model: PreTrainedModel) -> None:
    """Give every module that has an adapter weights of its own; no value changes.

    A head shares its weights with the token embedding in most small models (`tie_word_embeddings`).
    """
    names = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    for part in list(model.modules()):
        if not has_adapter(part):
            continue
        layer = cast(Any, part).get_base_layer()
        for name, weight in list(layer.named_parameters(recurse=False)):
            if names[id(weight)] > 1:
                names[id(weight)] -= 1
                setattr(layer, name, torch.nn.Parameter(weight.detach().clone(), requires_grad=False))
                forget_ties(bare(model))


def dequantized(base: PreTrainedModel) -> PreTrainedModel:
    """Return a base whose quantized weights are the numbers that they stand for, in place.

    They get the type that the layers themselves dequantize to, so that nothing is rounded twice.
    """
    return dequantize(base) if is_quantized(base) else base


def merged_on_cpu(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return the model in fp32 on the CPU with adapters merged into its weights, in place.

    Raises:
        ModelError: a merged weight is not finite; `folder` is named as the place of the adapters.
    """
    whole = cast(Any, model).to("cpu", torch.float32)
    try:
        return merged(whole, checked=True)
    except ValueError as error:
        problem = f"the adapter cannot be merged ({words_of(error)})"
        raise ModelError(Fault("not-mergeable", problem, file=str(folder))) from None
