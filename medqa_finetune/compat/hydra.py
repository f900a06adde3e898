"""Hydra: undocumented fields of its errors, and state without a public setter.

What Hydra's example plugins use counts as public and is used directly:
`Launcher`, `Sweeper`, `Plugins`, `JobReturn`, `setup_globals`, `filter_overrides`, `config_loader.load_sweep_config`,
`OverridesParser`, and the methods of an override that return its swept values.
"""

import copy
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# Returned by `value_at` for a missing key.
ABSENT = object()
# Comment lines at the beginning of a file, one of which may give the package of its values.
HEADER_LINE = re.compile(r"\s*#\s*@(\w+)\s+(\S+)")


def cause_of(error: Exception) -> OmegaConfBaseException | None:
    """Return the OmegaConf error behind a failed composition; None where there is none.

    For an override it is the cause of Hydra's error; for a file it is only the context.
    """
    if isinstance(error, OmegaConfBaseException):
        return error
    if not isinstance(error, ConfigCompositionException):
        return None
    behind = (error.__cause__, error.__context__)
    return next((each for each in behind if isinstance(each, OmegaConfBaseException)), None)


@dataclass(frozen=True)
class MissingFile:
    """A chosen file that does not exist.

    Attributes:
        group: The searched group, such as `method` or `hydra/launcher`; empty for none.
        choice: Name of the file in the group.
        options: The group's options; empty where Hydra does not give them.
    """

    group: str
    choice: str
    options: tuple[str, ...]


def missing_file(error: Exception) -> MissingFile | None:
    """Return the file that a composition did not find; None for other errors."""
    name = getattr(error, "missing_cfg_file", None)
    if not isinstance(error, MissingConfigException) or not name:
        return None
    group, _, choice = str(name).rpartition("/")
    return MissingFile(group, choice, tuple(map(str, getattr(error, "options", None) or ())))


def unreadable_argument(error: Exception) -> str | None:
    """Return the argument that Hydra's grammar cannot parse; None for other errors."""
    return getattr(error, "override", None) if isinstance(error, OverrideParseException) else None


def is_composition_error(error: Exception) -> bool:
    """Return whether Hydra refused a composition; the error has no field for the argument at fault."""
    return isinstance(error, ConfigCompositionException)


def is_refused_plugin(error: Exception) -> bool:
    """Return whether a launcher or sweeper does not take its settings; the error has no field for which of them."""
    return isinstance(error, InstantiationException) and isinstance(error.__cause__, TypeError)


def words_of(error: Exception) -> str:
    """Return Hydra's message as one line, without lines that have a URL."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and "://" not in line) or type(error).__name__


@dataclass(frozen=True)
class Argument:
    """One argument, as parsed by Hydra's grammar.

    Attributes:
        typed: The argument itself.
        key: `train.epochs`, `method` or `method@package`, without the prefix.
        value: Its value; None for null and for no value; of a sweep, the texts of its values where they are listed.
        prefix: `+`, `++`, `~` or empty.
        sweeps: Whether it has several values to run one after the other.
    """

    typed: str
    key: str
    value: Any
    prefix: str
    sweeps: bool


def flags_of_hydra() -> set[tuple[str, str, bool, tuple[str, ...]]]:
    """Return long name, short name, whether it has a value, and the allowed values, of every flag that Hydra reads."""
    from hydra._internal.utils import get_args_parser

    found = set()
    for action in get_args_parser()._actions:
        if action.option_strings:
            short = next((name for name in action.option_strings if not name.startswith("--")), "")
            found.add((action.option_strings[0], short, action.nargs != 0, tuple(action.choices or ())))
    return found


def as_typed(overrides: Any) -> list[str]:
    """Return overrides of Hydra's configuration as they were typed: a list node resolves `${…}` in its items."""
    found: Any = OmegaConf.to_container(overrides, resolve=False) if OmegaConf.is_list(overrides) else overrides
    return [str(each) for each in found]


def read_arguments(arguments: Iterable[str]) -> list[Argument]:
    """Return the arguments that Hydra can parse, without flags."""
    return [argument for typed in arguments if (argument := _read(typed)) is not None]


def _read(typed: str) -> Argument | None:
    if typed.startswith("-"):
        return None
    try:
        (override,) = OverridesParser.create().parse_overrides([typed])
        element, sweeps = override.get_key_element(), override.is_sweep_override()
        value = _swept(override) if sweeps else override.value()
    except (HydraException, ValueError, RecursionError):  # ValueError: a number with thousands of digits
        return None
    key = element.lstrip("+~")
    return Argument(typed, key, value, element.removesuffix(key), sweeps)


def _swept(override: Override) -> list[str] | None:
    if not override.is_choice_sweep():  # a range, which may be long
        return None
    try:
        return list(override.sweep_string_iterator())
    except HydraException:  # a glob, which needs Hydra's search path
        return None


@dataclass(frozen=True)
class ConfigFile:
    """A YAML file that a composition may use.

    Attributes:
        name: Group and option: `train/mine`.
        path: The file.
        package: The dotted key that its values belong to; empty for the root.
        values: Its content, with interpolations unresolved; None where it cannot be read.
        chooses: Names of the files in its own defaults list.
        error: Why it cannot be read; None where it can.
    """

    name: str
    path: Path
    package: str
    values: Any
    chooses: tuple[str, ...]
    error: Exception | None

    def at(self, key: str) -> Any:
        """Return the file's value of a dotted key such as `evaluate.metrics[0]`, ABSENT for none."""
        if self.package and not f"{key}.".startswith(f"{self.package}."):
            return ABSENT
        return value_at(self.values, key.removeprefix(self.package))


def value_at(values: Any, key: str) -> Any:
    """Return the value at a dotted key of plain values, ABSENT for none; all values for the empty key."""
    for part in re.findall(r"[^.\[\]]+", key):
        items = dict(enumerate(values)) if isinstance(values, list) else values
        inner = {str(name): each for name, each in items.items()} if isinstance(items, dict) else {}
        values = inner.get(part, ABSENT)
    return values


def config_files(config_name: str, folders: Sequence[Path], arguments: Iterable[Argument]) -> list[ConfigFile]:
    """Return every file that arguments or defaults lists name, the primary one first.

    Hydra's errors do not name the file at fault, so all files are searched. Files of defaults that an argument replaces
    are included.
    """
    found: dict[str, ConfigFile | None] = {}
    waiting = [config_name, *(name for each in arguments for name in chosen_names(each))]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = file = _read_file(name, folders)
            waiting += [] if file is None else file.chooses
    return [file for file in found.values() if file is not None]


def chosen_names(argument: Argument) -> list[str]:
    """Return the files that an argument chooses, as `train/mine`; empty if its key is not a group."""
    group, value = argument.key.partition("@")[0], argument.value
    names = value if isinstance(value, list) else [value]
    return [f"{group}/{name}" for name in names if isinstance(name, str) and group and "." not in group]


def _read_file(name: str, folders: Sequence[Path]) -> ConfigFile | None:
    path = next((path for folder in folders if (path := folder / f"{name}.yaml").is_file()), None)
    if path is None:
        return None
    values, error = None, None
    try:
        values = copy.deepcopy(_read_values(path.read_text(encoding="utf-8")))
    except Exception as raised:  # any error is kept, to be explained
        error = raised
        with suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
    group = name.rpartition("/")[0]
    return ConfigFile(name, path, _package(path, group), values, tuple(_defaults(values, group)), error)


@lru_cache(maxsize=256)
def _read_values(text: str) -> Any:
    """Return the values of a file with this content; the cells of a matrix choose the same few files."""
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)


def _package(path: Path, group: str) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    found = itertools.takewhile(bool, map(HEADER_LINE.match, lines))
    header = {line[1]: line[2] for line in found if line}
    package = header.get("package", "_group_")
    return group.replace("/", ".") if package == "_group_" else package.removeprefix("_global_").removeprefix(".")


def _defaults(values: Any, group: str) -> Iterator[str]:
    """Yield the files that a defaults list names; `/method` is a group of the root, `method` one inside `group`."""
    items = values.get("defaults") if isinstance(values, dict) else None
    for item in items if isinstance(items, list) else ():
        pairs = item.items() if isinstance(item, dict) else [("", item)]
        for key, choices in pairs:
            words = str(key).split()
            inner = words[-1].partition("@")[0] if words else ""
            for choice in choices if isinstance(choices, list) else [choices]:
                name = f"{inner}/{choice}" if inner else str(choice).partition("@")[0]
                if isinstance(choice, str) and choice != "_self_":
                    yield name.removeprefix("/") if name.startswith("/") or not group else f"{group}/{name}"


def read_config_file(name: str, folders: Sequence[Path]) -> ConfigFile | None:
    """Return the first file with a name such as `train/mine` in folders; None where there is none."""
    return _read_file(name, folders)


def offers_group(file: ConfigFile, group: str) -> bool:
    """Return whether a file's defaults list has a group, chosen or null."""
    items = file.values.get("defaults") if isinstance(file.values, dict) else None
    return any(isinstance(item, dict) and group in item for item in (items if isinstance(items, list) else ()))


def overridden_groups(file: ConfigFile) -> Iterator[tuple[str, Any]]:
    """Yield group and choice of every `override` in a file's defaults list, the group as it is written there."""
    items = file.values.get("defaults") if isinstance(file.values, dict) else None
    for item in items if isinstance(items, list) else ():
        for key, choice in item.items() if isinstance(item, dict) else ():
            words = str(key).split()
            if len(words) == 2 and words[0] == "override":
                yield words[1].partition("@")[0], choice


def outcome_of(result: JobReturn) -> Any:
    """Return a job's result, or the error that ended it.

    `return_value` itself raises that error, and prints a line first.
    """
    ended = copy.copy(result)
    ended.status = JobStatus.COMPLETED
    return ended.return_value


@contextmanager
def hydra_resolver_of(composed: DictConfig) -> Iterator[None]:
    """Resolve `${hydra:…}` in `composed` within the block.

    `set_config` is public, but the earlier configuration is only accessible through an attribute.
    """
    state = HydraConfig.instance()
    before = state.cfg
    state.set_config(composed)
    try:
        yield
    finally:
        state.cfg = before
