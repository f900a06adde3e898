"""A Hydra sweeper that composes and checks every cell before the first one starts, for any launcher.

Hydra loads this file in every process, also of programs that sweep otherwise: what checks cells is imported when used.
"""

import itertools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from medqa_finetune.compat.hydra import outcome_of
from medqa_finetune.config.compose import COMPOSITION_ERRORS, readable, source_folders
from medqa_finetune.config.explain import explain
from medqa_finetune.config.folder_names import SEPARATOR
from medqa_finetune.errors import ConfigError, Fault, MedQAError, RunError
from medqa_finetune.launch.cell_launcher import CellLauncher
from medqa_finetune.launch.launcher import overrides_of
from medqa_finetune.launch.planned import by_names
from medqa_finetune.launch.sweep_parameters import default_sweeps
from medqa_finetune.launch.task import CellTask
from medqa_finetune.launch.trials import load_cell
from medqa_finetune.record.evaluations import evaluation_parts

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell

LATE = "is set by a choice that differs between cells, and is one for the whole matrix"


class MatrixSweeper(Sweeper):
    """Launches the Cartesian product of all swept values as one batch, each cell with a folder named after it.

    Hydra's basic sweeper makes a folder and a `multirun.yaml` before it checks anything, and two sweeps on the same
    outputs overwrite each other's.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params or {}
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self._typed: set[str] = set()
        self._task: TaskFunction | None = None
        self._run_cell: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context and configuration, and instantiate the launcher, unless nothing is to be launched."""
        self.hydra_context = hydra_context
        self.config = config
        self._run_cell = task_function
        if isinstance(task_function, CellTask) and task_function.plans:
            self._task = task_function
            return
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Compose, check and launch every cell.

        Raises:
            MedQAError: a cell cannot run; no cell has been started.
            RunError: at least one cell is not done; one fault per cell.
        """
        from medqa_finetune.config.no_effect import refuse_unused_settings
        from medqa_finetune.launch.validate import check_all, check_matrix

        if self._task is not None:
            check_all(self._planned(arguments), self._call)
            return []
        combinations = self._combinations(arguments)
        try:
            composed = check_all(combinations, self._compose)
        except MedQAError:
            # What can never work is said before a model or corpus that is missing.
            refuse_unused_settings(readable(map(self._load, combinations), combinations))
            raise
        refuse_unused_settings([(cell.config, cell.overrides) for cell in composed])
        cells = check_matrix(composed, here=self._runs_here)
        results = self._launch(cells)
        pairs = zip(cells, results, strict=True)
        missing = [fault for cell, result in pairs if (fault := _fault_of(cell, result)) is not None]
        if missing:
            raise RunError(Fault("runs-not-done", f"{len(missing)} of {len(cells)} runs are not done"), *missing)
        return results

    @property
    def _runs_here(self) -> bool:
        """Whether cells run on this machine; launchers of other packages do not say."""
        return not isinstance(self.launcher, CellLauncher) or self.launcher.runs_here

    def _launch(self, cells: "Sequence[Cell]") -> Sequence[JobReturn]:
        assert self.launcher is not None, "setup() comes first"  # noqa: S101
        try:
            if isinstance(self.launcher, CellLauncher):
                return self.launcher.launch_cells(cells)
            if isinstance(self._run_cell, CellTask):
                # The launcher hands this object to its workers.
                self._run_cell.planned = by_names(cells)
            overrides = [overrides_of(cell) for cell in cells]
            results: Sequence[JobReturn] = self.launcher.launch(overrides, initial_job_idx=0)
        except MedQAError:
            raise
        except Exception as error:  # other launchers raise their own types when a job dies
            problem = f"{type(self.launcher).__name__} gave up: {type(error).__name__}: {error}"
            raise RunError(Fault("launcher-failed", problem)) from error
        return results

    def _combinations(self, arguments: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the overrides of every cell: the product of the command line's sweeps and `hydra.sweeper.params`."""
        assert self.hydra_context is not None, "setup() comes first"  # noqa: S101
        self._typed = {argument.partition("=")[0].lstrip("+") for argument in arguments}
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        try:
            typed = parser.parse_overrides([*default_sweeps(self.params, arguments), *arguments])
            # The command line replaces the configuration's sweep over the same key.
            values = {override.get_key_element(): _alternatives(override) for override in typed}
        except COMPOSITION_ERRORS as error:
            raise ConfigError(*explain(error, ["--multirun", *arguments])) from None
        return list(itertools.product(*values.values()))

    def _planned(self, arguments: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the overrides of every cell that is planned."""
        return self._combinations(arguments)

    def _call(self, overrides: tuple[str, ...]) -> None:
        assert self._task is not None, "cells are launched"  # noqa: S101
        try:
            composed = self._load(overrides)
            HydraConfig.instance().set_config(composed)
            self._task(composed)
        except COMPOSITION_ERRORS as error:
            raise ConfigError(*self._explained(error, overrides)) from None

    def _compose(self, overrides: tuple[str, ...]) -> "Cell":
        assert self.config is not None, "setup() comes first"  # noqa: S101
        return load_cell(self._load, overrides, self.config)

    def _load(self, overrides: tuple[str, ...]) -> DictConfig:
        assert self.hydra_context is not None, "setup() comes first"  # noqa: S101
        assert self.config is not None, "setup() comes first"  # noqa: S101
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        _refuse_late_settings(self.config.hydra, composed.hydra, self._typed)
        return composed

    def _explained(self, error: Exception, overrides: tuple[str, ...]) -> list[Fault]:
        return explain(error, overrides, source_folders(self.config.hydra) if self.config is not None else ())


def _refuse_late_settings(first: DictConfig, own: DictConfig, typed: Collection[str]) -> None:
    """Refuse settings of launcher and sweeper that a swept choice brings, which are those of the whole matrix.

    Args:
        first: Hydra's node of the composition without swept choices.
        own: That of a cell.
        typed: Keys given on the command line.

    Raises:
        ConfigError: the cell's node has such settings.
    """
    swept = {**(own.sweeper.get("params") or {})}
    faults = []
    for key, value in swept.items():
        if key not in typed and (first.sweeper.get("params") or {}).get(key) != value:
            hint = f"Give {key}={value} on the command line."
            faults.append(Fault("no-effect", LATE, key=f"hydra.sweeper.params.{key}", got=value, hint=hint))
    for key, value in own.launcher.items():
        if first.launcher.get(key) != value:
            hint = f"Give hydra.launcher.{key}={value} on the command line."
            faults.append(Fault("no-effect", LATE, key=f"hydra.launcher.{key}", got=value, hint=hint))
    if faults:
        raise ConfigError(*faults)


def _alternatives(override: Override) -> list[str]:
    """Expand an override into one override per swept value."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        hint = f"Give single values, such as {key}=1,2 or {key}=range(1,4)."
        got = str(override.input_line).partition("=")[2]
        raise ConfigError(Fault("not-discrete", "a matrix needs single values", key=key, got=got, hint=hint))
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:  # a glob
        raise ConfigError(found_nothing(override))
    return values


def found_nothing(override: Override) -> Fault:
    """Return the fault of a sweep without any value."""
    got = str(override.input_line).partition("=")[2]
    key = override.get_key_element()
    return Fault("no-effect", "finds nothing", key=key, got=got, hint=f"Give the names: {key}=A,B.")


def _name_of(cell: "Cell") -> str:
    return SEPARATOR.join([cell.config.run_name, *evaluation_parts(cell.config.evaluation_name)])


def _fault_of(cell: "Cell", result: JobReturn) -> Fault | None:
    """Return why a cell is not done, or None if it is; its record takes precedence over the launcher's report."""
    if result.status == JobStatus.UNKNOWN:
        return None  # left in a queue
    error = outcome_of(result)
    record = cell.folder.read()
    if record is not None and record.status == "done" and result.status == JobStatus.COMPLETED:
        return None
    name = _name_of(cell)
    if isinstance(error, MedQAError):
        return error.faults[0].but(file=name)
    if isinstance(error, BaseException):
        return Fault("run-failed", str(error), file=name)
    unknown = "it left no record" if record is None else f"{record.status}: the launcher says no more"
    return Fault("run-not-done", unknown, file=name)
