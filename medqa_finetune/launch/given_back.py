"""Reads a configuration that was written before and is given back, as the overrides that compose it again.

`config.yaml` of a run, the output of `--cfg job`, or any file without a defaults list: it holds values, and Hydra would
compose them without ours, without groups and without our launcher. The file becomes group choices and single overrides,
so that a run has its name again, and everything that reads a command line goes on from there.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medqa_finetune.compat.hydra import read_arguments
from medqa_finetune.config.command_line import quoted
from medqa_finetune.config.compose import COMPOSITION_ERRORS, CONFIG_NAME, SEARCH_PATH, register_schema, to_config
from medqa_finetune.config.explain import SECTIONS, schema_keys, unknown_setting
from medqa_finetune.config.flags import CommandLine
from medqa_finetune.config.groups import conf_folder, yaml_fault
from medqa_finetune.config.identity import EVALUATE, NOT_IDENTITY, as_meant, flatten
from medqa_finetune.config.no_effect import used_overrides
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.launch.launcher import quote_override, register_plugins
from medqa_finetune.record.run_dir import RECORD_NAME

PATH, NAME, FOLDER = "--config-path", "--config-name", "--config-dir"
# What a folder of a primary file is.
PRIMARY_FOLDER = f"Give the folder of your config.yaml; groups of your own alone: {FOLDER} DIR."
# What a record adds to the settings; it follows from them and from files.
DERIVED = (
    "data.effective_train_size",
    "data.effective_validation_size",
    "data.effective_test_size",
    "corpus.sha256",
    "corpus.effective_parts",
    "model.fingerprint",
    "evaluate.text_sha256",
    "results_version",
)
# Settings that are not taken from the file: `overwrite` was about the run of that time, and names are found again.
NOT_GIVEN = ("overwrite", "run_name", "evaluation_name")
# Groups whose values those of the file would replace.
REPLACED = ("profile", "experiment")


def with_file_given_back(line: CommandLine) -> CommandLine:
    """Return a command line with a configuration that is given back as overrides; others only with absolute paths.

    Raises:
        ConfigError: the file cannot be read, has keys that are not known, or is shadowed by the package's own.
    """
    line = _with_absolute_path(line)
    path = _file_of(line)
    if path is None:
        return line
    values = _read(path)
    if "defaults" in values:
        if path.stem == CONFIG_NAME and PATH not in line.flags:
            problem = f"{path} is not read: the package's own {path.name} has the same name"
            hint = f"Rename it, and give {NAME} with the new name."
            raise ConfigError(Fault("conflict", problem, key=FOLDER, got=str(path.parent), hint=hint))
        return line
    is_own_folder = path.parent.absolute() == Path(line.flags.get(FOLDER, "")).absolute()
    removed = (PATH, NAME, *((FOLDER,) if is_own_folder else ()))
    flags = {flag: value for flag, value in line.flags.items() if flag not in removed}
    line = dataclasses.replace(line, flags=flags)
    return dataclasses.replace(line, overrides=[*_overrides(path, values, line), *line.overrides])


def _with_absolute_path(line: CommandLine) -> CommandLine:
    """Hydra looks for a relative `--config-path` next to our own files, and nobody means these."""
    folder = line.flags.get(PATH, "")
    if not folder or folder.startswith("pkg://"):
        return line
    path = Path(folder.removeprefix("file://")).expanduser().absolute()
    if not path.is_dir():
        raise ConfigError(Fault("file-missing", "no such folder", key=PATH, got=folder, hint=PRIMARY_FOLDER))
    return dataclasses.replace(line, flags={**line.flags, PATH: str(path)})


def _file_of(line: CommandLine) -> Path | None:
    """Return the primary file that the flags name, unless it is one of ours."""
    name = line.flags.get(NAME, CONFIG_NAME).removesuffix(".yaml")
    folders = [line.flags[flag] for flag in (PATH, FOLDER) if line.flags.get(flag)]
    found = (path for folder in folders if (path := Path(folder, f"{name}.yaml")).is_file())
    return next((path for path in found if path.resolve() != (conf_folder() / f"{name}.yaml").resolve()), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except yaml.YAMLError as error:
        raise ConfigError(yaml_fault(error).but(file=str(path))) from None
    except (OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        raise ConfigError(Fault("not-readable", str(error) or type(error).__name__, file=str(path))) from None
    if not isinstance(values, dict):
        raise ConfigError(Fault("not-a-mapping", "must be a mapping of keys to values", got=values, file=str(path)))
    return {str(key): value for key, value in values.items()}


def _overrides(path: Path, values: Mapping[str, Any], line: CommandLine) -> list[str]:
    """Return the overrides that the file stands for, without what the command line sets itself."""
    typed = {argument.key.partition("@")[0] for argument in read_arguments(line.overrides)}
    refused = [key for key in REPLACED if key in typed]
    if refused:
        problem = f"has no effect: {path} gives every setting"
        hint = "Give single settings, or leave the file out."
        raise ConfigError(*(Fault("conflict", problem, key=key, hint=hint) for key in refused))
    saved = _settings(path, values)
    chosen = {group: str(values[group]) for group in SECTIONS if isinstance(values.get(group), str)}
    folders = [line.flags[FOLDER]] if line.flags.get(FOLDER) else []
    searched = [each for each in line.overrides if each.lstrip("+").startswith(SEARCH_PATH)]
    options = _options([conf_folder(), *map(Path, folders)])
    chosen |= {
        group: name
        for group in SECTIONS
        if isinstance(name := saved.get(f"{group}.name"), str) and name in options.get(group, ())
    }
    chosen = {group: name for group, name in chosen.items() if group not in typed}
    compose = _composer(folders, searched)
    profile, usual = _nearest_profile(saved, chosen, options.get("profile", []), compose)
    chosen |= {} if profile is None else {"profile": profile}
    single = {
        key: value
        for key, value in saved.items()
        if key not in typed and key.partition(".")[0] not in typed & {*SECTIONS} and usual.get(key) != value
    }
    # A group that is not found again would give the run another name.
    lost = any(f"{group}.name" in single for group in SECTIONS)
    if lost and _same_training(typed) and (path.parent / RECORD_NAME).is_file():
        single["run_name"] = path.parent.name
    groups = [quoted(f"{group}={name}") for group, name in chosen.items()]
    settings = [f"{key}={_written(value)}" for key, value in single.items()]
    return [*groups, *_with_effect(settings, lambda kept: compose(chosen, [*kept, *_plain_overrides(line)]))]


def _plain_overrides(line: CommandLine) -> list[str]:
    return [each.typed for each in read_arguments(line.overrides) if not each.sweeps]


def _with_effect(settings: Sequence[str], compose: Callable[[Sequence[str]], DictConfig]) -> list[str]:
    """Return the file's settings without those that its method and corpus do not read: nobody typed them."""
    try:
        config = to_config(compose(settings))
    except (ConfigError, *COMPOSITION_ERRORS):
        # The same is found, and explained, when all of the command line is composed.
        return [*settings]
    return used_overrides(config, settings)


def _settings(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file's settings by dotted key, with the meaning they had when it was written."""
    flat = flatten({key: value for key, value in values.items() if key != "hydra"})
    known = {*schema_keys(), *DERIVED}
    unknown = [key for key in flat if key not in known and not (key in SECTIONS and isinstance(flat[key], str))]
    if unknown:
        raise ConfigError(*(unknown_setting(key).but(file=str(path)) for key in unknown))
    if "results_version" in flat and flat.get("corpus.task", "qa") == "qa":
        # Examples were divided anew before this setting existed.
        flat = {"corpus.parts": "ignore"} | flat
    settings = {
        key: value
        for key, value in as_meant(flat).items()
        if key not in (*DERIVED, *NOT_GIVEN, *SECTIONS) and value != "???"
    }
    return settings | _place(path, settings)


def _place(path: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return where the run of a saved file lies now, seen from here; nothing for other files."""
    folder = path.parent.absolute()
    if not (folder / RECORD_NAME).is_file():
        return {}
    study = Path(str(settings.get("study", "")))
    if Path(str(settings.get("outputs", "")), study).absolute() == folder.parent:
        return {}
    inside = bool(study.parts) and folder.parent.parts[-len(study.parts) :] == study.parts
    outputs = folder.parents[len(study.parts)] if inside else folder.parent
    return {"outputs": str(outputs), "study": str(study) if inside else ""}


def _options(folders: Sequence[Path]) -> dict[str, list[str]]:
    return {
        group: sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})
        for group in (*SECTIONS, "profile")
    }


def _composer(folders: Sequence[str], searched: Sequence[str]) -> Callable[..., DictConfig]:
    """Return what composes group choices, with the folders of configuration files that were typed."""
    register_schema()
    register_plugins()
    further = [f"{SEARCH_PATH}[{','.join(map(quote_override, folders))}]"] if folders and not searched else []

    def compose(chosen: Mapping[str, str], settings: Sequence[str] = ()) -> DictConfig:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
            overrides = [quoted(f"{group}={name}") for group, name in chosen.items()]
            return hydra.compose(CONFIG_NAME, [*further, *searched, *overrides, *settings])

    return compose


def _nearest_profile(
    saved: Mapping[str, Any],
    chosen: Mapping[str, str],
    profiles: Sequence[str],
    compose: Callable[[Mapping[str, str]], DictConfig],
) -> tuple[str | None, dict[str, Any]]:
    """Return the profile with which fewest settings differ, and its values: the file does not say which it was."""
    found: list[tuple[int, str | None, dict[str, Any]]] = []
    for profile in (None, *profiles):
        whole = compose(chosen if profile is None else {**chosen, "profile": profile})
        usual = flatten(cast(dict[str, Any], OmegaConf.to_container(whole, resolve=False)))
        found.append((sum(usual.get(key) != value for key, value in saved.items()), profile, usual))
    _, profile, usual = min(found, key=lambda each: each[0])
    return profile, usual


def _same_training(typed: set[str]) -> bool:
    """Return whether none of these keys can change the weights; sizes can, although no identity names them."""
    harmless = {key for key in NOT_IDENTITY if key.partition(".")[0] not in ("method", "data", "corpus", "model")}
    return all(any(key == each or key.startswith(f"{each}.") for each in (*harmless, EVALUATE)) for key in typed)


def _written(value: Any) -> str:
    """Return a plain value in Hydra's grammar; interpolations stay."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, str):
        return quote_override(value).replace("\\${", "${")
    return repr(value)
