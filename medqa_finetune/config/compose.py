"""Where Hydra ends: from a composed configuration to a checked, frozen `Config`."""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medqa_finetune.config.identity import flatten
from medqa_finetune.config.options import writable_node
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError

CONFIG_NAME = "config"
# Lines of their errors that help nobody who types a command.
NOISE = ("full_key", "object_type", "reference_type", "Set the environment", "To append to your config",
         "Config search path", "provider=", "See https://hydra.cc")  # fmt: skip
MESSAGE_LENGTH = 600
# What Hydra raises at a composition that cannot be; ValueError, for one, where a group is given `null`.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError)
SECTIONS = ("method", "data", "corpus", "model", "train", "evaluate", "tracker")


def register_schema() -> None:
    """Let Hydra check every composed value against `Config`, while it is composed."""
    ConfigStore.instance().store(name="schema", node=_schema_node())


def _schema_node() -> DictConfig:
    return writable_node(Config)


def to_config(composed: DictConfig) -> Config:
    """Turn what Hydra composed into a checked `Config`.

    Raises:
        ConfigError: a value is missing, of the wrong type or impossible; names the key.
    """
    node = _schema_node()
    values = {key: value for key, value in composed.items_ex(resolve=False) if key != "hydra"}
    # Hydra lets `+key=value` and a user's own YAML add keys, which nothing would read.
    known = _dotted_keys(node)
    unknown = [key for key in _dotted_keys(OmegaConf.create(values)) if key not in known]
    if unknown:
        raise ConfigError("\n".join(f"{key}: there is no such key{_similar_keys(key)}" for key in unknown))
    try:
        merged = OmegaConf.merge(node, values)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ConfigError(
                "\n".join(f"{key} is missing: give it on the command line, {key}=VALUE." for key in missing)
            )
        return cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from None


def explain(error: Exception) -> str:
    """Return what of a Hydra, OmegaConf or YAML error a user can act on, as one line."""
    if isinstance(error, yaml.YAMLError):
        return f"a configuration file is not YAML: {' '.join(str(error).split())}"[:MESSAGE_LENGTH]
    texts = [str(error)]
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        texts.append(str(error.__cause__))
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    kept = " ".join(dict.fromkeys(line for line in lines if not line.startswith(NOISE)))
    key = getattr(error, "full_key", None)
    if key and key not in kept:
        kept = f"{key}: {kept}"
    found = re.search(r"(?:override|in struct|merging override) '?([\w.]+)", kept)
    return (kept + (_similar_keys(found.group(1)) if found else ""))[:MESSAGE_LENGTH]


def _similar_keys(key: str) -> str:
    """Return a hint at the keys that exist, where `key` does not."""
    known = [*_dotted_keys(_schema_node()), *SECTIONS, "profile"]
    if key in known:
        return ""
    close = difflib.get_close_matches(key, known, n=3) or [
        other for other in known if other.startswith(key.partition(".")[0])
    ]
    return f". Did you mean {' or '.join(close[:6])}?" if close else ". See `python -m medqa_finetune.train --help`."


def _dotted_keys(node: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key in map(str, node):
        child = node._get_node(key)
        keys += (
            _dotted_keys(cast(DictConfig, child), f"{prefix}{key}.") if OmegaConf.is_dict(child) else [f"{prefix}{key}"]
        )
    return keys


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What a run is named against.

    Attributes:
        settings: The values of the chosen groups without any single setting changed, as dotted keys; what must be
            given on the command line has none.
        choices: The group choices that hold without `model=` or `corpus=` on the command line.
    """

    settings: Mapping[str, Any]
    choices: Mapping[str, str]


def compose_defaults(choices: Mapping[str, Any], config_name: str) -> Defaults:
    """Compose what a run with these group choices is named against; needs an initialized Hydra."""
    chosen = tuple(sorted((group, value) for group, value in choices.items() if _is_ours(group) and value is not None))
    profile = tuple(pair for pair in chosen if pair[0] == "profile")
    usual = _compose(config_name, profile).hydra.runtime.choices
    composed = _compose(config_name, chosen)
    missing = OmegaConf.missing_keys(composed)
    values = flatten({key: OmegaConf.to_container(composed[key]) for key in SECTIONS})
    values |= {str(key): composed[key] for key in _schema_node() if key not in SECTIONS}
    settings = {key: value for key, value in values.items() if key not in missing}
    return Defaults(settings, {str(group): str(value) for group, value in usual.items()})


def _is_ours(group: str) -> bool:
    return group in SECTIONS or group == "profile"


@cache
def _compose(config_name: str, choices: tuple[tuple[str, str], ...]) -> DictConfig:
    return hydra.compose(config_name, [f"{group}={value}" for group, value in choices], return_hydra_config=True)
