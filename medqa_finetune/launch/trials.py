"""Runs what a sweeper of another package asks for, such as Optuna's, as checked, named, resumable cells."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from medqa_finetune.compat.hydra import as_typed
from medqa_finetune.config.compose import COMPOSITION_ERRORS, source_folders
from medqa_finetune.config.explain import explain
from medqa_finetune.errors import ConfigError, MedQAError
from medqa_finetune.launch.task import check_direction
from medqa_finetune.log import log_to_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from medqa_finetune.cell import Cell
    from medqa_finetune.config.schema import ModelConfig

Overrides = tuple[str, ...]
Launch = Callable[[Sequence["Cell"]], Sequence[JobReturn]]
Load = Callable[[Overrides], DictConfig]


def load_cell(
    load: Load, overrides: Overrides, config: DictConfig, locate: "Callable[[ModelConfig], Path] | None" = None
) -> "Cell":
    """Compose, check and name a cell of a sweep.

    Args:
        load: Composes overrides with Hydra.
        overrides: Those of the cell.
        config: The sweep's own composition.
        locate: Finds the model's folder; None for `locate_model`.

    Raises:
        MedQAError: it cannot be composed, a setting is invalid, or corpus or model is missing.
    """
    from medqa_finetune.launch.compose import make_cell
    from medqa_finetune.model.locate import locate_model

    try:
        composed = load(overrides)
        return make_cell(composed, composed.hydra, overrides, locate or locate_model)
    except COMPOSITION_ERRORS as error:
        raise ConfigError(*explain(error, overrides, source_folders(config.hydra))) from None


def launch_trials(
    launch: Launch, load: Load, config: DictConfig, asked: Sequence[Overrides], *, here: bool = True
) -> list[JobReturn]:
    """Run every trial, and return one result each, in order; one that is refused has failed, and the others run.

    Args:
        launch: Runs cells.
        load: Composes overrides with Hydra.
        config: The sweep's own composition.
        asked: Overrides of each trial.
        here: Whether they run on this machine, which is checked then.

    Raises:
        ConfigError: the sweeper maximizes what is to be minimized, or no trial uses a setting.
        Interrupted: a signal came; every trial has been stopped.
    """
    from medqa_finetune.config.no_effect import refuse_unused_settings
    from medqa_finetune.launch.validate import check_matrix

    check_direction(config.hydra)
    log_to_terminal()
    cells: dict[int, Cell] = {}
    results: dict[int, JobReturn] = {}
    for place, overrides in enumerate(asked):
        try:
            cell = load_cell(load, overrides, config)
            check_matrix([cell], here=here)
            cells[place] = cell
        except MedQAError as error:
            results[place] = failed(error)
    # One trial may have a setting that only others use; what is the same in all of them, or in none used, is in vain.
    fixed = set(as_typed(config.hydra.overrides.task))
    settings = [
        (cell.config, [each for each in cell.overrides if len(cells) > 1 or each in fixed]) for cell in cells.values()
    ]
    refuse_unused_settings(settings)
    # Two trials may ask for one and the same cell.
    runs = {cell.evaluation.path: cell for cell in cells.values()}
    ended = dict(zip(runs, launch(list(runs.values())), strict=True))
    results |= {place: ended[cell.evaluation.path] for place, cell in cells.items()}
    return [results[place] for place in range(len(asked))]


def failed(error: MedQAError) -> JobReturn:
    """Return the result of a trial that is refused."""
    result = JobReturn(status=JobStatus.FAILED)
    result.return_value = error
    return result
