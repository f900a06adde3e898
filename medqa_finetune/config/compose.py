"""Converts a configuration composed by Hydra, or read from a record, to a checked, frozen `Config`."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medqa_finetune.compat.hydra import read_config_file
from medqa_finetune.config.checks import checked
from medqa_finetune.config.command_line import quoted
from medqa_finetune.config.explain import (
    PRIMARY_FILE,
    SECTIONS,
    dotted_keys,
    explain,
    missing_setting,
    schema_keys,
    schema_node,
    unknown_setting,
)
from medqa_finetune.config.identity import as_meant, flatten
from medqa_finetune.config.no_effect import file_faults, unchosen
from medqa_finetune.config.schema import Config
from medqa_finetune.config.yaml_traps import trapped_values
from medqa_finetune.errors import ConfigError, Fault, MedQAError

CONFIG_NAME = PRIMARY_FILE
# Hydra's setting of further folders with configuration files.
SEARCH_PATH = "hydra.searchpath="
# Raised by Hydra for impossible compositions: ValueError where a group is `null`, RecursionError where a YAML file is
# nested thousands of levels deep or contains itself.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError, RecursionError)


_composing = ContextVar("_composing", default=False)


@cache
def register_schema() -> None:
    """Register `Config` with Hydra, which then checks every value while composing."""
    ConfigStore.instance().store(name="schema", node=schema_node())


@contextmanager
def composing_ours() -> Iterator[None]:
    """Say that Hydra composes our configuration within the block, not that of another program with our launcher."""
    before = _composing.set(True)
    try:
        yield
    finally:
        _composing.reset(before)


def composes_ours() -> bool:
    """Return whether the caller is within `composing_ours`."""
    return _composing.get()


def readable(
    compositions: Iterable[DictConfig], overrides: Sequence[Sequence[str]]
) -> list[tuple[Config, Sequence[str]]]:
    """Return settings and overrides of each composition; none where one is impossible, which its cell reports."""
    try:
        return [(to_config(each), typed) for each, typed in zip(compositions, overrides, strict=True)]
    except (*COMPOSITION_ERRORS, MedQAError):
        return []


def to_config(composed: DictConfig) -> Config:
    """Return a composed configuration as a checked `Config`.

    Raises:
        ConfigError: a value is missing, of the wrong type or impossible; names the key.
    """
    written = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=False))
    values = {key: value for key, value in written.items() if key != "hydra"}
    # `+key=value` and a user's own YAML may add keys that nothing reads.
    known = set(schema_keys())
    unknown = [key for key in dotted_keys(values) if key not in known]
    if unknown:
        raise ConfigError(*map(unknown_setting, unknown))
    given = flatten(values)
    try:
        merged = OmegaConf.unsafe_merge(schema_node(), values)
        # Merging replaces `???` by the schema's default, although `???` marks a mandatory value.
        missing = sorted(OmegaConf.missing_keys(merged) | {key for key, value in given.items() if value == MISSING})
        if missing:
            raise ConfigError(*map(missing_setting, missing))
        config = cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(*explain(error, written=given)) from None
    return checked(dataclasses.replace(config, interpolated=_interpolated_texts(cast(DictConfig, merged))))


def restore_config(written: Mapping[str, object]) -> Config:
    """Return the settings of a run from its record, without additions such as effective sizes and fingerprints.

    Args:
        written: `config` of the record; interpolations are resolved again.

    Raises:
        ConfigError: a setting is missing or impossible.
    """
    known = set(schema_keys())
    node = OmegaConf.create()
    settings = as_meant(flatten(written))
    if settings.get("corpus.task", "qa") == "qa":
        # Examples were divided anew before this setting existed; running text kept its parts.
        settings = {"corpus.parts": "ignore"} | settings
    for key, value in settings.items():
        if key in known:
            OmegaConf.update(node, key, value)
    return to_config(node)


def _interpolated_texts(merged: DictConfig) -> dict[str, Any]:
    """Return unresolved interpolations by dotted key, where the value is a text or a list."""
    written = flatten(cast(dict[str, Any], OmegaConf.to_container(merged, resolve=False)))
    if not any("${" in str(value) for value in written.values()):
        return {}
    resolved = flatten(cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True)))
    return {
        key: text for key, text in written.items() if text != resolved[key] and isinstance(resolved[key], str | list)
    }


def check_chosen_files(hydra_config: Any) -> None:
    """Refuse chosen YAML files with values that YAML reads differently from how they look, or that have no effect.

    Args:
        hydra_config: Node `hydra` of the composition.

    Raises:
        ConfigError: with file, line and value of each.
    """
    choices = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(dict(hydra_config.runtime.choices))))
    chosen = [
        (group, name) for group, names in choices.items() for name in (names if isinstance(names, list) else [names])
    ]
    names = [str(hydra_config.job.config_name), *(f"{group}/{name}" for group, name in chosen)]
    folders = source_folders(hydra_config)
    paths = [path for folder in folders for name in names if (path := folder / f"{name}.yaml").is_file()]
    files = [file for name in names if (file := read_config_file(name, folders)) is not None]
    if found := [*trapped_values(paths), *file_faults(files, choices), *unchosen(choices)]:
        raise ConfigError(*found)


def with_file(fault: Fault, hydra_config: Any) -> Fault:
    """Return the fault of a missing name with the chosen file that lacks it; any other fault as it is."""
    group, _, key = (fault.key or "").partition(".")
    choice = hydra_config.runtime.choices.get(group)
    if fault.code != "missing-key" or key != "name" or not isinstance(choice, str):
        return fault
    file = read_config_file(f"{group}/{choice}", source_folders(hydra_config))
    return fault if file is None else fault.but(file=str(file.path), hint=f"Write this line into it: name: {choice}.")


def source_folders(hydra_config: Any) -> list[Path]:
    """Return the folders of a composition's files in search order, `conf/` included."""
    runtime = hydra_config.runtime
    sources = [] if OmegaConf.is_missing(runtime, "config_sources") else runtime.config_sources
    return [Path(source.path) for source in sources if source.schema == "file"]


@dataclasses.dataclass(frozen=True)
class Defaults:
    """Defaults that a run's name is relative to.

    Attributes:
        settings: Values of the chosen groups without single overrides, as dotted keys; mandatory settings are left out.
        choices: Group choices without `model=` or `corpus=` on the command line.
    """

    settings: Mapping[str, object]
    choices: Mapping[str, str]


def compose_defaults(hydra_config: Any) -> Defaults:
    """Compose the defaults for the group choices of a composition; needs an initialized Hydra.

    Args:
        hydra_config: Node `hydra` of the composition.
    """
    name, choices = str(hydra_config.job.config_name), hydra_config.runtime.choices
    # Folders of configuration files that were typed; Hydra forgets them between two compositions.
    typed = OmegaConf.select(hydra_config, "overrides.hydra", default=())
    folders = tuple(str(each) for each in typed if str(each).lstrip("+").startswith(SEARCH_PATH))
    chosen = tuple(sorted((group, value) for group, value in choices.items() if _is_ours(group) and value is not None))
    return _defaults_of(name, folders, chosen)


@cache
def _defaults_of(config_name: str, folders: tuple[str, ...], chosen: tuple[tuple[str, str], ...]) -> Defaults:
    usual = _compose(config_name, folders, tuple(pair for pair in chosen if pair[0] == "profile")).hydra.runtime.choices
    composed = _compose(config_name, folders, chosen)
    missing = OmegaConf.missing_keys(composed)
    values = flatten({key: OmegaConf.to_container(composed[key]) for key in SECTIONS})
    values |= {str(key): composed[key] for key in schema_node() if key not in SECTIONS}
    settings = {key: value for key, value in values.items() if key not in missing}
    return Defaults(settings, {str(group): str(value) for group, value in usual.items()})


def _is_ours(group: str) -> bool:
    return group in SECTIONS or group == "profile"


@cache
def _compose(config_name: str, folders: tuple[str, ...], choices: tuple[tuple[str, str], ...]) -> DictConfig:
    chosen = [quoted(f"{group}={value}") for group, value in choices]
    return hydra.compose(config_name, [*folders, *chosen], return_hydra_config=True)
