"""A valid configuration without Hydra, the same with one setting changed, and the real entry with Hydra."""

import dataclasses
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from medqa_finetune.config.checks import checked
from medqa_finetune.config.compose import CONFIG_NAME, register_schema
from medqa_finetune.config.groups import conf_folder
from medqa_finetune.config.schema import Config, CorpusConfig, DataConfig, MethodConfig, ModelConfig
from medqa_finetune.launch.launcher import register_plugins

VALID = Config(
    method=MethodConfig(name="lora"),
    data=DataConfig(name="20k", train_size=20000),
    corpus=CorpusConfig(name="embedded", source="embedded"),
    model=ModelConfig(name="tiny", path="embedded:tiny"),
)


def changed(config: Config, **values: Any) -> Config:
    """Return the configuration with settings replaced, and checked; `train__epochs=2` sets `train.epochs`."""
    sections: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    for name, value in values.items():
        section, _, key = name.partition("__")
        if key:
            sections.setdefault(section, {})[key] = value
        else:
            top[name] = value
    for section, inner in sections.items():
        top[section] = dataclasses.replace(getattr(config, section), **inner)
    return checked(dataclasses.replace(config, **top))


def leaf_keys(instance: Any = VALID, prefix: str = "") -> list[str]:
    """Return every setting of a configuration, as `train.epochs`."""
    keys: list[str] = []
    for field in dataclasses.fields(instance):
        if field.name == "interpolated":  # not a setting: it says how settings were written
            continue
        value = getattr(instance, field.name)
        inner = dataclasses.is_dataclass(value)
        keys += leaf_keys(value, f"{prefix}{field.name}.") if inner else [prefix + field.name]
    return keys


def compose(*overrides: str, folder: Path | None = None) -> DictConfig:
    """Compose as the commands do; Hydra's own node is part of the result."""
    register_schema()
    register_plugins()
    with hydra.initialize_config_dir(config_dir=str(folder or conf_folder()), version_base="1.3"):
        return hydra.compose(CONFIG_NAME, list(overrides), return_hydra_config=True)
