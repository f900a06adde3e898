"""What Hydra, OmegaConf and YAML complain of, said so that whoever typed the command can act on it.

A fault is known by the class and the fields of an error, by our own schema, and by what was typed or stands in the YAML
files that were chosen. The libraries' own words are shown beside ours, or where nothing else is known; nothing is read
from them.
"""

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medqa_finetune.compat import hydra as hydra_compat
from medqa_finetune.compat import omegaconf as omegaconf_compat
from medqa_finetune.compat.hydra import ABSENT, Argument, ConfigFile, MissingFile, chosen_names, value_at
from medqa_finetune.compat.omegaconf import Kind, Refusal, references_of, variables_of
from medqa_finetune.config.command_line import alternatives, type_name
from medqa_finetune.config.options import as_typed, conf_folder, writable_node
from medqa_finetune.config.schema import Config

SECTIONS = ("method", "data", "corpus", "model", "train", "evaluate", "tracker")
# The file that every composition begins with, `config.yaml`.
PRIMARY_FILE = "config"
MESSAGE_LENGTH = 600
# Of a library's own words, beside ours.
WORDS_LENGTH = 200


def explain(
    error: Exception,
    typed: Sequence[str] = (),
    folders: Sequence[Path] = (),
    written: Mapping[str, Any] | None = None,
) -> str:
    """Return what of a Hydra, OmegaConf or YAML error a user can act on, as one line.

    Args:
        error: What was raised while a configuration was composed or resolved.
        typed: The arguments it was composed of, flags among them.
        folders: Where configuration files were looked for; our own folder if empty.
        written: Every value before interpolation, by dotted key.
    """
    text = _explained(error, _Asked(tuple(typed), tuple(folders) or (conf_folder(),)), written or {})
    return " ".join(text.split())[:MESSAGE_LENGTH]


def _explained(error: Exception, asked: "_Asked", written: Mapping[str, Any]) -> str:
    if (text := _of_file(error, asked)) is not None:
        return text
    if (missing := hydra_compat.missing_file(error)) is not None:
        return _missing(missing, asked)
    if (argument := hydra_compat.unreadable_argument(error)) is not None:
        return _unreadable(argument, hydra_compat.words_of(error))
    if (cause := hydra_compat.cause_of(error)) is not None:
        return _refused(cause, asked, written)
    argued = _argued_fault(asked) if hydra_compat.is_composition_error(error) else None
    return _choice_fault(asked) or argued or hydra_compat.words_of(error)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What a composition was made of."""

    typed: tuple[str, ...]
    folders: tuple[Path, ...]

    @cached_property
    def arguments(self) -> list[Argument]:
        return hydra_compat.read_arguments(self.typed)

    @cached_property
    def files(self) -> list[ConfigFile]:
        return hydra_compat.config_files(PRIMARY_FILE, self.folders, self.arguments)

    def options(self, group: str) -> list[str]:
        """Return what a group has in the folders."""
        return sorted({path.stem for folder in self.folders for path in (folder / group).glob("*.yaml")})

    def holder(self, key: str, is_at_fault: Callable[[Any], bool]) -> tuple[ConfigFile, Any] | None:
        """Return the first file with such a value at a key, and the value."""
        found = ((file, file.at(key)) for file in self.files)
        return next(((file, value) for file, value in found if value is not ABSENT and is_at_fault(value)), None)

    def unreadable(self, error: Exception) -> ConfigFile | None:
        """Return the first file that reading ends with an error of the same class."""
        return next((file for file in self.files if type(file.error) is type(error)), None)


def _of_file(error: Exception, asked: _Asked) -> str | None:
    """Return what is wrong with a YAML file as such; None where the error is another one."""
    if isinstance(error, yaml.YAMLError):
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        if mark is None:
            return f"a configuration file is not YAML: {error}"
        return f"{mark.name}, line {mark.line + 1}: this is not YAML ({problem})."
    if isinstance(error, RecursionError):
        return "a configuration file is nested too deeply, or an alias in it contains itself."
    file = asked.unreadable(error)
    name = f"{file.name}.yaml" if file else "a configuration file"
    if isinstance(error, UnicodeDecodeError):
        return f"{name} is not UTF-8 (byte {error.start}); save it as UTF-8."
    if type(error) is OSError and omegaconf_compat.is_no_mapping(error):
        return f"{name} is no mapping of keys to values{f', got {as_typed(file.values)}' if file else ''}."
    return None


def _missing(missing: MissingFile, asked: _Asked) -> str:
    group, name = missing.group, f"{missing.group}/{missing.choice}".lstrip("/")
    typed = [name in chosen_names(argument) for argument in asked.arguments]
    file = None if any(typed) else next((file for file in asked.files if name in file.chooses), None)
    place = "" if file is None or file.name == PRIMARY_FILE else f"{file.name}.yaml: "
    options = missing.options or asked.options(group)
    if not group or not options:
        return f"{place}{name}.yaml: there is no such configuration file."
    return f"{place}{group}={missing.choice}: allowed are {', '.join(options)}."


def _unreadable(argument: str, words: str) -> str:
    if "=" not in argument.strip("=") and not argument.startswith("~"):
        return f"'{argument}': key=value is wanted."
    how = "a value with brackets, quotes or = goes in quotes, key='value'"
    return f"'{argument}': this cannot be read; {how} ({words[:WORDS_LENGTH]})."


def _refused(error: OmegaConfBaseException, asked: _Asked, written: Mapping[str, Any]) -> str:
    refusal, words = omegaconf_compat.refusal_of(error), omegaconf_compat.words_of(error)
    key = refusal.key
    if (file := asked.unreadable(error)) is not None:
        return f"{file.name}.yaml: {key}{': ' if key else ''}{words}"
    if refusal.kind is Kind.WRONG_VALUE:
        return _wrong_value(refusal, words, asked) if key else _misfit(asked) or words
    if refusal.kind is Kind.UNKNOWN_KEY and key:
        return _unknown_key(key, asked)
    if refusal.kind is Kind.MISSING and key:
        return f"{key} is missing: give it on the command line, {key}=VALUE."
    if refusal.kind is Kind.UNRESOLVED:
        return _unresolved(refusal, words, written)
    return f"{key}: {words}" if key else words


def _wrong_value(refusal: Refusal, words: str, asked: _Asked) -> str:
    key = refusal.key
    hint = hint_of(key) or refusal.hint
    place, setting, value = "", key, refusal.value
    if (held := asked.holder(key, partial(_is_refused, refusal))) is not None:
        place, value = f"{held[0].name}.yaml: ", held[1]
        setting = f"{key}={as_typed(value)}"
    elif (argument := next((each for each in asked.arguments if _is_at_fault(refusal, each)), None)) is not None:
        setting, value = argument.typed, value if value is not None else argument.value
    elif value is not None:
        setting = f"{key}={as_typed(value)}"
    if hint is None:
        return f"{place}{setting}: {words}"
    if value is None and setting != key and type(None) not in alternatives(hint):
        return f"{place}{setting}: null is not allowed, {type_name(hint)} is wanted."
    return f"{place}{setting}: {type_name(hint)} is wanted."


def _is_refused(refusal: Refusal, value: Any) -> bool:
    """Say whether a value is the one refused: for a key of ours the schema is asked, others are compared."""
    if hint_of(refusal.key) is None or "[" in refusal.key:
        return bool(value == refusal.value)
    return _misfits(refusal.key, value)


def _is_at_fault(refusal: Refusal, argument: Argument) -> bool:
    """Say whether an argument gives the value refused: to the key, in a mapping around it, or as a key below it."""
    if argument.key.startswith(f"{refusal.key}."):
        return True
    if argument.sweeps or not f"{refusal.key}.".startswith(f"{argument.key}."):
        return False
    value = value_at(argument.value, refusal.key.removeprefix(argument.key))
    return value is not ABSENT and _is_refused(refusal, value)


def _misfits(key: str, value: Any) -> bool:
    try:
        OmegaConf.update(schema_node(), key, value)
    except OmegaConfBaseException:
        return key not in SECTIONS or not isinstance(value, dict)  # what is wrong inside one is found key by key
    return False


def _misfit(asked: _Asked) -> str | None:
    """Return which file gives which key or section a value that is none for it; None where none does."""
    for key in (*SECTIONS, *dotted_keys(schema_node())):
        if (held := asked.holder(key, partial(_misfits, key))) is not None:
            return f"{held[0].name}.yaml: {key}={as_typed(held[1])}: {type_name(hint_of(key))} is wanted."
    return None


def _unknown_key(key: str, asked: _Asked) -> str:
    if (held := asked.holder(key, lambda _: True)) is not None:
        return f"{held[0].name}.yaml: {key}: there is no such key{similar_keys(key)}"
    # Of `trian.epochs` it is `trian` that is refused.
    whole = next((each.key for each in asked.arguments if each.key.startswith(f"{key}.")), key)
    return f"{whole}: there is no such key{similar_keys(whole)}"


def _unresolved(refusal: Refusal, words: str, written: Mapping[str, Any]) -> str:
    text = refusal.written if isinstance(refusal.written, str) else ""
    setting = f"{refusal.key}={text}" if text else refusal.key
    texts = list(_followed(text, written))
    unset = [name for each in texts for name in variables_of(each) if name not in os.environ]
    if unset:
        return f"{setting}: the environment variable {unset[0]} is not set."
    known = {*written, *dotted_keys(schema_node()), *SECTIONS}
    unknown = [name for each in texts for name in references_of(each) if name.partition("[")[0] not in known]
    if unknown:
        return f"{setting}: the key {unknown[0]} is not found{similar_keys(unknown[0])}"
    return f"{setting}: this interpolation cannot be resolved ({words[:WORDS_LENGTH]})."


def _followed(text: str, written: Mapping[str, Any]) -> Iterator[str]:
    """Yield a text and those it refers to, as they were written."""
    waiting, seen = [text], {text}
    while waiting:
        yield (text := waiting.pop(0))
        others = {str(written[name]) for name in references_of(text) if name in written} - seen
        seen |= others
        waiting += sorted(others)


def _choice_fault(asked: _Asked) -> str | None:
    """Return which argument chooses what is no name, for which Hydra raises a bare ValueError; None for none."""
    for argument in asked.arguments:
        options = asked.options(argument.key) if argument.key else []
        if not argument.key:
            return f"'{argument.typed}': key=value is wanted."
        if options and not argument.prefix and not argument.sweeps and not isinstance(argument.value, str | list):
            return f"{argument.typed}: allowed are {', '.join(options)}."
    return None


def _argued_fault(asked: _Asked) -> str | None:
    """Return which argument Hydra refuses with an error that has no fields, and why; None for none."""
    known = {*dotted_keys(schema_node()), *SECTIONS}
    sweeps = {"-m", "--multirun"} & {*asked.typed} or any(each.key == "hydra.mode" for each in asked.arguments)
    for argument in asked.arguments:
        key = argument.key
        if argument.sweeps and not sweeps:
            return f"{argument.typed}: several values are run with -m (--multirun); a list is written [a,b]."
        if argument.prefix == "+" and key in known - {*SECTIONS} and not isinstance(argument.value, dict | list):
            return f"{argument.typed}: the key exists; type it without the +."
        is_ours = not key.startswith(("hydra.", "hydra/")) and not asked.options(key)
        if is_ours and argument.prefix in ("", "~") and key not in known:
            return f"{argument.typed if argument.prefix else key}: there is no such key{similar_keys(key)}"
    return None


def hint_of(key: str) -> Any:
    """Return the type that the schema gives a dotted key, `evaluate.metrics[0]` among them; None for no key of ours."""
    hint: Any = Config
    for part in re.findall(r"[^.\[\]]+", key):
        whole = next((each for each in alternatives(hint) if each is not type(None)), None)
        if dataclasses.is_dataclass(whole):
            hint = typing.get_type_hints(whole).get(part)
        else:
            hint = next(iter(typing.get_args(whole)), None) if part.isdigit() else None
    return None if hint is Any else hint


def similar_keys(key: str) -> str:
    """Return a hint at the keys that exist, where `key` does not."""
    known = [*dotted_keys(schema_node()), *SECTIONS, "profile"]
    if key in known:
        return ""
    matches = difflib.get_close_matches(key, known, n=3)
    # Beside one that is hardly misspelt, what shares its section alone is no help.
    likeness = {other: difflib.SequenceMatcher(None, key, other).ratio() for other in matches}
    close = [other for other in matches if likeness[other] > likeness[matches[0]] - 0.1]
    close = close or [other for other in known if other.startswith(key.partition(".")[0])]
    return f". Did you mean {' or '.join(close[:6])}?" if close else ". See `python -m medqa_finetune.train --help`."


def schema_node() -> DictConfig:
    """Return the schema as a node that values can be merged into."""
    return writable_node(Config)


def dotted_keys(node: DictConfig) -> list[str]:
    """Return every key below a node, as `train.epochs`; a section without keys has none."""
    return list(_dotted(OmegaConf.to_container(node, resolve=False), ""))


def _dotted(values: Any, prefix: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
