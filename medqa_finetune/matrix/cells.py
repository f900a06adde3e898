"""A cell of the matrix: one experiment that was asked for, checked and named before anything runs."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from medqa_finetune.config.compose import check_chosen_files, compose_defaults, to_config
from medqa_finetune.config.identity import Fingerprints, identity_of, run_name, settings_of
from medqa_finetune.config.schema import Config, ModelConfig
from medqa_finetune.errors import ConfigError
from medqa_finetune.lifecycle import fingerprints_of
from medqa_finetune.model.locate import locate_model
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.stopping import LAUNCHER_VARIABLE


@dataclasses.dataclass(frozen=True)
class Cell:
    """One experiment that was asked for.

    Attributes:
        config: Its settings, `run_name` filled in.
        fingerprints: Of the corpus and model it points at.
        overrides: What was typed for it.
    """

    config: Config
    fingerprints: Fingerprints
    overrides: tuple[str, ...]

    @property
    def run(self) -> RunDir:
        """The cell's run folder."""
        return RunDir(self.config.run_path)

    @property
    def identity(self) -> str:
        """What this cell shares with every other that gives the same result."""
        return identity_of(settings_of(self.config, self.fingerprints))


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
        labels["corpus"] = _label(config.corpus.name, config.corpus.path, fingerprints.corpus)
    if fingerprints.text is not None:
        labels["text"] = _label(str(config.evaluate.text), config.evaluate.text_path, fingerprints.text)
    name = run_name(config, defaults.settings, labels)
    if config.run_name not in ("", name):
        # Only a matrix tells its cells their names.
        why = (
            "A file was changed after the first run of the matrix had begun; type the command again."
            if LAUNCHER_VARIABLE in os.environ
            else "Leave run_name out; study=NAME keeps runs apart."
        )
        raise ConfigError(
            f"run_name={config.run_name}: a run is named after its settings and files, and this one is {name}. {why}"
        )
    return Cell(dataclasses.replace(config, run_name=name), fingerprints, overrides)


def _model_label(config: Config, fingerprints: Fingerprints) -> str:
    """Return the model's name; local folders, which anybody may call anything, with a digest of their content."""
    return config.model.title if config.model.is_named else f"{config.model.title}-{fingerprints.model[:6]}"


def _label(name: str, path: str | None, sha256: str) -> str:
    """Return the name of a corpus, or of a text; local files with a digest of their content."""
    return name if path is None else f"{Path(path).name.partition('.')[0]}-{sha256[:6]}"
