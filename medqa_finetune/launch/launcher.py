"""A Hydra launcher that runs every cell in a fresh process with its own GPUs.

It works with any Hydra program. If the program writes a record (`record/`) into its folder, finished runs are skipped,
crashed ones are retried, and two launches on the same folders share the work.
"""

import contextlib
import dataclasses
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from medqa_finetune.compat.hydra import as_typed, hydra_resolver_of
from medqa_finetune.config.labels import labels_of
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.launch.cell_launcher import PLUGIN_MODULE, CellLauncher, job_return
from medqa_finetune.launch.cluster.ray.settings import RayLauncherConfig
from medqa_finetune.launch.cluster.settings import SlurmLauncherConfig
from medqa_finetune.launch.display import LiveDisplay
from medqa_finetune.launch.exit_status import ExitStatus, read_or_none
from medqa_finetune.launch.gpus import Slot, keep_gpus, make_slots, visible_gpus
from medqa_finetune.launch.order import longest_first
from medqa_finetune.launch.scheduler import POLL_SECONDS, Job, Scheduler, job_of, label_jobs
from medqa_finetune.launch.time_limit import time_limited
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import CellDir, evaluation_parts, find_evaluation_named
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record
from medqa_finetune.stopping import stoppable

if TYPE_CHECKING:
    # The launcher also serves Hydra programs other than this one.
    from medqa_finetune.cell import Cell

# Hydra settings of the launching command that are not passed on to cells, which are single runs.
NOT_FOR_CELLS = ("hydra.mode", "hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.sweep.")


@dataclasses.dataclass
class LocalLauncherConfig:
    """`hydra/launcher=local`: a queue over the GPUs of this machine, which it shares with other launches.

    A GPU is used by one cell at a time, whichever launch it belongs to; others wait for it.

    Attributes:
        max_parallel: Maximum number of cells at a time; None is one per `gpus_per_cell` GPUs, and one without GPUs.
            Cells on one CPU compete for its cores unless the program limits its threads.
        gpus_per_cell: Number of GPUs that a cell trains on, with one process each; 0 runs cells on the CPU.
        retries: How often a crashed cell is restarted; a deterministic failure is never retried.
        grace_seconds: Seconds between asking a cell to stop and killing it.
    """

    _target_: str = f"{PLUGIN_MODULE}.LocalLauncher"
    max_parallel: int | None = None
    gpus_per_cell: int = 1
    retries: int = 1
    grace_seconds: float = 60.0


@dataclasses.dataclass
class MatrixSweeperConfig:
    """`hydra/sweeper=matrix`: the Cartesian product of all swept values.

    Attributes:
        params: Default sweep per key, as in Hydra's basic sweeper; the command line overrides it.
    """

    _target_: str = f"{PLUGIN_MODULE}.MatrixSweeper"
    params: dict[str, str] | None = None


@dataclasses.dataclass
class TuningSweeperConfig:
    """`hydra/sweeper=tuning`: settings proposed by Optuna (an extra), chosen by validation loss.

    Attributes:
        space: Sweep per key; sweeps on the command line come before it.
        n_trials: Number of trials, failed ones included; those of earlier starts count.
        n_jobs: Trials proposed at a time; None is as many as the launcher runs at a time.
        sampler: `tpe` or `random`.
        seed: Of the sampler.
        params: The matrix of a profile; not used.
    """

    _target_: str = f"{PLUGIN_MODULE}.TuningSweeper"
    space: dict[str, str] | None = None
    n_trials: int = 20
    n_jobs: int | None = None
    sampler: str = "tpe"
    seed: int = 0
    params: dict[str, str] | None = None


def register_plugins() -> None:
    """Register launcher and sweepers with Hydra; must be called before Hydra starts.

    Hydra loads plugins from its own namespace package only. Ours is in a folder of this package, since files in a
    folder shared between wheels are easily lost when one of them is removed.
    """
    folder = str(Path(__file__).parent / "discovery")
    if folder not in sys.path:
        sys.path.append(folder)
    store = ConfigStore.instance()
    store.store(group="hydra/launcher", name="local", node=LocalLauncherConfig)
    store.store(group="hydra/launcher", name="slurm", node=SlurmLauncherConfig)
    store.store(group="hydra/launcher", name="ray", node=RayLauncherConfig)
    store.store(group="hydra/sweeper", name="matrix", node=MatrixSweeperConfig)
    store.store(group="hydra/sweeper", name="tuning", node=TuningSweeperConfig)


class LocalLauncher(CellLauncher):
    """Runs each cell in its own process; a failing cell does not stop the others.

    A result is the lowest validation loss in the cell's record; other programs' return values are not transferred back.
    A cell's environment has HYDRA_LOCAL_LAUNCHER set, and its
    standard input is a pipe that closes when the launcher ends for any reason; cells that should stop then watch it
    (`stopping.stop_with_parent`).
    """

    def __init__(self, max_parallel: int | None, gpus_per_cell: int, retries: int, grace_seconds: float) -> None:
        self._settings = LocalLauncherConfig("", max_parallel, gpus_per_cell, retries, grace_seconds)
        self._slots: list[Slot] = []
        super().__init__()

    @property
    def slots(self) -> int:
        """How many cells run at a time."""
        return len(self._slots)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context and configuration, and find the GPUs.

        Raises:
            ConfigError: a launcher setting is invalid.
        """
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        _check(self._settings)
        gpus = visible_gpus() if self._settings.gpus_per_cell else []
        self._slots = make_slots(gpus, self._settings.gpus_per_cell, self._settings.max_parallel)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run every cell that is not done yet, and return one result per cell, in the order of `job_overrides`.

        Raises:
            Interrupted: a signal came; every cell has been stopped.
        """
        setup_globals()
        if self._makes_cells:
            return self._launch_trials(job_overrides)
        return self._run(
            [self._job(number, list(overrides)) for number, overrides in enumerate(job_overrides, initial_job_idx)]
        )

    def launch_cells(self, cells: "Sequence[Cell]") -> Sequence[JobReturn]:
        """Run cells of this program, which have been composed and checked, as `launch` does without composing again.

        Raises:
            Interrupted: a signal came; every cell has been stopped.
        """
        assert self._config is not None, "setup() comes first"  # noqa: S101
        shared = _shared_overrides(self._config)
        labels = labels_of([cell.config for cell in cells])
        jobs = [
            job_of(cell, label, [*shared, *_own(overrides_of(cell))]) for cell, label in zip(cells, labels, strict=True)
        ]
        for job, cell in zip(jobs, cells, strict=True):
            job.cell, job.overwrites = cell, cell.config.overwrite
        # With one slot, the order makes no end later, and short cells show soon whether all is well.
        order = longest_first(cells) if len(self._slots) > 1 else None
        with time_limited(cells[0].config) if cells else contextlib.nullcontext():
            return self._run(jobs, order)

    def _run(self, jobs: Sequence[Job], order: Sequence[int] | None = None) -> Sequence[JobReturn]:
        settings = self._settings
        run_jobs(jobs, self._slots, order=order, retries=settings.retries, grace_seconds=settings.grace_seconds)
        return [job_return(job) for job in jobs]

    def _job(self, number: int, overrides: list[str]) -> Job:
        assert self._config is not None, "setup() comes first"  # noqa: S101
        composed = self._load(tuple(overrides))
        with open_dict(composed):
            composed.hydra.job.id = str(number)
            composed.hydra.job.num = number
        folder = _folder_of(composed)
        evaluation = str(OmegaConf.select(composed, "evaluation_name", default=""))
        overwrites = OmegaConf.select(composed, "overwrite", default=False) is True
        run = CellDir(RunDir(folder), _evaluation_of(RunDir(folder), evaluation, anew=overwrites))
        own = _own(overrides)
        # With `hydra.sweep.dir`, as our sweeper passes it, the program makes its folder; otherwise Hydra's is used.
        makes_folder = len(own) < len(overrides)
        location = [] if makes_folder else [f"hydra.run.dir={quote_override(str(folder))}", f"hydra.job.num={number}"]
        return Job(
            name=tuple([*folder.name.split("__"), *evaluation_parts(evaluation)] if makes_folder else ["", *own]),
            overrides=[*_shared_overrides(self._config), *own, *location],
            run=run,
            earlier=read_or_none(run),
            overwrites=overwrites,
        )


def overrides_of(cell: "Cell") -> list[str]:
    """Return the overrides for a launcher: those of the cell, its name and the location of its folder.

    By its names, a worker finds the cell among those that it is given (`planned.planned_cell`).
    """
    path = cell.run.path
    given = {
        "run_name": path.name,
        "evaluation_name": cell.config.evaluation_name,
        "hydra.sweep.dir": str(path.parent),
        "hydra.sweep.subdir": path.name,
    }
    return [*cell.overrides, *(f"{key}={quote_override(value)}" for key, value in given.items())]


def run_jobs(
    jobs: Sequence[Job],
    slots: Sequence[Slot],
    *,
    retries: int,
    grace_seconds: float = LocalLauncherConfig.grace_seconds,
    order: Sequence[int] | None = None,
) -> None:
    """Run every job that is not done yet, each in its own process, and show the progress.

    Args:
        jobs: Jobs as they are shown.
        slots: One per job that may run at the same time.
        retries: How often a crashed job is restarted.
        grace_seconds: Seconds between asking a job to stop and killing it.
        order: Their places in starting order; None to start them as they are shown.

    Raises:
        Interrupted: a signal came; every job has been stopped.
    """
    for job in jobs:
        if job.is_done_by(job.earlier):
            job.finish(ExitStatus("done"), "done before, untouched" + _missing_files(job.run.run, job.earlier))
    label_jobs(jobs)
    with stoppable() as stop, LiveDisplay(jobs) as display, stop.deferred():
        in_order = jobs if order is None else [jobs[place] for place in order]
        scheduler = Scheduler(in_order, slots, retries=retries, display=display, keep=keep_gpus)
        try:
            while scheduler.has_open_jobs() and stop.number is None:
                scheduler.start_due_jobs()
                scheduler.collect_exits()
                display.show()
                time.sleep(POLL_SECONDS)
        finally:
            scheduler.stop(grace_seconds)


def _own(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that a cell's own process gets; where its folder is, concerns the launch alone."""
    return [override for override in overrides if not override.startswith("hydra.sweep.")]


def _evaluation_of(run: RunDir, name: str, *, anew: bool) -> EvaluationDir | None:
    """Return the folder of a cell's evaluation; None for a program without evaluations.

    Args:
        run: The cell's run.
        name: Name of the evaluation; empty for a program without evaluations.
        anew: Whether the run is overwritten, in which case the existing evaluation folder does not matter.
    """
    if not name:
        return None
    return EvaluationDir(run.evaluations_path / name) if anew else find_evaluation_named(run, name)


def _missing_files(run: RunDir, record: Record | None) -> str:
    """Return a note with the number of files that a finished run lacks; log their names as a warning."""
    missing = sum(not (run.path / name).is_file() for name in (record.files if record is not None else {}))
    return f", {missing} of its files missing" if missing else ""


def _check(settings: LocalLauncherConfig) -> None:
    """Raise ConfigError for invalid launcher settings."""
    wanted = {
        "max_parallel": (settings.max_parallel is None or settings.max_parallel >= 1, "an integer ≥ 1, or null"),
        "gpus_per_cell": (settings.gpus_per_cell >= 0, "an integer ≥ 0"),
        "retries": (settings.retries >= 0, "an integer ≥ 0"),
        "grace_seconds": (0 <= settings.grace_seconds < math.inf, "a number of seconds ≥ 0"),
    }
    faults = [
        Fault("out-of-range", f"must be {allowed}", key=f"hydra.launcher.{key}", got=getattr(settings, key))
        for key, (fine, allowed) in wanted.items()
        if not fine
    ]
    if faults:
        raise ConfigError(*faults)


def _folder_of(composed: DictConfig) -> Path:
    """Return the folder that Hydra assigns to a cell of a sweep."""
    with hydra_resolver_of(composed):
        return Path(str(composed.hydra.sweep.dir)) / str(composed.hydra.sweep.subdir)


def _shared_overrides(config: DictConfig) -> list[str]:
    """Return the launching command's overrides of Hydra settings that are passed on to its cells."""
    typed = as_typed(config.hydra.overrides.hydra)
    kept = [override for override in typed if not override.lstrip("+~").startswith(NOT_FOR_CELLS)]
    # The configuration may set hydra.mode=MULTIRUN; a cell must not sweep again.
    return kept if {"-m", "--multirun"} & set(sys.argv) else ["hydra.mode=RUN", *kept]


def quote_override(text: str) -> str:
    """Quote a text so that Hydra's grammar parses exactly this text.

    A quote is escaped, and so is every backslash in front of one, the closing one included.
    """
    escaped = re.sub(
        r"(\\*)('|\Z)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text.replace("${", "\\${")
    )
    return f"'{escaped}'"
