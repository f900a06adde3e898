"""From the base model to one that trains as the method says. The only code that knows LoRA."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.optimizers import create_loraplus_optimizer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.optim import Optimizer
from transformers import PreTrainedModel, Trainer, TrainingArguments

from medqa_finetune.architecture.files import read_object
from medqa_finetune.compat.bitsandbytes import stands_for
from medqa_finetune.compat.failures import words_of
from medqa_finetune.compat.peft import adapters, known_settings, sort_targets
from medqa_finetune.compat.transformers import Conv1D, dequantize, tied_weights
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.model.targets import choose_linear, fits
from medqa_finetune.precision import DTYPE_NAMES, Precision


def apply_method(base: PreTrainedModel, method: MethodConfig) -> PreTrainedModel:
    """Return the model to train: adapters added, or weights unfrozen, or everything frozen.

    Raises:
        ModelError: `method.target_modules` names no module of this model.
    """
    return METHODS[method.trains](base, method)


def _train_nothing(base: PreTrainedModel, method: MethodConfig) -> PreTrainedModel:
    base.requires_grad_(False)
    return base


def _train_all(base: PreTrainedModel, method: MethodConfig) -> PreTrainedModel:
    base.requires_grad_(True)
    return base


def _train_adapter(base: PreTrainedModel, method: MethodConfig) -> PreTrainedModel:
    # Adapter weights are fp32 (peft's autocast_adapter_dtype) whatever the base is held in.
    adapter = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=_targets(base, method),
        # GPT-2 keeps its matrices the other way round.
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in base.modules()),
        use_rslora=method.rslora,
        use_dora=method.dora,
        task_type="CAUSAL_LM",
    )
    try:
        model = cast(PreTrainedModel, get_peft_model(base, adapter))
    except ImportError as error:  # peft imports every quantization library that is installed, needed or not
        problem = f"peft cannot import a package that is installed ({words_of(error)})"
        hint = "Repair or uninstall it (often bitsandbytes)."
        raise ModelError(Fault("not-importable", problem, key="method.trains", got="adapter", hint=hint)) from None
    except ValueError as error:
        raise _no_such_module(base, method, words_of(error)) from None
    sort_targets(adapter)
    return model


def _targets(base: PreTrainedModel, method: MethodConfig) -> list[str]:
    """Return the modules that peft is to put adapters beside: whole paths, or their ends.

    Raises:
        ModelError: a name fits nothing, or there is no attention by that name.
    """
    modules = method.target_modules
    if isinstance(modules, str):
        wanted = choose_linear(_linear_layers(base), modules)
        if not wanted:
            problem, hint = "no linear layer of this model is recognized as one", "Give a list of names."
            raise _no_such_module(base, method, problem, hint)
        # Two parts of a path tell layers apart that one does not: `c_proj` is in GPT-2's attention and in its MLP.
        return sorted({".".join(name.split(".")[-2:]) for name in wanted})
    names = [name for name, _ in base.named_modules()]
    # peft passes over a name that fits nothing as long as another one fits, and would train less than was asked for.
    for module in modules:
        if not any(fits(name, module) for name in names):
            raise _no_such_module(base, method, f"no module is called {module}")
    return list(modules)


def _linear_layers(base: PreTrainedModel) -> list[str]:
    head = cast(Any, base).get_output_embeddings()
    return [
        name for name, part in base.named_modules() if isinstance(part, torch.nn.Linear | Conv1D) and part is not head
    ]


def _no_such_module(base: PreTrainedModel, method: MethodConfig, problem: str, hint: str = "") -> ModelError:
    """Return the error about `method.target_modules`; what is allowed are the names of the linear layers."""
    key, linear = "method.target_modules", sorted({name.rpartition(".")[2] for name in _linear_layers(base)})
    got = method.target_modules if isinstance(method.target_modules, str) else list(method.target_modules)
    return ModelError(Fault("no-such-module", problem, key=key, got=got, allowed=tuple(linear), hint=hint))


def adapted_modules(model: PreTrainedModel) -> list[str]:
    """Return the modules that have an adapter beside them, as peft names them, sorted; none where there is none."""
    return sorted({module for each in adapters(model).values() for module in each.target_modules or ()})


def make_optimizer(model: PreTrainedModel, method: MethodConfig, arguments: TrainingArguments) -> Optimizer | None:
    """Return the optimizer that the method needs; None where the one that transformers makes will do.

    LoRA+ gives the halves of an adapter learning rates of their own (peft's `create_loraplus_optimizer`).
    """
    if method.loraplus_ratio is None:
        return None
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    rate = options.pop("lr")
    optimizer: Optimizer = create_loraplus_optimizer(
        cast(Any, model), kind, lr=rate, loraplus_lr_ratio=method.loraplus_ratio,
        loraplus_weight_decay=arguments.weight_decay, **options,
    )  # fmt: skip
    return optimizer


METHODS: dict[str, Callable[[PreTrainedModel, MethodConfig], PreTrainedModel]] = {
    "adapter": _train_adapter,
    "all": _train_all,
    "nothing": _train_nothing,
}


def restore_trained(model: PreTrainedModel, folder: Path, method: MethodConfig) -> None:
    """Put the trained weights of a folder that `save_pretrained` wrote into a model that `apply_method` made.

    Raises:
        ModelError: a file is damaged, or the weights are not exactly those of this model and method: too many, too
            few, or of another shape; nothing is loaded then.
    """
    if method.trains == "nothing":
        return
    is_adapter = method.trains == "adapter"
    files = sorted(folder.glob("adapter_model.safetensors" if is_adapter else "model*.safetensors"))
    try:
        weights = {name: weight for path in files for name, weight in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        problem = f"the trained weights cannot be read ({words_of(error)})"
        raise ModelError(Fault("damaged-file", problem, file=str(folder))) from None
    expected = get_peft_model_state_dict(model) if is_adapter else model.state_dict()
    tied = {} if is_adapter else tied_weights(model)
    faults = [_misfit(name, "is missing") for name in expected if name not in weights and name not in tied]
    faults += [_misfit(name, "is not of this model") for name in weights if name not in expected]
    faults += [
        _misfit(name, f"must have the shape {list(expected[name].shape)}").but(got=list(weight.shape))
        for name, weight in weights.items()
        if name in expected and weight.shape != expected[name].shape
    ]
    if faults:
        count = f" ({len(faults)} faults in all)" if len(faults) > 1 else ""
        raise ModelError(faults[0].but(problem=f"{faults[0].problem}{count}", file=str(folder)))
    if is_adapter:
        set_peft_model_state_dict(model, weights)
    else:
        model.load_state_dict(weights, strict=False)  # without the tied ones, which share theirs


def _misfit(name: str, problem: str) -> Fault:
    hint = "These weights were trained for another base model or with other settings."
    return Fault("weights-mismatch", problem, key=name, hint=hint)


def _read_adapter(folder: Path) -> LoraConfig:
    """Read an adapter's settings; peft's own reader may fetch them from a hub, or a class that they name."""
    path = folder / "adapter_config.json"
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


def attach_adapter(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return a base model with an adapter that peft saved in a folder, for answering.

    Raises:
        ModelError: the adapter is damaged, or of another model: its layers or shapes do not fit.
    """
    adapter = _read_adapter(folder)
    adapter.inference_mode = True
    adapter.base_model_name_or_path = base.name_or_path  # else peft warns of every base that was moved
    try:
        model = cast(PreTrainedModel, get_peft_model(base, adapter))
    except ValueError as error:
        problem = f"the adapter does not fit this base model ({words_of(error)})"
        hint = "It was trained for another base model."
        raise ModelError(Fault("weights-mismatch", problem, file=str(folder), hint=hint)) from None
    restore_trained(model, folder, MethodConfig(name="adapter"))
    return model


def for_inference(model: PreTrainedModel, method: MethodConfig) -> PreTrainedModel:
    """Return a trained model in the form that answers fastest; the one given is modified in place.

    An adapter is added into the weights it belongs to, where these are held in fp32: the same to rounding, and one
    product a layer instead of three. Half precision and quantization would round most of a small update away, so
    there the adapter stays beside them, as it was trained.
    """
    full_precision = model.get_input_embeddings().weight.dtype == torch.float32
    if method.trains == "adapter" and method.quantization == "none" and full_precision:
        return cast(PreTrainedModel, cast(Any, model).merge_and_unload())
    return model


def plain_form(method: MethodConfig, precision: Precision) -> tuple[str, int | None]:
    """Return `dtype` and `rank` of what `plain.write_plain` will make of a run.

    Raises:
        ModelError: an adapter that must be merged, and would lose by it.
    """
    dtype = "float32" if method.trains == "all" else DTYPE_NAMES[precision]
    if method.trains != "adapter" or dtype == "float32":
        return dtype, None
    if method.dora:
        problem = f"in {precision} the adapter is not merged into the weights, and vLLM does not know DoRA adapters"
        hint = "Give precision=fp32, or evaluate.backend=transformers."
        raise ModelError(Fault("not-supported", problem, key="method.dora", got=True, hint=hint))
    return dtype, method.rank


def lift_adapter(model: PreTrainedModel, folder: Path) -> tuple[PreTrainedModel, int | None]:
    """Write a model's adapter into a folder, and return its base without it, and the adapter's rank; None without one.

    The model is modified in place.
    """
    settings = adapters(model)
    if not settings:
        return model, None
    adapted, rank = cast(Any, model), max(each.r for each in settings.values())
    adapted.save_pretrained(folder)
    return cast(PreTrainedModel, adapted.unload()), rank


def merged_weights(base: PreTrainedModel, trained: Path, method: MethodConfig) -> PreTrainedModel:
    """Return a model without adapters, in fp32 on the CPU, whose own weights are what the run's training came to.

    An adapter is added to the weights it was trained beside. Where these were quantized, that is what they stand for,
    dequantized: their sum quantized again would round most of a small update away (peft#2321, transformers#31293), and
    the original weights lack the error that the adapter has learned to live with.

    Args:
        base: As the method loads it, without adapters; modified in place.
        trained: Folder of the trained weights, as `restore_trained` takes it.
        method: The run's.

    Raises:
        ModelError: as `restore_trained` does, or a merged weight is no number.
    """
    if method.quantization != "none":
        # Into the type of numbers that the layers themselves dequantize to, so that nothing is rounded twice.
        base = dequantize(base)
    plain = dataclasses.replace(method, quantization="none", dropout=0.0)
    model = apply_method(cast(Any, base).to("cpu", torch.float32), plain)
    restore_trained(model, trained, plain)
    if method.trains != "adapter":
        return model
    try:
        return cast(PreTrainedModel, cast(Any, model).merge_and_unload(safe_merge=True))
    except ValueError as error:
        problem = f"the adapter cannot be merged ({words_of(error)})"
        raise ModelError(Fault("not-mergeable", problem, file=str(trained))) from None


def count_parameters(model: torch.nn.Module, *, trainable_only: bool = False) -> int:
    """Return the number of weights; 4-bit ones, stored two to a byte, are counted one by one."""
    return sum(
        stands_for(parameter) for parameter in model.parameters() if parameter.requires_grad or not trainable_only
    )
