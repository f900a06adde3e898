"""From what Hydra composed to a checked cell, named before anything runs."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from medqa_finetune.cell import Cell, fingerprints_of, place_cell
from medqa_finetune.config.compose import check_chosen_files, compose_defaults, to_config
from medqa_finetune.config.identity import EVALUATE, Fingerprints, file_label, run_name
from medqa_finetune.config.schema import Config, ModelConfig
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.model.locate import locate_model
from medqa_finetune.stopping import LAUNCHER_VARIABLE


def make_cell(
    composed: DictConfig,
    hydra_config: Any,
    overrides: tuple[str, ...] = (),
    locate: Callable[[ModelConfig], Path] = locate_model,
) -> Cell:
    """Check what Hydra composed and name the run.

    Args:
        composed: The configuration.
        hydra_config: Hydra's own node of the same composition.
        overrides: What was typed for it.
        locate: Finds the model's folder.

    Raises:
        MedQAError: a setting is impossible, or the corpus or model is not there.
    """
    check_chosen_files(hydra_config)
    config = to_config(composed)
    folder = locate(config.model)
    fingerprints = fingerprints_of(config, folder)
    choices = hydra_config.runtime.choices
    defaults = compose_defaults(choices, hydra_config.job.config_name)
    # Weights of a named model are that model wherever they lie; any other folder is a model of its own.
    moved = config.model.repository is None and config.model.path != defaults.settings.get("model.path")
    labels = {}
    if moved or choices.model != defaults.choices["model"]:
        labels["model"] = _model_label(config, fingerprints)
    if choices.corpus != defaults.choices["corpus"]:
        labels["corpus"] = file_label(config.corpus.name, config.corpus.path, fingerprints.corpus)
    name = run_name(config, defaults.settings, labels)
    section = {key.removeprefix(f"{EVALUATE}."): value for key, value in defaults.settings.items()
               if key.startswith(f"{EVALUATE}.")}  # fmt: skip
    cell = place_cell(config, folder, fingerprints, name, section)
    for key in ("run_name", "evaluation_name"):
        typed, found = getattr(config, key), getattr(cell.config, key)
        if typed not in ("", found):
            raise ConfigError(_another_name(key, typed, found))
    return dataclasses.replace(cell, overrides=overrides)


def _another_name(key: str, typed: str, found: str) -> Fault:
    # Only a matrix gives its cells their names.
    in_matrix = LAUNCHER_VARIABLE in os.environ
    return Fault(
        "name-given",
        f"runs and evaluations are named after their settings and files, and this one is {found}",
        key=key,
        got=typed,
        hint="A file was changed after the first run of the matrix had begun; type the command again."
        if in_matrix
        else f"Leave {key} out; study=NAME keeps runs apart.",
    )


def _model_label(config: Config, fingerprints: Fingerprints) -> str:
    """Return the model's name; local folders, which anybody may call anything, with a digest of their content."""
    return config.model.title if config.model.is_named else f"{config.model.title}-{fingerprints.model[:6]}"
