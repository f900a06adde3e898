"""Takes `hydra.sweeper.params`, typed in any form, for what it means: a sweep over a key, as `-m key=1,2` has it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medqa_finetune.compat.hydra import Argument, read_arguments
from medqa_finetune.config.flags import CommandLine
from medqa_finetune.errors import ConfigError, Fault

PARAMETERS = "hydra.sweeper.params"


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
    """Return a command line with typed `hydra.sweeper.params` as sweeps; a sweep over the same key comes before them.

    Raises:
        ConfigError: a parameter is no mapping of keys to values.
    """
    typed = {argument.typed: argument for argument in read_arguments(line.overrides)}
    keys = {argument.key for argument in typed.values()}
    overrides: list[str] = []
    for override in line.overrides:
        argument = typed.get(override)
        if argument is None or not f"{argument.key}.".startswith(f"{PARAMETERS}."):
            overrides.append(override)
        elif argument.key == PARAMETERS and (argument.prefix == "~" or argument.value is None):
            overrides.append(f"{PARAMETERS}=null")
        else:
            sweeps = list(_sweeps(argument))
            overrides += [sweep for sweep in sweeps if sweep.partition("=")[0] not in keys]
    return dataclasses.replace(line, overrides=overrides)


def _sweeps(argument: Argument) -> Iterator[str]:
    key = argument.key.removeprefix(PARAMETERS).removeprefix(".")
    if argument.sweeps and key:
        yield f"{key}={argument.typed.partition('=')[2]}"
    elif argument.sweeps or argument.prefix == "~" or (not key and not isinstance(argument.value, dict)):
        raise ConfigError(_refused(argument, argument.typed.partition("=")[2], key))
    else:
        yield from _of_values(argument, key, argument.value)


def _of_values(argument: Argument, key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _of_values(argument, f"{key}.{name}".removeprefix("."), inner)
    elif value is None or isinstance(value, list) or not str(value).strip():
        raise ConfigError(_refused(argument, value, key))
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield f"{key}={text}"


def _refused(argument: Argument, got: Any, key: str) -> Fault:
    values = ",".join(map(str, got)) if isinstance(got, list) and got else "1,2"
    hint = f"Type the sweep itself: -m {key or 'seed'}={values}"
    return Fault("wrong-type", "must be a key with values to sweep over", key=argument.key, got=got, hint=hint)
