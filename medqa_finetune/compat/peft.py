"""peft: models with adapters, and the settings of the adapters."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from peft import LoraConfig, PeftModel


def bare(model: Any) -> Any:
    """Return the transformers model below a peft model; any other model as it is."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def adapters(model: Any) -> Mapping[str, LoraConfig]:
    """Return the settings of a model's adapters by name; empty without adapters.

    Includes those of transformers' `add_adapter`. Until 0.18 peft left the settings on a model whose
    adapters it had merged; the floor of our dependency is above it.
    """
    settings: Mapping[str, LoraConfig] = getattr(model, "peft_config", None) or {}
    return settings


def known_settings() -> Collection[str]:
    """Return the keys of `adapter_config.json` that the installed peft knows for LoRA."""
    return {field.name for field in dataclasses.fields(LoraConfig)}


def sort_targets(settings: LoraConfig) -> None:
    """Keep the names of target modules in one order.

    peft keeps them in a set and writes them in the set's order, which is another one in every process.
    """
    settings.target_modules = sorted(settings.target_modules or ())
