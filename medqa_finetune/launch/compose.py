"""Turns a command line or Python API arguments into a checked, named cell before anything runs.

Loads Hydra: commands import this file after they have answered `--help`.
"""

import copy
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from medqa_finetune.api_inputs import HELD_OUT_MOST, Choice, held_out
from medqa_finetune.cell import Cell, fingerprints_of, place_cell
from medqa_finetune.compat.hydra import offers_group, read_config_file
from medqa_finetune.compat.omegaconf import is_no_mapping
from medqa_finetune.config.command_line import quoted
from medqa_finetune.config.compose import (
    COMPOSITION_ERRORS,
    CONFIG_NAME,
    check_chosen_files,
    compose_defaults,
    composing_ours,
    register_schema,
    to_config,
    with_file,
)
from medqa_finetune.config.composition_line import with_command
from medqa_finetune.config.explain import explain
from medqa_finetune.config.flags import split_flags
from medqa_finetune.config.groups import conf_folder, conf_folders
from medqa_finetune.config.identity import EVALUATE, Fingerprints, file_label, former_run_names, run_name
from medqa_finetune.config.no_effect import used_overrides
from medqa_finetune.config.schema import Config, ModelConfig
from medqa_finetune.config.size_names import with_size_name
from medqa_finetune.data.parts import published_parts
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.launch.given_back import with_file_given_back
from medqa_finetune.launch.launcher import register_plugins
from medqa_finetune.launch.sweep_parameters import with_parameters_as_sweeps
from medqa_finetune.launch.task import CellTask, command_of
from medqa_finetune.model.locate import locate_model
from medqa_finetune.preflight import check_packages
from medqa_finetune.stopping import LAUNCHER_VARIABLE

Result = TypeVar("Result")

# API settings that accept a name in `conf/` as well as a dictionary.
GROUPS = ("data", "train", "evaluate", "tracker", "profile")
EXPERIMENT = "experiment"
HELD_OUT = ("validation_size", "test_size")


def compose_and_call(
    task: Callable[[DictConfig], object],
    arguments: Sequence[str],
    typed: Sequence[str] | None = None,
    *,
    plans: bool = False,
) -> None:
    """Compose the command line's overrides with Hydra and call `task` with the result.

    Args:
        task: Takes the composition.
        arguments: Flags and overrides.
        typed: All that was typed after the command, for a hint; the arguments if None.
        plans: Whether the task is called with every cell in this process, and nothing is launched.

    Raises:
        ConfigError: the composition is impossible.
        MedQAError: the task raised it.
    """
    run = CellTask(task, plans=plans)
    # Hydra reads sys.argv itself and rejects flags between two overrides.
    line = with_parameters_as_sweeps(with_file_given_back(split_flags(arguments)))
    meant = [*line.typed_flags, *line.overrides]
    primary = read_config_file(line.flags.get("--config-name", CONFIG_NAME), conf_folders(meant))
    offered = primary is not None and offers_group(primary, EXPERIMENT)
    sys.argv[1:] = [*line.typed_flags, *(quoted(with_experiment(each, offered=offered)) for each in line.for_hydra)]
    register_schema()
    register_plugins()
    # Hydra would print a traceback or its own text and exit with 1; `run_command` reports errors.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with composing_ours():
            hydra.main(config_path=str(conf_folder()), config_name=CONFIG_NAME, version_base="1.3")(run)()
    except (*COMPOSITION_ERRORS, OSError) as error:
        if run.started or not (isinstance(error, COMPOSITION_ERRORS) or is_no_mapping(error)):
            raise
        found = explain(error, meant, conf_folders(meant))
        whole = arguments if typed is None else typed
        raise ConfigError(*(with_command(fault, whole) for fault in found)) from None
    except SystemExit as error:
        # Hydra's `--cfg` prints a line of its own for a part that is not there.
        if run.started or not error.code or not (part := line.flags.get("--package")):
            raise
        shown = line.flags["--cfg"]
        hint = "It is in --cfg hydra." if part.startswith("hydra") and shown == "job" else "Give a section: train."
        raise ConfigError(
            Fault("not-found", "there is no such part of the settings", key="--package", got=part, hint=hint)
        ) from None
    if run.refused is not None:
        raise run.refused


def with_experiment(override: str, *, offered: bool) -> str:
    """Return a choice of an experiment as Hydra takes it: with + where the primary file does not offer the group."""
    plain = override.removeprefix("+")
    return f"{'' if offered else '+'}{plain}" if plain.startswith(f"{EXPERIMENT}=") else override


def compose_cell(choices: Mapping[str, Choice], settings: Mapping[str, Any]) -> Cell:
    """Return the cell for Python API arguments, named as the command line would name it.

    Args:
        choices: For each config group, a name in `conf/` and the settings that override that file.
        settings: Settings of `config/schema.py`; a section is a mapping or a name in `conf/`.

    Raises:
        ConfigError: a setting is unknown, of the wrong type or impossible.
    """
    cell = _compose(
        choices, settings, lambda composed, hydra_config: make_cell(_holding_out(composed, settings), hydra_config)
    )
    # The program that calls is what can be run again.
    return dataclasses.replace(cell, command=())


def check_without_pairs(choices: Mapping[str, Choice], settings: Mapping[str, Any]) -> None:
    """Check everything that does not need the corpus; the embedded corpus takes its place.

    Raises:
        MedQAError: the model is missing, a setting is invalid, or a required package is not installed.
    """
    others = {key: value for key, value in settings.items() if key != "corpus"}
    config = _compose({**choices, "corpus": ("embedded", {})}, others, lambda composed, _: to_config(composed))
    locate_model(config.model)
    check_packages(config)


def _compose(
    choices: Mapping[str, Choice], settings: Mapping[str, Any], use: Callable[[DictConfig, HydraConf], Result]
) -> Result:
    """Compose the configuration and return `use(configuration, Hydra's node of it)`."""
    register_schema()
    register_plugins()
    by_name = {key: value for key, value in settings.items() if key in GROUPS and isinstance(value, str)}
    named = {"data": "all"} | {group: name for group, (name, _) in choices.items()} | by_name
    values = {key: value for key, value in settings.items() if key not in by_name}
    for group, (_, chosen) in choices.items():
        values[group] = {**chosen, **values.get(group, {})}
    overrides = [f"{group}={name}" for group, name in named.items()]
    # The calling program may use Hydra itself.
    before = copy.copy(GlobalHydra.instance())
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
            composed = hydra.compose(CONFIG_NAME, overrides, return_hydra_config=True)
            OmegaConf.set_struct(composed, False)
            hydra_config = composed.hydra
            merged = OmegaConf.merge(composed, values)
            assert isinstance(merged, DictConfig)  # noqa: S101 (as its first part is)
            return use(merged, hydra_config)
    except COMPOSITION_ERRORS as error:
        raise ConfigError(*explain(error, overrides)) from None
    finally:
        GlobalHydra.set_instance(before)


def _holding_out(composed: DictConfig, settings: Mapping[str, Any]) -> DictConfig:
    """Return the composition with a default held-out share for a corpus in a file, unless the settings give one."""
    data = settings.get("data", {})
    unset = [key for key in HELD_OUT if isinstance(data, str) or key not in data]
    corpus = to_config(composed).corpus
    if corpus.source == "file" and "profile" not in settings and unset:
        size, published = held_out(corpus), published_parts(corpus)
        for key in unset:
            composed.data[key] = HELD_OUT_MOST if key.removesuffix("_size") in published else size
    return composed


def make_cell(
    composed: DictConfig,
    hydra_config: HydraConf,
    overrides: tuple[str, ...] = (),
    locate: Callable[[ModelConfig], Path] = locate_model,
) -> Cell:
    """Check a composed configuration and name its run.

    Args:
        composed: The configuration.
        hydra_config: Hydra's own node of the same composition.
        overrides: Overrides given on the command line.
        locate: Finds the model's folder.

    Raises:
        MedQAError: a setting is invalid, or the corpus or model is missing.
    """
    check_chosen_files(hydra_config)
    as_composed = _settings_of(composed, hydra_config)
    folder = locate(as_composed.model)
    fingerprints = fingerprints_of(as_composed, folder)
    choices = hydra_config.runtime.choices
    defaults = compose_defaults(hydra_config)
    config = with_size_name(as_composed, defaults.settings)
    # A named model is identified by its name, wherever its weights are; any other folder by its content.
    moved = config.model.repository is None and config.model.path != defaults.settings.get("model.path")
    labels = {}
    if moved or choices["model"] != defaults.choices["model"]:
        labels["model"] = _model_label(config, fingerprints)
    if choices["corpus"] != defaults.choices["corpus"]:
        labels["corpus"] = file_label(config.corpus.name, config.corpus.path, fingerprints.corpus)
    section = f"{EVALUATE}."
    evaluation_defaults = {
        key.removeprefix(section): value for key, value in defaults.settings.items() if key.startswith(section)
    }
    name = run_name(config, defaults.settings, labels)
    # Earlier versions named a size that was typed, or scaled, after the file that it replaces or scales; an export
    # named the `samples` of its training by the number.
    before = []
    if as_composed != config:
        counted = dataclasses.replace(config, data=dataclasses.replace(config.data, name=str(config.train_size)))
        for each in (as_composed, counted):
            before.append(run_name(each, defaults.settings, labels))
            before += former_run_names(each, defaults.settings, labels)
    # A name that is given is one that the run had.
    given_name = [config.run_name] if config.run_name else []
    former = [*given_name, *former_run_names(config, defaults.settings, labels), *before]
    cell = place_cell(config, folder, fingerprints, name, evaluation_defaults, former_names=former)
    for key in ("run_name", "evaluation_name"):
        given, found = getattr(config, key), getattr(cell.config, key)
        if given not in ("", found):
            raise ConfigError(_wrong_name(key, given, found))
    # The command of one cell alone; a matrix has settings that only some of its cells use.
    command = tuple(used_overrides(config, command_of(hydra_config)))
    return dataclasses.replace(cell, overrides=overrides, command=command)


def _settings_of(composed: DictConfig, hydra_config: HydraConf) -> Config:
    try:
        return to_config(composed)
    except ConfigError as error:
        raise ConfigError(*(with_file(fault, hydra_config) for fault in error.faults)) from None


def _wrong_name(key: str, given: str, found: str) -> Fault:
    # Only a matrix names its cells.
    in_matrix = LAUNCHER_VARIABLE in os.environ
    return Fault(
        "name-given",
        f"runs and evaluations are named after their settings and files, and this one is {found}",
        key=key,
        got=given,
        hint="A file was changed after the first run of the matrix had begun; type the command again."
        if in_matrix
        else f"Leave {key} out; study=NAME keeps runs apart.",
    )


def _model_label(config: Config, fingerprints: Fingerprints) -> str:
    """Return the model's name; a local folder's name is arbitrary, so a digest of its content is appended."""
    return config.model.title if config.model.is_named else f"{config.model.title}-{fingerprints.model[:6]}"
