"""From what a Python program asks for to a cell: composed, checked and named as the command line would."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from medqa_finetune.api_inputs import Choice, held_out
from medqa_finetune.cell import Cell
from medqa_finetune.config.compose import COMPOSITION_ERRORS, CONFIG_NAME, register_schema, to_config
from medqa_finetune.config.explain import explain
from medqa_finetune.config.groups import conf_folder
from medqa_finetune.errors import ConfigError
from medqa_finetune.extras import check_extras
from medqa_finetune.launch.cells import make_cell
from medqa_finetune.launch.launcher import register_matrix
from medqa_finetune.model.locate import locate_model

T = TypeVar("T")

# Settings that may be a name in `conf/` instead of a dictionary.
GROUPS = ("data", "train", "evaluate", "tracker", "profile")
HELD_OUT = ("validation_size", "test_size")


def compose_cell(choices: Mapping[str, Choice], settings: Mapping[str, Any]) -> Cell:
    """Return the cell that these choices and settings make, composed and named as the command would.

    Raises:
        ConfigError: a setting is unknown, of the wrong type or impossible.
    """
    return _compose(choices, settings, lambda composed, hydra: make_cell(_holding_out(composed, settings), hydra))


def check_without_pairs(choices: Mapping[str, Choice], settings: Mapping[str, Any]) -> None:
    """Check what can be before the pairs are read, or written to a file, with the embedded ones in their place.

    Raises:
        MedQAError: the model is not there, a setting is impossible, or what it wants is not installed.
    """
    others = {key: value for key, value in settings.items() if key != "corpus"}
    config = _compose({**choices, "corpus": ("embedded", {})}, others, lambda composed, _: to_config(composed))
    locate_model(config.model)
    check_extras(config)


def _compose(choices: Mapping[str, Choice], settings: Mapping[str, Any], use: Callable[[Any, Any], T]) -> T:
    """Return what `use` makes of the composition and of Hydra's own node of it."""
    register_schema()
    register_matrix()
    by_name = {key: value for key, value in settings.items() if key in GROUPS and isinstance(value, str)}
    named = {"data": "all"} | {group: name for group, (name, _) in choices.items()} | by_name
    values = {key: value for key, value in settings.items() if key not in by_name}
    for group, (_, chosen) in choices.items():
        values[group] = {**chosen, **values.get(group, {})}
    typed = [f"{group}={name}" for group, name in named.items()]
    # The caller may be a program of Hydra's own.
    before = copy.copy(GlobalHydra.instance())
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            composed = compose(CONFIG_NAME, typed, return_hydra_config=True)
            OmegaConf.set_struct(composed, False)
            hydra_config = composed.hydra
            return use(OmegaConf.merge(composed, values), hydra_config)
    except COMPOSITION_ERRORS as error:
        raise ConfigError(*explain(error, typed)) from None
    finally:
        GlobalHydra.set_instance(before)


def _holding_out(composed: Any, settings: Mapping[str, Any]) -> Any:
    """Return a composition in which a share of a file is held out, where nobody has said how much."""
    data = settings.get("data", {})
    unsaid = [key for key in HELD_OUT if isinstance(data, str) or key not in data]
    corpus = to_config(composed).corpus
    if corpus.source == "file" and "profile" not in settings and unsaid:
        size = held_out(corpus)
        for key in unsaid:
            composed.data[key] = size
    return composed
