"""Turns errors of Hydra, OmegaConf and YAML into faults with key, value, file and hint.

Faults are derived from the class and fields of an error, our schema, the arguments and the chosen YAML files. Messages
of the libraries are never parsed, and shown only where nothing better is known.
"""

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medqa_finetune.compat import hydra as hydra_compat
from medqa_finetune.compat import omegaconf as omegaconf_compat
from medqa_finetune.compat.hydra import ABSENT, Argument, ConfigFile, MissingFile, chosen_names, value_at
from medqa_finetune.compat.omegaconf import Kind, Refusal, references_of, variables_of
from medqa_finetune.config.command_line import quoted
from medqa_finetune.config.corrections import ALIASES, typed_command
from medqa_finetune.config.groups import clause, conf_folder, writable_node, yaml_fault
from medqa_finetune.config.plugin_keys import KEYS, is_plugin_setting, unknown_plugin_setting
from medqa_finetune.config.schema import Config
from medqa_finetune.config.schema_faults import alternatives, type_fault, unknown_value
from medqa_finetune.config.size_names import size_of
from medqa_finetune.errors import NO_VALUE, Fault, brief

SECTIONS = ("method", "data", "corpus", "model", "train", "evaluate", "tracker")
# Every composition begins with this file, `config.yaml`.
PRIMARY_FILE = "config"
HYDRA_KEYS = (
    "hydra.mode",
    "hydra.searchpath",
    "hydra.sweeper.params",
    "hydra/launcher",
    "hydra/sweeper",
    *(f"hydra.launcher.{key}" for key in KEYS["hydra/launcher"]["local"]),
)
# Groups whose files set keys of all sections, and say so.
OF_ROOT = ("profile", "experiment")
# As Hydra's grammar has it.
KEY = re.compile(r"[A-Za-z_][\w-]*(?:[./@:][\w-]+)*", re.ASCII)
# Choices that other programs of Hydra's have.
PLUGIN_HINTS = {
    "hydra/sweeper=optuna": "hydra/sweeper=learning_rate, rank or tuning asks Optuna here.",
    "hydra/launcher=submitit_slurm": "Give hydra/launcher=slurm.",
    "hydra/launcher=joblib": "local runs cells side by side: hydra.launcher.max_parallel=N.",
}
FIRST_LINE = "the first line of the file is missing, which makes its keys those of an experiment"
FIRST_LINE_HINT = "Begin it with `# @package _global_`."
# Most characters of a library's message, alone and inside our own.
ALONE_LENGTH = 600
WORDS_LENGTH = 200


def explain(
    error: Exception,
    typed: Sequence[str] = (),
    folders: Sequence[Path] = (),
    written: Mapping[str, object] | None = None,
) -> list[Fault]:
    """Return the faults behind an error of Hydra, OmegaConf or YAML, at least one.

    Args:
        error: Raised while a configuration was composed or resolved.
        typed: Arguments of the composition, including flags.
        folders: Folders of the configuration files; our own if empty.
        written: Values before interpolation, by dotted key.
    """
    fault = _explained(error, _Asked(tuple(typed), tuple(folders) or (conf_folder(),)), written or {})
    # A typed key may be of any length.
    return [fault.but(key=None if fault.key is None else brief(fault.key))]


def unknown_setting(key: str) -> Fault:
    """Return the fault of a key that the schema does not have, with a hint at similar keys."""
    return Fault("unknown-key", "there is no such key", key=key, hint=similar_keys(key))


def missing_setting(key: str) -> Fault:
    """Return the fault of a mandatory key without a value."""
    return Fault("missing-key", "is missing", key=key, hint=f"Give it on the command line: {key}=VALUE.")


def _explained(error: Exception, asked: "_Asked", written: Mapping[str, object]) -> Fault:
    if (fault := _of_file(error, asked)) is not None:
        return fault
    if (missing := hydra_compat.missing_file(error)) is not None:
        return _missing(missing, asked)
    if (argument := hydra_compat.unreadable_argument(error)) is not None:
        return _unreadable(argument, hydra_compat.words_of(error))
    if (cause := hydra_compat.cause_of(error)) is not None:
        return _refused(cause, asked, written)
    if hydra_compat.is_refused_plugin(error) and (refused := _plugin_fault(asked)) is not None:
        return refused
    argued = None
    if hydra_compat.is_composition_error(error):
        argued = _defaults_fault(asked) or _argued_fault(asked)
    return _choice_fault(asked) or argued or _in_words(hydra_compat.words_of(error))


def _in_words(words: str, key: str = "", **place: Any) -> Fault:
    return Fault("refused", clause(words, ALONE_LENGTH), key=key or None, **place)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Arguments and folders of a composition, and what is read from them on demand."""

    typed: tuple[str, ...]
    folders: tuple[Path, ...]

    @cached_property
    def arguments(self) -> list[Argument]:
        return hydra_compat.read_arguments(map(quoted, self.typed))

    @cached_property
    def files(self) -> list[ConfigFile]:
        return hydra_compat.config_files(PRIMARY_FILE, self.folders, self.arguments)

    def options(self, group: str) -> list[str]:
        return sorted({path.stem for folder in self.folders for path in (folder / group).glob("*.yaml")})

    def holder(self, key: str, is_at_fault: Callable[[object], bool]) -> tuple[ConfigFile, Any] | None:
        """Return the first file whose value at a key is at fault, and the value."""
        found = ((file, file.at(key)) for file in self.files)
        return next(((file, value) for file, value in found if value is not ABSENT and is_at_fault(value)), None)

    def unreadable(self, error: Exception) -> ConfigFile | None:
        """Return the first file that fails with an error of the same class."""
        return next((file for file in self.files if type(file.error) is type(error)), None)


def _of_file(error: Exception, asked: _Asked) -> Fault | None:
    """Return the fault of an unreadable YAML file; None for other errors."""
    if isinstance(error, yaml.YAMLError):
        fault = yaml_fault(error)
    elif isinstance(error, RecursionError):
        fault = Fault("too-deep", "is nested too deeply, or an alias in it contains itself")
    else:
        file = asked.unreadable(error)
        path, got = (str(file.path), file.values) if file else (None, NO_VALUE)
        if isinstance(error, UnicodeDecodeError):
            hint = "Save it as UTF-8."
            fault = Fault("not-utf8", f"is not UTF-8 (byte {error.start})", file=path, hint=hint)
        elif type(error) is OSError and omegaconf_compat.is_no_mapping(error):
            fault = Fault("not-a-mapping", "must be a mapping of keys to values", got=got, file=path)
        else:
            return None
    return fault if fault.file is not None else fault.but(problem=f"a configuration file {fault.problem}")


def _missing(missing: MissingFile, asked: _Asked) -> Fault:
    if missing.group.startswith("model/"):
        return _of_hub(f"{missing.group.removeprefix('model/')}/{missing.choice}", asked)
    group, name = missing.group, f"{missing.group}/{missing.choice}".lstrip("/")
    typed = [name in chosen_names(argument) for argument in asked.arguments]
    file = None if any(typed) else next((file for file in asked.files if name in file.chooses), None)
    place = None if file is None or file.name == PRIMARY_FILE else str(file.path)
    options = missing.options or tuple(asked.options(group))
    if f"--config-name={name}" in asked.typed:
        found = sorted({path.stem for folder in asked.folders for path in folder.glob("*.yaml")})
        hint = "Give the folder with the file as well: --config-dir DIR."
        problem = "no such configuration file"
        return Fault("file-missing", problem, key="--config-name", got=name, allowed=tuple(found), hint=hint)
    if not group or not options:
        return Fault("file-missing", "no such configuration file", got=f"{name}.yaml", file=place)
    return unknown_value(group, missing.choice, options, hint=_choice_hint(group, missing.choice), file=place)


def _of_hub(name: str, asked: _Asked) -> Fault:
    """Return the fault of a model that is named as hubs do."""
    folder = f"models/{name.rpartition('/')[2]}"
    hint = f"Run `medqa-download model={name}`, then give model=local model.path={folder}."
    return unknown_value("model", name, asked.options("model"), hint=hint)


def _choice_hint(group: str, choice: str) -> str:
    """Return what to do about a choice that has no file and needs none; empty for others."""
    if group == "data" and (number := size_of(choice)) is not None:
        return f"Any size: data.train_size={number}."
    return PLUGIN_HINTS.get(f"{group}={choice}", "")


def _unreadable(argument: str, words: str) -> Fault:
    if "=" not in argument.strip("=") and not argument.startswith("~"):
        return _no_pair(argument)
    key = argument.partition("=")[0].lstrip("+~")
    if "[" in key:
        whole = key.partition("[")[0]
        hint = f"Give the whole list, such as {whole}=[a,b]."
        return Fault("unknown-key", "elements of a list have no keys", key=key, hint=hint)
    if not KEY.fullmatch(key):
        return Fault("unknown-key", "there is no such key", key=key, hint=f"See `{typed_command()} --help`.")
    hint = "Put a value with brackets, quotes or = in quotes: key='value'."
    return Fault("not-readable", f"cannot be read ({clause(words, WORDS_LENGTH)})", got=argument, hint=hint)


def _no_pair(argument: str) -> Fault:
    return Fault("not-key-value", "must be key=value", got=argument)


def _refused(error: OmegaConfBaseException, asked: _Asked, written: Mapping[str, object]) -> Fault:
    refusal, words = omegaconf_compat.refusal_of(error), omegaconf_compat.words_of(error)
    key = refusal.key
    if (file := asked.unreadable(error)) is not None:
        return _in_words(words, key, file=str(file.path))
    if refusal.kind is Kind.WRONG_VALUE:
        return _wrong_value(refusal, words, asked) if key else _misfit(asked) or _in_words(words)
    if refusal.kind is Kind.UNKNOWN_KEY and key:
        return _unknown_key(key, asked)
    if refusal.kind is Kind.MISSING and key:
        return missing_setting(key)
    if refusal.kind is Kind.UNRESOLVED:
        return _unresolved(refusal, words, written)
    return _in_words(words, key)


def _wrong_value(refusal: Refusal, words: str, asked: _Asked) -> Fault:
    key, place = refusal.key, None
    hint = hint_of(key) or refusal.hint
    got = NO_VALUE if refusal.value is None else refusal.value
    if (held := asked.holder(key, partial(_is_refused, refusal))) is not None:
        place, got = str(held[0].path), held[1]
    elif (argument := next((each for each in asked.arguments if _is_at_fault(refusal, each)), None)) is not None:
        if argument.key.startswith(f"{key}."):
            key, got = argument.key, argument.value
        else:
            got = value_at(argument.value, key.removeprefix(argument.key))
    if hint is None:
        return _in_words(words, key, got=got, file=place)
    return type_fault(hint, key, got).but(file=place)


def _is_refused(refusal: Refusal, value: object) -> bool:
    """Return whether a value is the refused one: by the schema for its keys, else by equality."""
    if hint_of(refusal.key) is None or "[" in refusal.key:
        return bool(value == refusal.value)
    return _misfits(refusal.key, value)


def _is_at_fault(refusal: Refusal, argument: Argument) -> bool:
    """Return whether an argument sets the refused value: to the key, in a mapping around it, or as a key below it."""
    if argument.key.startswith(f"{refusal.key}."):
        return True
    if argument.sweeps or not f"{refusal.key}.".startswith(f"{argument.key}."):
        return False
    value = value_at(argument.value, refusal.key.removeprefix(argument.key))
    return value is not ABSENT and _is_refused(refusal, value)


def _misfits(key: str, value: object) -> bool:
    try:
        OmegaConf.update(schema_node(), key, value)
    except OmegaConfBaseException:
        return key not in SECTIONS or not isinstance(value, dict)  # faults inside a section are found key by key
    return False


def _misfit(asked: _Asked) -> Fault | None:
    """Return the fault of the first value in a file that has the wrong type; None where there is none."""
    for key in (*SECTIONS, *schema_keys()):
        if (held := asked.holder(key, partial(_misfits, key))) is not None:
            return type_fault(hint_of(key), key, held[1]).but(file=str(held[0].path))
    return None


def _unknown_key(key: str, asked: _Asked) -> Fault:
    if (held := asked.holder(key, lambda _: True)) is not None and key in OF_ROOT:
        return Fault("no-package", FIRST_LINE, key=key, file=str(held[0].path), hint=FIRST_LINE_HINT)
    if held is not None:
        return unknown_setting(key).but(got=held[1], file=str(held[0].path))
    # For `trian.epochs`, Hydra refuses `trian`.
    whole = next((each.key for each in asked.arguments if each.key.startswith(f"{key}.")), key)
    if is_plugin_setting(whole):
        return unknown_plugin_setting(whole, asked.arguments)
    return unknown_setting(whole)


def _plugin_fault(asked: _Asked) -> Fault | None:
    """Return the fault of the first added setting that a launcher or sweeper does not have."""
    added = [each.key for each in asked.arguments if each.prefix and is_plugin_setting(each.key)]
    faults = [unknown_plugin_setting(key, asked.arguments) for key in added]
    return next((fault for key, fault in zip(added, faults, strict=True) if key not in fault.allowed), None)


def _unresolved(refusal: Refusal, words: str, written: Mapping[str, object]) -> Fault:
    text = refusal.written if isinstance(refusal.written, str) else ""
    fault = Fault(
        "unresolved",
        f"this interpolation cannot be resolved ({clause(words, WORDS_LENGTH)})",
        key=refusal.key or None,
        got=text or NO_VALUE,
    )
    texts = list(_followed(text, written))
    unset = [name for each in texts for name in variables_of(each) if name not in os.environ]
    if unset:
        problem, hint = f"the environment variable {unset[0]} is not set", f"Set it: export {unset[0]}=VALUE."
        return fault.but(code="variable-not-set", problem=problem, hint=hint)
    known = {*written, *schema_keys(), *SECTIONS}
    unknown = [name for each in texts for name in references_of(each) if name.partition("[")[0] not in known]
    if unknown:
        return fault.but(problem=f"there is no key {unknown[0]}", hint=similar_keys(unknown[0]))
    return fault


def _followed(text: str, written: Mapping[str, object]) -> Iterator[str]:
    """Yield a text and, unresolved, the texts that it refers to."""
    waiting, seen = [text], {text}
    while waiting:
        yield (text := waiting.pop(0))
        others = {str(written[name]) for name in references_of(text) if name in written} - seen
        seen |= others
        waiting += sorted(others)


def _choice_fault(asked: _Asked) -> Fault | None:
    """Return the fault of a group choice without a name, for which Hydra raises a bare ValueError."""
    for argument in asked.arguments:
        options = asked.options(argument.key) if argument.key else []
        if not argument.key:
            return _no_pair(argument.typed)
        if options and not argument.prefix and not argument.sweeps and not isinstance(argument.value, str | list):
            hint = _choice_hint(argument.key, str(argument.value))
            return unknown_value(argument.key, argument.value, options, hint=hint)
    return None


def _defaults_fault(asked: _Asked) -> Fault | None:
    """Return the fault of a chosen file that overrides a group as if that were inside its own; None where none does."""
    for file in asked.files[1:]:
        for group, choice in hydra_compat.overridden_groups(file):
            inside = file.package in OF_ROOT
            if group.startswith("/") and not inside:
                continue
            place = {"key": f"override {group}", "got": choice, "file": str(file.path)}
            if inside:
                return Fault("no-package", FIRST_LINE, key=file.package, file=str(file.path), hint=FIRST_LINE_HINT)
            if group.startswith("hydra/"):
                hint = f"Give {group}={choice} on the command line."
                return Fault("no-effect", "cannot be chosen in this file", **place, hint=hint)
            if group in (*SECTIONS, "profile"):
                hint = f"Write override /{group}: {choice}."
                return Fault("not-found", "there is no such group inside this one", **place, hint=hint)
    return None


def _argued_fault(asked: _Asked) -> Fault | None:
    """Return the fault of an argument that Hydra refuses with an error without fields; None where there is none."""
    known = {*schema_keys(), *SECTIONS}
    sweeps = {"-m", "--multirun"} & {*asked.typed} or any(each.key == "hydra.mode" for each in asked.arguments)
    for argument in asked.arguments:
        key, typed = argument.key, argument.prefix + argument.key
        if argument.sweeps and not sweeps:
            text = argument.typed.partition("=")[2]
            return Fault(
                "several-values",
                "must be one value",
                key=typed,
                got=text,
                hint="Give -m (--multirun) to run one per value.",
            )
        if argument.prefix == "+" and key in known - {*SECTIONS} and not isinstance(argument.value, dict | list):
            return Fault("key-exists", "the key exists", key=typed, got=argument.value, hint="Type it without the +.")
        is_ours = not key.startswith(("hydra.", "hydra/")) and not asked.options(key)
        if is_ours and argument.prefix in ("", "~") and key not in known:
            return unknown_setting(key).but(key=typed)
    return None


def hint_of(key: str) -> Any:
    """Return the type of a dotted key in the schema, also of `evaluate.metrics[0]`; None for an unknown key."""
    hint: object = Config
    for part in re.findall(r"[^.\[\]]+", key):
        whole = next((each for each in alternatives(hint) if each is not type(None)), None)
        if dataclasses.is_dataclass(whole):
            hint = typing.get_type_hints(whole).get(part)
        else:
            hint = next(iter(typing.get_args(whole)), None) if part.isdigit() else None
    return None if hint is Any else hint


def similar_keys(key: str) -> str:
    """Return a hint with keys similar to an unknown one; empty for a known key."""
    known = [*schema_keys(), *SECTIONS, "profile"]
    if key in known:
        return ""
    if key.startswith("hydra.job.env_set."):
        return f"Type it with a +, as Hydra asks for new variables: +{key}=VALUE."
    last = key.rpartition(".")[2]
    if last in ALIASES:
        return f"Did you mean {ALIASES[last]}?"
    if named := [other for other in known if other.endswith(f".{last}")]:
        return f"Did you mean {' or '.join(named)}?"
    if key.startswith("hydra"):
        known = list(HYDRA_KEYS)
    matches = difflib.get_close_matches(key, known, n=3)
    # Matches much less similar than the best one mislead.
    likeness = {other: difflib.SequenceMatcher(None, key, other).ratio() for other in matches}
    close = [other for other in matches if likeness[other] > likeness[matches[0]] - 0.1]
    close = close or [other for other in known if other.startswith(key.partition(".")[0])]
    return f"Did you mean {' or '.join(close[:6])}?" if close else "See `python -m medqa_finetune.train --help`."


def schema_node() -> DictConfig:
    """Return the schema as a writable OmegaConf node."""
    return writable_node(Config)


@cache
def schema_keys() -> tuple[str, ...]:
    """Return every key of the schema, as `train.epochs`."""
    return tuple(dotted_keys(OmegaConf.to_container(schema_node(), resolve=False)))


def dotted_keys(values: Any) -> list[str]:
    """Return every key below nested mappings, as `train.epochs`; a section without keys has none."""
    return list(_dotted(values, ""))


def _dotted(values: Any, prefix: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
