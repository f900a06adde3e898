"""Flags of commands that compose an experiment, taken wherever they stand; they are Hydra's.

Hydra itself stops reading arguments at a flag between two of them, and reads the argument after `--info` as its value.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from medqa_finetune.config.schema_faults import unknown_value
from medqa_finetune.errors import NO_VALUE, ConfigError, Fault


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: `--config-dir`.
        short: `-cd`; empty for none.
        value: Placeholder of its value (`DIR`); empty where it has none.
        allowed: The allowed values; any if empty.
        usual: The value of a flag that may stand without one; empty where it may not.
    """

    name: str
    short: str = ""
    value: str = ""
    allowed: tuple[str, ...] = ()
    usual: str = ""


INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
FLAGS = (
    Flag("--help", "-h"),
    Flag("--version"),
    Flag("--hydra-help"),
    Flag("--multirun", "-m"),
    Flag("--run", "-r"),
    Flag("--cfg", "-c", "WHAT", ("job", "hydra", "all")),
    Flag("--resolve"),
    Flag("--package", "-p", "KEY"),
    Flag("--info", "-i", "WHAT", INFORMATION, usual="all"),
    Flag("--shell-completion", "-sc"),
    Flag("--config-path", "-cp", "DIR"),
    Flag("--config-name", "-cn", "NAME"),
    Flag("--config-dir", "-cd", "DIR"),
    Flag("--experimental-rerun", "", "FILE"),
)
# What a folder of configuration files is.
GROUP_FOLDERS = "Give a folder that has a folder for every group of your own, such as my_conf/method/mine.yaml."
HELP = tuple(name for flag in FLAGS[:2] for name in (flag.name, flag.short) if name)
# Hydra takes one of these at most, and runs one experiment without any.
WHAT_TO_DO = ("--run", "--multirun", "--cfg", "--info", "--shell-completion")
SHOWING = ("--hydra-help", "--cfg", "--info", "--shell-completion")


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """Arguments sorted into flags and the rest.

    Attributes:
        flags: Values by the flags' long names; empty for a flag without a value.
        overrides: Everything else, in the order typed.
    """

    flags: dict[str, str]
    overrides: list[str]

    @property
    def only_shows(self) -> bool:
        """Whether Hydra prints something and no experiment is composed to run."""
        return any(name in self.flags for name in SHOWING)

    @property
    def for_hydra(self) -> list[str]:
        """The overrides that Hydra is given; none for its own help, which is composed without the experiment."""
        return [] if "--hydra-help" in self.flags else self.overrides

    @property
    def many(self) -> bool:
        """Whether a matrix is asked for."""
        return "--multirun" in self.flags

    @property
    def typed_flags(self) -> list[str]:
        """The flags as arguments, each with its value."""
        return [f"{name}={value}" if value else name for name, value in self.flags.items()]


def flag_named(argument: str) -> Flag | None:
    """Return the flag that an argument is, with or without `=value`; None for anything else."""
    name = argument.partition("=")[0]
    return next((flag for flag in FLAGS if name and name in (flag.name, flag.short)), None)


def split_flags(arguments: Sequence[str]) -> CommandLine:
    """Sort arguments into flags and the rest.

    Raises:
        ConfigError: a flag lacks its value, has one that is not allowed, or excludes another one.
    """
    flags: dict[str, str] = {}
    overrides = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        flag = flag_named(argument)
        if flag is None:
            overrides.append(argument)
            continue
        value = _value(flag, argument, waiting)
        if flags.setdefault(flag.name, value) != value:
            raise ConfigError(Fault("given-twice", "is given twice", key=flag.name, got=value))
    _check(flags)
    return CommandLine(flags, overrides)


def _value(flag: Flag, argument: str, waiting: list[str]) -> str:
    _, equals, value = argument.partition("=")
    if not flag.value:
        if equals:
            raise ConfigError(
                Fault("flag-value", "takes no value", key=flag.name, got=value, hint=f"Type {flag.name}.")
            )
        return ""
    if not equals:
        follows = bool(waiting) and (waiting[0] in flag.allowed if flag.usual else not waiting[0].startswith("-"))
        value = waiting.pop(0) if follows else flag.usual
    if not value:
        problem = f"must be followed by {flag.value}"
        raise ConfigError(Fault("missing-value", problem, key=flag.name, allowed=flag.allowed))
    if flag.allowed and value not in flag.allowed:
        raise ConfigError(unknown_value(flag.name, value, flag.allowed))
    return str(Path(value).expanduser()) if flag.name == "--config-dir" else value


def _check(flags: dict[str, str]) -> None:
    """Refuse flags that exclude each other, or that Hydra would pass over."""
    faults = []
    asked = [name for name in WHAT_TO_DO if name in flags]
    if len(asked) > 1:
        problem = f"excludes {asked[1]}"
        faults.append(Fault("conflict", problem, key=asked[0], hint="Give one of them."))
    faults += [
        Fault("conflict", "is for --cfg", key=name, got=flags[name] or NO_VALUE, hint="Give --cfg job as well.")
        for name in ("--resolve", "--package")
        if name in flags and "--cfg" not in flags
    ]
    if "--experimental-rerun" in flags:
        problem = "is not supported: it reads a pickled file, which can run code"
        hint = "The same command again continues a run; its record holds the command."
        faults.append(Fault("not-supported", problem, key="--experimental-rerun", hint=hint))
    if (folder := flags.get("--config-dir")) and not Path(folder).is_dir():
        path = Path(folder)
        problem = "no such folder" if not path.exists() else "must be a folder"
        is_file = path.is_file() and path.suffix == ".yaml"
        hint = f"Give --config-dir {path.parent} --config-name {path.stem}." if is_file else GROUP_FOLDERS
        faults.append(Fault("file-missing", problem, key="--config-dir", got=folder, hint=hint))
    if faults:
        raise ConfigError(*faults)
