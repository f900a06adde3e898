"""A Hydra launcher that gives every cell a fresh process, so that its memory figures and its failures are its own."""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from medqa_finetune.config.compose import COMPOSITION_ERRORS, explain
from medqa_finetune.data.prepare import CACHE_NAME, prepare_splits
from medqa_finetune.errors import ConfigError, MedQAError, RunError
from medqa_finetune.lifecycle import announce, check_folder, sigterm_as_exit
from medqa_finetune.matrix.cells import Cell, make_cell
from medqa_finetune.matrix.process import cell_command, run_cell
from medqa_finetune.matrix.progress import Progress, outcome
from medqa_finetune.record.schema import Record

T = TypeVar("T")
R = TypeVar("R")

PLUGIN_MODULE = "hydra_plugins.medqa_finetune_matrix"


@dataclasses.dataclass
class LocalLauncherConfig:
    """`hydra/launcher=local`: one cell after another, each in a fresh process."""

    _target_: str = f"{PLUGIN_MODULE}.LocalLauncher"


@dataclasses.dataclass
class MatrixSweeperConfig:
    """`hydra/sweeper=matrix`: the product of all swept values.

    Attributes:
        params: Values swept when the command line does not say otherwise, as in Hydra's basic sweeper.
    """

    _target_: str = f"{PLUGIN_MODULE}.MatrixSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


def register_matrix() -> None:
    """Make launcher and sweeper known to Hydra; to be called before Hydra starts.

    Hydra takes plugins from its own namespace package only. Ours lies in a folder of this package, since files that a
    wheel puts into a folder shared with other wheels are easily lost when one of them is removed.
    """
    folder = str(Path(__file__).parent / "discovery")
    if folder not in sys.path:
        sys.path.append(folder)
    store = ConfigStore.instance()
    store.store(group="hydra/launcher", name="local", node=LocalLauncherConfig)
    store.store(group="hydra/sweeper", name="matrix", node=MatrixSweeperConfig)


class LocalLauncher(Launcher):
    """Checks all cells, then runs one after another; a cell that fails does not stop the others."""

    def __init__(self) -> None:
        self._context: HydraContext | None = None
        self._config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra composes with."""
        self._context = hydra_context
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run every cell that is not done yet, and return how each ended, in the order asked for.

        Raises:
            MedQAError: a cell cannot run at all; none has been started then.
        """
        cells = distinct(_check_all(job_overrides, self._compose))
        _check_folders(cells)
        _check_data(cells)
        _announce_all(cells)
        with sigterm_as_exit():
            return [
                _job_return(cell, self._run(cell, f"[{number}/{len(cells)}]"))
                for number, cell in enumerate(cells, start=1)
            ]

    def _compose(self, overrides: Sequence[str]) -> Cell:
        assert self._context is not None, "setup() comes first"  # noqa: S101
        assert self._config is not None, "setup() comes first"  # noqa: S101
        try:
            composed = self._context.config_loader.load_sweep_config(self._config, list(overrides))
            return make_cell(composed, composed.hydra, tuple(overrides))
        except COMPOSITION_ERRORS as error:
            raise ConfigError(explain(error)) from None

    def _run(self, cell: Cell, label: str) -> Record | None:
        record = None if cell.config.overwrite else cell.run.read()
        if record is not None and record.status == "done":
            print(f"{label} {cell.config.run_name}  done before, untouched", file=sys.stderr, flush=True)
            return record
        started = time.monotonic()
        progress = Progress(f"{label} {cell.config.run_name}", cell.run)
        record = run_cell(cell_command(cell.overrides), cell.run, progress.show)
        progress.finish(f"{outcome(record)}  in {time.monotonic() - started:.0f} s")
        return record


def _check_folders(cells: Sequence[Cell]) -> None:
    """Refuse a matrix of which one cell's folder holds another run."""
    _check_all(cells, lambda cell: check_folder(cell.run, cell.config, cell.fingerprints))


def _check_data(cells: Sequence[Cell]) -> None:
    """Prepare every corpus, each once, so that a matrix whose last cell asks for too many pairs never starts."""
    _check_all(cells, lambda cell: prepare_splits(cell.config, Path(cell.config.outputs) / CACHE_NAME))


def _announce_all(cells: Sequence[Cell]) -> None:
    """Give every cell its record; one that overwrites leaves the old record to the cell itself."""
    for cell in cells:
        if not cell.config.overwrite:
            announce(cell.run, cell.config, cell.fingerprints)


def _check_all(items: Sequence[T], check: Callable[[T], R]) -> list[R]:
    """Return what `check` gives for every item, or report all that is wrong at once; a shared fault is said once.

    Raises:
        ConfigError: `check` refused at least one item.
    """
    results: list[R] = []
    faults: dict[str, None] = {}
    for item in items:
        try:
            results.append(check(item))
        except MedQAError as error:
            faults[str(error)] = None
    if faults:
        raise ConfigError("\n".join(faults))
    return results


def distinct(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells without those that would repeat another's run, and say which were left out.

    Raises:
        ConfigError: two different runs would share a folder.
    """
    kept: dict[str, Cell] = {}
    for cell in cells:
        first = kept.setdefault(str(cell.run.path), cell)
        if first is cell:
            continue
        if first.identity != cell.identity:
            both = f"{' '.join(first.overrides)} and {' '.join(cell.overrides)}"
            raise ConfigError(f"{cell.run.path} would hold two different runs: {both}.")
        print(f"{' '.join(cell.overrides)} is the same run as {first.config.run_name}: run once", file=sys.stderr)
    return list(kept.values())


def _job_return(cell: Cell, record: Record | None) -> JobReturn:
    done = record is not None and record.status == "done"
    if done:
        result: object = None
    elif record is None:
        result = RunError(f"the process left no readable record in {cell.run.path}")
    else:
        reason = record.failure.message if record.failure else "no reason recorded"
        result = RunError(f"{record.status}: {reason} (log: {cell.run.log_path})")
    return JobReturn(
        overrides=filter_overrides(cell.overrides),
        working_dir=str(cell.run.path),
        task_name=cell.config.run_name,
        status=JobStatus.COMPLETED if done else JobStatus.FAILED,
        _return_value=result,
    )
