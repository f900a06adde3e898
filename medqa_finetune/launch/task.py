"""What Hydra calls for one cell: in this process, in one of our launcher's, or in another launcher's worker.

A worker's command line is not the cell's, so that the command in the record is taken from what Hydra composed.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from medqa_finetune.compat.hydra import as_typed
from medqa_finetune.config.compose import CONFIG_NAME
from medqa_finetune.config.groups import conf_folder
from medqa_finetune.errors import ConfigError, Fault, MedQAError
from medqa_finetune.launch.planned import Names, planning
from medqa_finetune.record.schema import Record

if TYPE_CHECKING:
    # The launcher also serves Hydra programs other than this one.
    from medqa_finetune.cell import Cell

PROGRAM = ("python", "-m", "medqa_finetune.train")
# Hydra's settings that say how and where a cell is started, not what it is.
OF_THE_LAUNCH = ("hydra.mode", "hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.sweep.",
                 "hydra.run.", "hydra.job.num", "hydra.job.id")  # fmt: skip
# Names that a matrix gives its cells.
NAMES = ("run_name", "evaluation_name")
# Where sweepers that optimize say in which direction: Optuna's, Nevergrad's and Ax's.
DIRECTIONS = {
    "direction": ("maximize", "minimize"),
    "optim.maximize": ("true", "false"),
    "ax_config.experiment.minimize": ("false", "true"),
}


class CellTask:
    """The task function of this package's commands.

    Attributes:
        plans: Whether it only takes the settings of cells, so that our sweepers call it and launch nothing.
        planned: Cells of the matrix, composed and checked, for workers of other launchers, which get this object.
        started: Whether a composition succeeded and the task has begun, in this process.
        refused: Error of a single run, for which Hydra would only print a line; a matrix raises it.
    """

    def __init__(self, task: Callable[[DictConfig], Any], *, plans: bool = False) -> None:
        self.plans = plans
        self.planned: dict[Names, Cell] = {}
        self.started = False
        self.refused: MedQAError | None = None
        self._task = task

    def __call__(self, composed: DictConfig) -> Any:
        """Run a composed configuration; return what the task does, for sweepers that optimize."""
        self.started = True
        hydra_config = HydraConfig.get()
        try:
            check_direction(hydra_config)
            with planning(self.planned):
                return self._task(composed)
        except MedQAError as error:
            if hydra_config.mode != RunMode.RUN:
                raise
            self.refused = error
            return None


def value_of_trial(record: Record | None) -> float | None:
    """Return what a sweeper minimizes: the lowest validation loss. None without one, as where nothing is trained.

    Scores of the test set are no part of it: settings that are chosen by them make them too good.
    """
    return None if record is None or record.train is None else record.train.best_validation_loss


def check_direction(hydra_config: HydraConf) -> None:
    """Refuse a sweeper that maximizes.

    Raises:
        ConfigError: it does.
    """
    for key, (wrong, right) in DIRECTIONS.items():
        found = OmegaConf.select(hydra_config.sweeper, key, default=None)
        each = found if OmegaConf.is_list(found) else [found]
        if any(str(getattr(one, "name", one)).lower() == wrong for one in each):
            problem = "a trial returns its validation loss, the lower the better"
            raise ConfigError(Fault("conflict", problem, key=f"hydra.sweeper.{key}", got=wrong, allowed=(right,)))


def command_of(hydra_config: HydraConf) -> tuple[str, ...]:
    """Return the command line that runs this composition alone, in any process."""
    typed = [*as_typed(hydra_config.overrides.hydra), *as_typed(hydra_config.overrides.task)]
    return (*PROGRAM, *_search_flags(hydra_config), *cell_overrides(typed))


def cell_overrides(overrides: Sequence[str]) -> list[str]:
    """Return overrides without those that concern the launch, and without names, which follow from the settings."""
    return [
        str(each)
        for each in overrides
        if not str(each).lstrip("+~").startswith(OF_THE_LAUNCH) and str(each).partition("=")[0] not in NAMES
    ]


def _search_flags(hydra_config: HydraConf) -> Iterator[str]:
    sources = {str(source.provider): str(source.path) for source in hydra_config.runtime.config_sources}
    folders = {"--config-path": sources.get("main", ""), "--config-dir": sources.get("command-line", "")}
    for flag, folder in folders.items():
        if folder and Path(folder) != conf_folder():
            yield from (flag, _from_here(folder))
    if hydra_config.job.config_name not in (None, CONFIG_NAME):
        yield from ("--config-name", str(hydra_config.job.config_name))


def _from_here(folder: str) -> str:
    """Return a folder relative to the working directory if it lies below, and absolute elsewhere."""
    path = Path(folder)
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else folder
