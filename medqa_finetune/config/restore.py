"""From what a record holds of a run's settings back to the settings."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from medqa_finetune.config.compose import to_config
from medqa_finetune.config.explain import dotted_keys, schema_node
from medqa_finetune.config.identity import flatten
from medqa_finetune.config.schema import Config


def restore_config(written: Mapping[str, Any]) -> Config:
    """Return the settings of a run; what its record notes beside them (effective sizes, fingerprints) is left out.

    Args:
        written: `config` of the record. Texts that came from the environment are looked up there again.

    Raises:
        ConfigError: a setting is missing or impossible.
    """
    known = set(dotted_keys(schema_node()))
    node = OmegaConf.create()
    for key, value in flatten(written).items():
        if key in known:
            OmegaConf.update(node, key, value)
    return to_config(node)
