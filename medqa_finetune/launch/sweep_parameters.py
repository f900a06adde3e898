"""Takes `hydra.sweeper.params`, typed in any form, for what it means: a sweep over a key, as `-m key=1,2` has it."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medqa_finetune.compat.hydra import Argument, read_arguments
from medqa_finetune.config.flags import CommandLine
from medqa_finetune.config.plugin_keys import SAME, SWEEPER, chosen_plugin, unknown_plugin_setting
from medqa_finetune.errors import ConfigError, Fault

# Settings of our sweepers that hold sweeps by key: those of the matrix, and what is tuned.
PARAMETERS, SPACE = "hydra.sweeper.params", "hydra.sweeper.space"
# Mappings of settings of a launcher or a sweeper.
WHOLE = ("hydra.sweeper", "hydra.launcher")
KEY = re.compile(r"[A-Za-z_][\w.@/]*")
# `key=values` or `key: values` somewhere in a text; brackets and quotes are taken out before.
PAIR = re.compile(r"([A-Za-z_][\w.@/]*)\s*[=:]\s*(.+?)(?=\s*,\s*[A-Za-z_][\w.@/]*\s*[=:]|$)")
# Sweeps within a mapping that cannot be parsed.
IN_MAPPING = re.compile(r"\bparams\s*[:=]\s*(.*)", re.DOTALL)
SEPARATORS = re.compile(r"[,;\s]+")


def default_sweeps(params: Mapping[str, str], typed: Sequence[str]) -> list[str]:
    """Return a configuration's sweeps as overrides, without one over sizes where the command line has its own.

    Args:
        params: `hydra.sweeper.params`, e.g. a profile's matrix.
        typed: Overrides of the command line.
    """
    keys = {override.partition("=")[0].lstrip("+") for override in typed}
    # All that `data=20k` sets is the size, so that every cell would be there once for each of the profile's.
    left = {key: value for key, value in params.items() if not (key == "data" and "data.train_size" in keys)}
    return [f"{key}={value}" for key, value in left.items()]


def with_parameters_as_sweeps(line: CommandLine) -> CommandLine:
    """Return a command line with typed sweeps of the sweeper's settings as such; typed ones come before them.

    Settings of launcher and sweeper in one mapping become single ones, and Hydra's own matrix becomes ours.

    Raises:
        ConfigError: a parameter is no mapping of keys to values, or the chosen sweeper does not have it.
    """
    line = dataclasses.replace(line, overrides=[each for typed in line.overrides for each in _single(typed)])
    typed = {argument.typed: argument for argument in read_arguments(line.overrides)}
    keys = {argument.key for argument in typed.values()}
    tunes = chosen_plugin(SWEEPER, list(typed.values())) == "tuning"
    overrides: list[str] = []
    for override in line.overrides:
        argument, key = typed.get(override), override.partition("=")[0].lstrip("+~")
        root = next((each for each in (PARAMETERS, SPACE) if f"{key}.".startswith(f"{each}.")), None)
        if root is None:
            overrides.append(override)
        elif root == SPACE and not tunes:
            raise ConfigError(unknown_plugin_setting(SPACE, list(typed.values())))
        elif argument is None:
            text = override.partition("=")[2]
            raise ConfigError(_refused(root, text, key.removeprefix(root).strip(".[]")))
        elif key == root and (argument.prefix == "~" or argument.value is None):
            overrides.append(f"{root}=null")
        else:
            sweeps = list(_sweeps(argument, root))
            overrides += [sweep for sweep in sweeps if sweep.partition("=")[0] not in keys]
    return dataclasses.replace(line, overrides=overrides)


def _single(override: str) -> list[str]:
    """Return an override of Hydra's plugins as it is meant: a mapping as single settings, Hydra's matrix as ours.

    Raises:
        ConfigError: sweeps in it are no mapping of Hydra's grammar.
    """
    key, _, value = override.partition("=")
    if key == SWEEPER and value in SAME:
        return [f"{key}={SAME[value]}"]
    if key.lstrip("+") not in WHOLE:
        return [override]
    found = read_arguments([override])
    if not found and (inside := IN_MAPPING.search(value)):
        raise ConfigError(_refused(PARAMETERS, inside[1], ""))
    values = found[0].value if found else None
    if not isinstance(values, dict) or not all(isinstance(name, str) and KEY.fullmatch(name) for name in values):
        return [override]
    return [f"{key}.{name}={_in_grammar(inner)}" for name, inner in values.items()]


def _in_grammar(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_in_grammar(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_in_grammar, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    # A quoted string of Hydra's grammar prints itself with its quotes.
    return str(value) if not isinstance(value, str) or value.isidentifier() else f"'{value}'"


def _sweeps(argument: Argument, root: str) -> Iterator[str]:
    key = argument.key.removeprefix(root).removeprefix(".")
    if argument.sweeps and key:
        yield f"{key}={argument.typed.partition('=')[2]}"
    elif argument.sweeps or argument.prefix == "~" or (not key and not isinstance(argument.value, dict)):
        raise ConfigError(_refused(root, argument.typed.partition("=")[2], key))
    else:
        yield from _of_values(argument, root, key, argument.value)


def _of_values(argument: Argument, root: str, key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _of_values(argument, root, f"{key}.{name}".removeprefix("."), inner)
    elif value is None or isinstance(value, list) or not str(value).strip() or not KEY.fullmatch(key):
        raise ConfigError(_refused(root, value, key))
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield f"{key}={text}"


def _refused(root: str, got: Any, key: str) -> Fault:
    """Return the fault of sweeps in another form, with the sweeps themselves as far as they can be read."""
    text = ",".join(map(str, got)) if isinstance(got, list) else str(got)
    plain = re.sub(r"""[\[\]{}'"]""", "", text).strip(", ")
    pairs = [f"{name}={','.join(SEPARATORS.split(values.strip(', ')))}" for name, values in PAIR.findall(plain)]
    if key and KEY.fullmatch(key):
        pairs = [f"{key}={plain}"] if plain and plain not in ("None", "null") else [f"{key}=1,2"]
    hint = f"Type the sweep itself: -m {' '.join(pairs) or 'seed=1,2'}"
    problem = "must be a key with values to sweep over"
    return Fault("wrong-type", problem, key=f"{root}.{key}" if key else root, got=got, hint=hint)
