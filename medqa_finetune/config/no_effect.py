"""Refuses what is typed, or written in a chosen file, and cannot take effect.

Hydra takes much that this program never reads: folders of runs, logging, deletions of keys that the schema then fills,
several choices of a group merged into one.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medqa_finetune.compat.hydra import ABSENT, Argument, ConfigFile, overridden_groups, read_arguments
from medqa_finetune.config.command_line import quoted
from medqa_finetune.config.corrections import command_of
from medqa_finetune.config.flags import CommandLine
from medqa_finetune.config.groups import GROUPS
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import NO_VALUE, ConfigError, Fault, distinct
from medqa_finetune.methods.registry import method_of
from medqa_finetune.stopping import LAUNCHER_VARIABLE

MULTIRUN = "--multirun"
# What `--shell-completion` does.
SHELL_STEPS = ("install", "uninstall", "query")
# Groups whose options have a name of their own, which is the run's; two merged into one would be neither.
NAMED_GROUPS = ("method", "data", "corpus", "model", "tracker")
# Experiments may be several, as Hydra has it: settings under a name, one behind the other.
ONE_CHOICE = (*NAMED_GROUPS, "profile", "train", "evaluate")
ONE_PLUGIN = ("hydra/launcher", "hydra/sweeper")
# Settings of sweepers that hold sweeps.
SWEPT_PARTS = ("hydra.sweeper.params", "hydra.sweeper.space")
# What this program does with settings of Hydra; all others are Hydra's own or belong to its folders.
TAKEN = (
    "hydra.mode", "hydra.searchpath", "hydra.launcher", "hydra.sweeper", "hydra.callbacks", "hydra.verbose",
    "hydra.job.env_set", "hydra.job.env_copy", "hydra.job_logging", "hydra.hydra_logging",
    "hydra/launcher", "hydra/sweeper", "hydra/callbacks", "hydra/job_logging", "hydra/hydra_logging", "hydra/env",
)  # fmt: skip
FOLDERS = "Runs are in outputs/STUDY/RUN: give outputs=DIR or study=NAME."
ABSENT_HINT = "Leave it out."
PASSED_OVER = {
    "hydra.run": FOLDERS,
    "hydra.sweep": FOLDERS,
    "hydra.output_subdir": "A run's config.yaml has its settings.",
    "hydra/output": FOLDERS,
    "hydra.job.chdir": f"Paths are relative to the folder where the command is typed. {FOLDERS}",
    "hydra.job.name": "Give study=NAME.",
    "hydra.job": ABSENT_HINT,
    "hydra.runtime": ABSENT_HINT,
    "hydra.overrides": ABSENT_HINT,
    "hydra.help": ABSENT_HINT,
    "hydra.hydra_help": ABSENT_HINT,
    "hydra/help": ABSENT_HINT,
    "hydra/hydra_help": ABSENT_HINT,
}
# As `conf/config.yaml` has them; the same value again changes nothing.
OURS = {"hydra.run.dir": ".", "hydra.sweep.dir": "${outputs}", "hydra.sweep.subdir": ".", "hydra.output_subdir": None,
        "hydra.job.chdir": False}  # fmt: skip
OF_A_MATRIX = ("hydra.launcher", "hydra/launcher", "hydra.sweeper", "hydra/sweeper")
# Settings of a corpus that only files have, and only a hub.
OF_FILES = ("path", "format", "encoding", "delimiter", "rows")
OF_HUB = ("repository", "hub", "revision", "files")
ANSWERS = ("max_new_tokens", "metrics", "backend", "timeout_seconds")


def refuse_without_effect(line: CommandLine) -> None:
    """Refuse typed arguments that cannot take effect, whatever the settings are.

    Raises:
        ConfigError: with every fault.
    """
    if LAUNCHER_VARIABLE in os.environ:
        return  # the launcher's own arguments
    arguments = read_arguments(map(quoted, line.overrides))
    faults = [fault for each in arguments if (fault := _fault_of(each, line)) is not None]
    if "--shell-completion" in line.flags and not any(each.key in SHELL_STEPS for each in arguments):
        problem, hint = "must be followed by what to do", f'Type `eval "$({command_of(["-sc", "install=bash"])})"`.'
        allowed = tuple(f"{each}=SHELL" for each in SHELL_STEPS)
        faults.append(Fault("missing-value", problem, key="--shell-completion", allowed=allowed, hint=hint))
    mode = next((each for each in arguments if each.key == "hydra.mode"), None)
    if mode is not None and line.many and str(mode.value).upper() != "MULTIRUN":
        faults.append(Fault("conflict", "excludes -m", key="hydra.mode", got=mode.value, hint="Give one of them."))
    if faults:
        raise ConfigError(*distinct(faults))


def _fault_of(argument: Argument, line: CommandLine) -> Fault | None:
    key, group = argument.key, argument.key.partition("@")[0]
    if key.startswith(("hydra.", "hydra/")):
        return _of_hydra(argument, line)
    if argument.prefix == "~":
        return _deleted(argument)
    return _of_group(argument, line) if group in GROUPS else None


def _of_group(argument: Argument, line: CommandLine) -> Fault | None:
    key, group = argument.key, argument.key.partition("@")[0]
    value = argument.typed.partition("=")[2]
    if group != key:
        hint = _instead(argument, line, f"{group}={value}")
        return Fault("no-effect", "a group has one place in the settings", key=key, got=value, hint=hint)
    if argument.prefix and group != "experiment":
        hint = _instead(argument, line, f"{key}={value}")
        return Fault("key-exists", "the key exists", key=f"{argument.prefix}{key}", got=value, hint=hint)
    names = _merged(argument)
    if group not in ONE_CHOICE or not names:
        return None
    joined = ",".join(names) if group != "profile" else names[0]
    meant = [f"tracker.report_to=[{joined}]"] if group == "tracker" else [f"{group}={joined}"]
    if len(names) > 1 and group not in ("tracker", "profile"):
        meant = ["-m", *meant]
    return Fault("several-merged", MERGED, key=group, got=list(names), hint=_instead(argument, line, *meant))


def _instead(argument: Argument, line: CommandLine, *others: str) -> str:
    """Return a hint with the typed command, others in place of an argument; -m stands first, and once."""
    rest = [each for typed in line.overrides for each in (others if quoted(typed) == argument.typed else (typed,))]
    flags = [each for each in line.typed_flags if each != MULTIRUN]
    many = ["-m"] if line.many or "-m" in rest else []
    return f"Did you mean `{command_of([*many, *flags, *(each for each in rest if each != '-m')])}`?"


MERGED = "is one choice; several would be merged into one run"


def _merged(argument: Argument) -> list[str]:
    """Return the names that a group is given as one list, also inside a sweep."""
    values = argument.value if isinstance(argument.value, list) else []
    if not argument.sweeps:
        return [str(value) for value in values]
    lists = [str(value) for value in values if str(value).startswith("[")]
    return lists[0].strip("[]").split(",") if lists else []


def _of_hydra(argument: Argument, line: CommandLine) -> Fault | None:
    key = argument.key.partition("@")[0]
    if argument.prefix == "~":
        return Fault("no-effect", "cannot be deleted", key=f"~{key}", hint=ABSENT_HINT)
    if argument.sweeps and line.many and not _is_below(key, SWEPT_PARTS):
        got = argument.typed.partition("=")[2]
        return Fault("no-effect", "is one for the whole matrix", key=key, got=got, hint="Give one value.")
    if key.endswith("._target_"):
        hint = "Choose by name: hydra/launcher=NAME, hydra/sweeper=NAME."
        return Fault("no-effect", "cannot be changed", key=key, got=argument.value, hint=hint)
    if key in (*ONE_PLUGIN, "hydra.launcher", "hydra.sweeper") and (wrong := _no_plugin(argument)) is not None:
        hint = f"Give {key.replace('.', '/')}=NAME, or leave it out."
        return Fault("wrong-type", "must be one name", key=key, got=wrong, hint=hint)
    if key == "hydra.searchpath":
        return _wrong_search_path(argument)
    return None if _is_below(key, TAKEN) else _passed_over(key, argument.value)


def _no_plugin(argument: Argument) -> str | None:
    """Return what is given for a launcher or sweeper and is none; None for one, or a mapping of settings."""
    right = isinstance(argument.value, str if argument.key in ONE_PLUGIN else dict)
    return None if right else argument.typed.partition("=")[2]


def _wrong_search_path(argument: Argument) -> Fault | None:
    """Return the fault of a search path that is no list, or of a folder or package in it that is not there."""
    key, folders = "hydra.searchpath", argument.value
    if isinstance(folders, str):
        hint = f"Did you mean 'hydra.searchpath=[{folders}]'?"
        return Fault("wrong-type", "must be a list of folders", key=key, got=folders, hint=hint)
    for folder in folders if isinstance(folders, list) else ():
        path, package = str(folder).removeprefix("file://"), str(folder).removeprefix("pkg://")
        if "${" in path:
            continue
        if package != str(folder) and not _is_package(package):
            return Fault("file-missing", "no such package", key=key, got=folder)
        if "://" not in path and not Path(path).is_dir():
            return Fault("file-missing", "no such folder", key=key, got=folder)
    return None


def _is_package(name: str) -> bool:
    try:
        return find_spec(name.replace("/", ".")) is not None
    except (ImportError, ValueError):
        return False


def _passed_over(key: str, value: object) -> Fault | None:
    """Return the fault of a setting of Hydra that nothing reads; None for an unknown key, or our own value."""
    root = next((each for each in PASSED_OVER if _is_below(key, (each,))), None)
    if root is None or OURS.get(key, ABSENT) == value:
        return None
    return Fault("no-effect", "has no effect here", key=key, got=value, hint=PASSED_OVER[root])


def _is_below(key: str, roots: Iterable[str]) -> bool:
    return any(key == root or key.startswith((f"{root}.", f"{root}/", f"{root}@")) for root in roots)


def _deleted(argument: Argument) -> Fault:
    group, value = argument.key, argument.typed.partition("=")[2]
    if group == "tracker":
        hint = "For no tracker, give tracker=none."
    elif group in ("profile", "experiment"):
        hint = f"Give {group}=null, or leave it out."
    elif group in GROUPS:
        hint = f"Choose another one: {group}=NAME."
    else:
        hint = f"Give {group}=VALUE, or leave it out."
    problem = "a setting cannot be deleted: its default would take its place"
    return Fault("no-effect", problem, key=f"~{group}", got=value or NO_VALUE, hint=hint)


def refuse_of_a_matrix(of_hydra: Sequence[str]) -> None:
    """Refuse typed settings of launcher and sweeper, which one run does not have.

    Raises:
        ConfigError: with every fault.
    """
    faults = []
    for argument in read_arguments(of_hydra):
        if _is_below(argument.key, OF_A_MATRIX):
            hint = "Leave it out, or give -m as well."
            faults.append(Fault("no-effect", "is for a matrix", key=argument.key, got=argument.value, hint=hint))
    if faults:
        raise ConfigError(*faults)


def chosen_last(arguments: Sequence[str], group: str) -> str:
    """Return the choice of a group that is typed last; empty for none."""
    typed = [each.partition("=")[2] for each in arguments if each.lstrip("+").startswith(f"{group}=")]
    return typed[-1] if typed else ""


def file_faults(files: Sequence[ConfigFile], choices: Mapping[str, object]) -> Iterator[Fault]:
    """Yield faults of what chosen files set or choose in vain.

    Args:
        files: Files of the composition, the primary one, whose choices the command line replaces, first.
        choices: The composed choice of every group.
    """
    for file in files:
        for group, choice in overridden_groups(file) if file is not files[0] else ():
            fault = _chosen_in_vain(group.removeprefix("/"), choice, choices)
            if fault is not None:
                yield fault.but(file=str(file.path))
        values = file.values.get("hydra") if isinstance(file.values, dict) else None
        for key, value in _flat(values, "hydra") if isinstance(values, dict) else ():
            if not _is_below(key, TAKEN) and (fault := _passed_over(key, value)) is not None:
                yield fault.but(file=str(file.path))


def _chosen_in_vain(group: str, choice: object, choices: Mapping[str, object]) -> Fault | None:
    if group.startswith("hydra/") and choices.get(group) != choice:
        problem, hint = "cannot be chosen in this file", f"Give {group}={choice} on the command line."
        return Fault("no-effect", problem, key=f"override /{group}", got=choice, hint=hint)
    # Hydra has no choice of a group with several; where the command line chooses one, there is.
    if group in NAMED_GROUPS and isinstance(choice, list) and choices.get(group) is None:
        return Fault("several-merged", MERGED, key=f"override /{group}", got=choice, hint="Choose one.")
    return None


def unchosen(choices: Mapping[str, object]) -> Iterator[Fault]:
    """Yield a fault of every group with a name of its own that a file leaves without a choice."""
    for group in NAMED_GROUPS:
        if group in choices and choices[group] is None:
            hint = "For no tracker, choose none." if group == "tracker" else "Choose one."
            yield Fault("no-effect", "a group cannot be left without a choice", key=group, got=None, hint=hint)


def _flat(values: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def refuse_unused_settings(cells: Sequence[tuple[Config, Sequence[str]]]) -> None:
    """Refuse typed settings that no cell uses.

    Args:
        cells: Settings and typed overrides of every cell that one command asks for.

    Raises:
        ConfigError: with a fault of every such setting.
    """
    used: set[str] = set()
    unused: dict[str, Fault] = {}
    for config, overrides in cells:
        for argument in read_arguments(overrides):
            fault = _unused(argument, config)
            if fault is None:
                used.add(argument.key)
            else:
                unused.setdefault(argument.key, fault)
    if faults := [fault for key, fault in unused.items() if key not in used]:
        raise ConfigError(*faults)


def used_overrides(config: Config, overrides: Sequence[str]) -> list[str]:
    """Return overrides without settings that this cell does not use, which others of its matrix may."""
    unused = {each.typed for each in read_arguments(overrides) if _unused(each, config) is not None}
    return [each for each in overrides if each not in unused]


def _unused(argument: Argument, config: Config) -> Fault | None:
    section, _, name = argument.key.partition(".")
    why = _why_unused(section, name, config) if name else None
    if why is None:
        return None
    return Fault("no-effect", f"has no effect with {why}", key=argument.key, got=argument.value, hint=ABSENT_HINT)


def _why_unused(section: str, name: str, config: Config) -> str | None:
    """Return the setting with which another one has no effect; None where it has."""
    corpus, train, evaluate = config.corpus, config.train, config.evaluate
    if section in ("method", "train") and method_of(config.method).ignores(f"{section}.{name}"):
        return f"method={config.method.name}"
    if section == "corpus":
        of_others = {"embedded": (*OF_FILES, *OF_HUB), "file": OF_HUB}.get(corpus.source, ())
        return f"corpus.source={corpus.source}" if name in of_others else None
    if section == "train":
        return "train.scheduler=constant" if name == "warmup_ratio" and train.scheduler == "constant" else None
    if section == "evaluate":
        if name in ANSWERS and corpus.task == "text":
            return "corpus.task=text"
        if name in ("text_path", "stride") and evaluate.text is None and corpus.task != "text":
            return "evaluate.text=null"
    return None
