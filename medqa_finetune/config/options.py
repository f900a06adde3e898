"""The groups in `conf/` without Hydra: where they are, and one option of one group as a checked dataclass."""

import dataclasses
import typing
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from medqa_finetune.compat.omegaconf import Kind, refusal_of, words_of
from medqa_finetune.config.command_line import type_name
from medqa_finetune.errors import ConfigError

T = TypeVar("T")

# Of a complaint, which may repeat what was typed.
MESSAGE_CHARS = 300


def conf_folder() -> Path:
    """Return the folder of the YAML values: inside the package when installed, else `conf/` of the repository."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def conf_folders(arguments: Sequence[str]) -> list[Path]:
    """Return our folder of configuration groups, and the user's own behind `--config-dir`, if there is one."""
    pairs = [*pairwise(arguments), *((flag, folder) for flag, _, folder in (each.partition("=") for each in arguments))]
    own = [Path(folder) for flag, folder in pairs if flag in ("--config-dir", "-cd") and folder]
    return [conf_folder(), *(folder for folder in own if folder.is_dir())]


def option_names(group: str) -> list[str]:
    """Return the names that a group allows, sorted."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def load_group(group: str, name: str, schema: type[T], overrides: Sequence[str]) -> T:
    """Return one option of a group, e.g. `corpus=csv`, with values changed by overrides.

    Args:
        group: Folder in `conf/`.
        name: File in it, without `.yaml`.
        schema: Dataclass that says which keys there are and of which type.
        overrides: `key=value`, the key without the group's name.

    Raises:
        ConfigError: when there is no such option, an unknown key, a wrong type or a missing value; with what is
            allowed.
    """
    names = option_names(group)
    if name not in names:
        raise ConfigError(f"{group}={name}: allowed are {', '.join(names) or 'none (no conf/' + group + ')'}.")
    for override in overrides:
        if "=" not in override.strip("="):
            raise ConfigError(f"{group}.{override}: key=value is wanted.")
    path = conf_folder() / group / f"{name}.yaml"
    try:
        values = OmegaConf.load(path)
        if isinstance(values, DictConfig):
            values.pop("defaults", None)  # what the option says of other groups is Hydra's to read
        merged = OmegaConf.merge(writable_node(schema), values, *(_override(schema, each) for each in overrides))
        result = OmegaConf.to_object(merged)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{group}.{error.full_key} is missing: give {group}.{error.full_key}=VALUE.") from None
    except (OmegaConfBaseException, YAMLError, OSError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(_fault(group, error, schema)) from None
    if not isinstance(result, schema):
        raise ConfigError(f"{path}: a mapping of keys to values is wanted, got {type(result).__name__}.")
    return result


def _override(schema: type, override: str) -> DictConfig:
    """Return `key=value` as a node: text as typed (YAML would read `NO` as false), anything else as YAML."""
    key, _, text = override.partition("=")
    is_text = typing.get_type_hints(schema).get(key) in (str, str | None)
    if is_text and text != "null" and not text.startswith(("'", '"')):
        return OmegaConf.create({key: text})
    return OmegaConf.from_dotlist([override])


def split_overrides(arguments: Sequence[str], defaults: dict[str, str]) -> dict[str, tuple[str, list[str]]]:
    """Sort `group=name` and `group.key=value` arguments by group.

    Args:
        arguments: As typed.
        defaults: Name of the option for every group that may be given.

    Returns:
        For every group, the option's name and its overrides.

    Raises:
        ConfigError: when an argument belongs to no group.
    """
    names, overrides = dict(defaults), {group: list[str]() for group in defaults}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        group, dot, rest = key.partition(".")
        if group not in defaults or not equals or (dot and not rest):
            raise ConfigError(f"{argument}: allowed are {', '.join(f'{g}=NAME and {g}.KEY=VALUE' for g in defaults)}.")
        if dot:
            overrides[group].append(f"{rest}={value}")
        else:
            names[group] = value
    return {group: (names[group], overrides[group]) for group in defaults}


def writable_node(schema: type) -> DictConfig:
    """Return a dataclass as a node that values can be merged into and that checks them."""
    node = cast("DictConfig", OmegaConf.structured(schema))
    _make_writable(node)
    return node


def _make_writable(node: Any) -> None:
    # A frozen dataclass gives read-only nodes, which refuse to be merged into.
    OmegaConf.set_readonly(node, None)
    for key in node if OmegaConf.is_dict(node) else ():
        if not OmegaConf.is_missing(node, key) and OmegaConf.is_config(child := node[key]):
            _make_writable(child)


def _fault(group: str, error: Exception, schema: Any) -> str:
    if not isinstance(error, OmegaConfBaseException):
        words = next(iter(str(error).splitlines()), "") or type(error).__name__
        return f"{group}: {words[:MESSAGE_CHARS]}."
    refusal, words = refusal_of(error), words_of(error)[:MESSAGE_CHARS]
    if not refusal.key:
        return f"{group}: {words}."
    key = f"{group}.{refusal.key}"
    fields = ", ".join(field.name for field in dataclasses.fields(schema))
    if refusal.kind is Kind.UNKNOWN_KEY:
        return f"{key}: there is no such key. Allowed keys: {fields}."
    hint = typing.get_type_hints(schema).get(refusal.key) or refusal.hint
    if refusal.kind is Kind.WRONG_VALUE and hint is not None:
        return f"{key}={as_typed(refusal.value)[:MESSAGE_CHARS]}: {type_name(hint)} is wanted."
    return f"{key}: {words}."


def as_typed(value: Any) -> str:
    """Return a value as it would be typed."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
