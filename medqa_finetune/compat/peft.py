"""peft: models with adapters, and the settings of the adapters."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer


def bare(model: Any) -> Any:
    """Return the transformers model inside a peft model; any other model unchanged."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


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
    """Fix the order of the names of target modules.

    peft writes them in the order of a set, which differs between processes.
    """
    settings.target_modules = sorted(settings.target_modules or ())
