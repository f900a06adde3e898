"""Composes what a command line asks for, and what it would ask for with each profile."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medqa_finetune.checkup.trials import Setting
from medqa_finetune.config.compose import to_config
from medqa_finetune.config.groups import option_names
from medqa_finetune.config.schema import Config, ModelConfig
from medqa_finetune.errors import MedQAError
from medqa_finetune.launch.compose import compose_and_call
from medqa_finetune.methods.registry import method_of
from medqa_finetune.model.locate import locate_architecture
from medqa_finetune.record.files import write_json

# `config.json` of the models in `conf/model`, by their repositories: what they need is known before they are fetched.
ARCHITECTURES = Path(__file__).with_name("architectures.json")
# The card that a profile is made for, of those in `model/cards.py`; a profile without one is for any machine.
CARD_OF_PROFILE = {"t4": "t4", "8gb": "4060", "24gb": "4090", "80gb": "a100"}


def compose(arguments: Sequence[str]) -> list[Config]:
    """Return the settings of every cell that `train` would run with these arguments; nothing is looked for on disk.

    Raises:
        ConfigError: an argument is impossible.
    """
    found: list[Config] = []
    compose_and_call(lambda composed: found.append(to_config(composed)), arguments, plans=True)
    return found


def of_profiles(arguments: Sequence[str]) -> dict[str, list[Config]]:
    """Return the cells of each profile with the other arguments; without profiles that refuse them."""
    others = [each for each in arguments if each.partition("=")[0].lstrip("+") != "profile"]
    found = {}
    for profile in option_names("profile"):
        try:
            found[profile] = compose([*others, f"profile={profile}"])
        except MedQAError:
            continue
    return found


def architectures(models: Iterable[ModelConfig], folder: Path) -> dict[ModelConfig, Path]:
    """Return a folder with `config.json` for each model: its own, or a new one for a model that is only known.

    Args:
        models: The models.
        folder: An empty folder for new ones.
    """
    known = json.loads(ARCHITECTURES.read_text(encoding="utf-8"))
    found = {}
    for number, model in enumerate(dict.fromkeys(models)):
        try:
            found[model] = locate_architecture(model)
        except MedQAError:
            if model.repository in known:
                found[model] = folder / str(number)
                found[model].mkdir()
                write_json(found[model] / "config.json", known[model.repository])
    return found


def to_try(
    cells: Sequence[Config], profiles: Mapping[str, Sequence[Config]], folders: Mapping[ModelConfig, Path]
) -> list[Setting]:
    """Return the settings whose memory is to be computed: of methods with a model whose `config.json` is known."""
    found: dict[tuple[str, str], Setting] = {}
    for name, configs in [("", cells), *profiles.items()]:
        for config in configs:
            if method_of(config.method).loads_model and config.model in folders:
                # Cells that differ in data and seed need the same.
                key = (name, repr(dataclasses.replace(config, data=cells[0].data, seed=0)))
                card = CARD_OF_PROFILE.get(name)
                found.setdefault(key, Setting(name, card, config, str(folders[config.model])))
    return [*found.values()]
