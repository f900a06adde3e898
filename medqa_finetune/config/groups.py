"""Reads groups of `conf/` without Hydra: their folder, their options, and one option as a checked dataclass."""

import copy
import dataclasses
import difflib
import typing
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from medqa_finetune.compat.omegaconf import Kind, refusal_of, words_of
from medqa_finetune.config.schema_faults import type_fault, unknown_value
from medqa_finetune.errors import ConfigError, Fault, brief
from medqa_finetune.versions import shipped_path

T = TypeVar("T")

# Groups of an experiment, in the order in which a bare name (`lora`, `20k`) is looked for.
GROUPS = ("method", "data", "model", "corpus", "profile", "experiment", "train", "evaluate", "tracker")
# Most characters of a library's message, which may quote the input.
WORDS_CHARS = 300


def conf_folder() -> Path:
    """Return the package's folder of YAML values, `conf/`."""
    return shipped_path("conf")


def conf_folders(arguments: Sequence[str]) -> list[Path]:
    """Return our folder of configuration groups, and the user's from `--config-dir`, if given."""
    pairs = [*pairwise(arguments), *((flag, folder) for flag, _, folder in (each.partition("=") for each in arguments))]
    own = [Path(folder) for flag, folder in pairs if flag in ("--config-dir", "-cd") and folder]
    return [conf_folder(), *(folder for folder in own if folder.is_dir())]


def option_names(group: str) -> list[str]:
    """Return the options of a group, sorted."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def values_of_profile(name: str | None) -> dict[str, Any]:
    """Return the values that a profile sets, by section; empty for an unknown profile."""
    path = conf_folder() / "profile" / f"{name}.yaml"
    if name is None or not path.is_file():
        return {}
    import yaml

    return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})


def load_group(group: str, name: str, schema: type[T], overrides: Sequence[str]) -> T:
    """Return one option of a group, e.g. `corpus=csv`, with values changed by overrides.

    Args:
        group: Folder in `conf/`.
        name: File in it, without `.yaml`.
        schema: Dataclass with the keys and their types.
        overrides: `key=value`, the key without the group's name.

    Raises:
        ConfigError: there is no such option, an override has an unknown key or a value of the wrong type, or a value is
            missing; its fault lists what is allowed.
    """
    names = option_names(group)
    if name not in names:
        fault = unknown_value(group, name, names)
        raise ConfigError(fault if names else fault.but(problem=f"conf/{group} has no files"))
    for override in overrides:
        if "=" not in override.strip("="):
            raise ConfigError(Fault("not-key-value", "must be key=value", got=f"{group}.{override}"))
    path = conf_folder() / group / f"{name}.yaml"
    values = _read(path, group)
    if isinstance(values, DictConfig):
        values.pop("defaults", None)  # choices of other groups, for Hydra alone
    try:
        merged = OmegaConf.merge(writable_node(schema), values, *(_override(schema, each) for each in overrides))
        result = OmegaConf.to_object(merged)
    except MissingMandatoryValue as error:
        key = f"{group}.{error.full_key}"
        raise ConfigError(Fault("missing-key", "is missing", key=key, hint=f"Give {key}=VALUE.")) from None
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, RecursionError) as error:
        fault = _fault(group, error, schema)
        if isinstance(error, YAMLError) and (faults := _not_yaml(group, schema, overrides)):
            raise ConfigError(*faults) from None
        typed = {group, *(f"{group}.{override.partition('=')[0]}" for override in overrides)}
        raise ConfigError(fault if fault.key in typed else fault.but(file=str(path))) from None
    if not isinstance(result, schema):
        raise ConfigError(Fault("not-a-mapping", "must be a mapping of keys to values", got=result, file=str(path)))
    return result


def _read(path: Path, group: str) -> DictConfig | ListConfig:
    try:
        return OmegaConf.load(path)
    except YAMLError as error:
        raise ConfigError(yaml_fault(error).but(key=group, file=str(path))) from None
    except (OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        words = clause(str(error) or type(error).__name__, WORDS_CHARS)
        raise ConfigError(Fault("not-readable", words, key=group, file=str(path))) from None


def yaml_fault(error: YAMLError) -> Fault:
    """Return the fault of invalid YAML, with file and line where the error has them."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
    words = f"is not YAML ({clause(str(problem), WORDS_CHARS)})"
    return Fault("not-yaml", words, file=mark and mark.name, line_number=mark and mark.line + 1)


def _override(schema: type, override: str) -> DictConfig:
    """Return `key=value` as a node: text as typed (YAML would read `NO` as false), anything else as YAML."""
    key, _, text = override.partition("=")
    is_text = typing.get_type_hints(schema).get(key) in (str, str | None)
    if is_text and text != "null" and not text.startswith(("'", '"')):
        return OmegaConf.create({key: text})
    return OmegaConf.from_dotlist([override])


def _not_yaml(group: str, schema: type, overrides: Sequence[str]) -> list[Fault]:
    """Return the faults of the overrides whose values are not YAML."""
    faults = []
    for override in overrides:
        key, _, text = override.partition("=")
        try:
            _override(schema, override)
        except YAMLError as error:
            value = text.replace("\n", "\\n").replace("'", "''")
            hint = "Put the value in quotes of its own"
            # Longer values, and those with control characters, are not worth repeating.
            hint += f""": "{group}.{key}='{value}'".""" if len(value) <= WORDS_CHARS and value.isprintable() else "."
            faults.append(yaml_fault(error).but(key=f"{group}.{key}", got=text, file=None, line_number=None, hint=hint))
    return faults


def split_overrides(
    arguments: Sequence[str], defaults: dict[str, str], options: Sequence[str] = ()
) -> dict[str, tuple[str, list[str]]]:
    """Sort `group=name` and `group.key=value` arguments by group.

    Args:
        arguments: Arguments as typed.
        defaults: Default option of every allowed group.
        options: Keys of the command's own options, to be named among what is allowed.

    Returns:
        For every group, the option's name and its overrides.

    Raises:
        ConfigError: an argument belongs to no group.
    """
    names, overrides = dict(defaults), {group: list[str]() for group in defaults}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        group, dot, rest = key.partition(".")
        if group not in defaults or not equals or (dot and not rest):
            forms = [form for each in defaults for form in (f"{each}=NAME", f"{each}.KEY=VALUE")]
            close = difflib.get_close_matches(key, [*defaults, *options], n=1)
            hint = f"Did you mean {close[0]}?" if close else ""
            allowed = (*forms, *(f"{each}=" for each in options))
            problem = "must have one of the allowed forms"
            raise ConfigError(Fault("unknown-key", problem, got=argument, allowed=allowed, hint=hint))
        if dot:
            overrides[group].append(f"{rest}={value}")
        else:
            names[group] = value
    return {group: (names[group], overrides[group]) for group in defaults}


def writable_node(schema: type) -> DictConfig:
    """Return a dataclass as a writable OmegaConf node that checks types."""
    return copy.deepcopy(_node_of(schema))


@cache
def _node_of(schema: type) -> DictConfig:
    # Five times as slow as a copy of it, and a composition takes several.
    node = cast("DictConfig", OmegaConf.structured(schema))
    _make_writable(node)
    return node


def _make_writable(node: Any) -> None:
    # Nodes of a frozen dataclass are read-only and refuse merges.
    OmegaConf.set_readonly(node, None)
    for key in node if OmegaConf.is_dict(node) else ():
        if not OmegaConf.is_missing(node, key) and OmegaConf.is_config(child := node[key]):
            _make_writable(child)


def _fault(group: str, error: Exception, schema: Any) -> Fault:
    if isinstance(error, YAMLError):
        return yaml_fault(error).but(key=group, file=None, line_number=None)
    if not isinstance(error, OmegaConfBaseException):
        words = next(iter(str(error).splitlines()), "") or type(error).__name__
        return Fault("not-readable", clause(words, WORDS_CHARS), key=group)
    refusal, words = refusal_of(error), clause(words_of(error), WORDS_CHARS)
    if not refusal.key:
        return Fault("refused", words, key=group)
    key = f"{group}.{brief(refusal.key)}"
    if refusal.kind is Kind.UNKNOWN_KEY:
        fields = tuple(field.name for field in dataclasses.fields(schema))
        return Fault("unknown-key", "there is no such key", key=key, allowed=fields)
    hint = typing.get_type_hints(schema).get(refusal.key) or refusal.hint
    if refusal.kind is Kind.WRONG_VALUE and hint is not None:
        return type_fault(hint, key, refusal.value)
    return Fault("refused", words, key=key)


def clause(words: str, length: int) -> str:
    """Return a library's message as the problem of a fault: one line of at most `length` characters, no full stop."""
    return " ".join(words.split())[:length].rstrip(".")
