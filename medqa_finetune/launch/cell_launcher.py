"""What launchers of this program's cells share: they compose nothing twice, and run trials of any sweeper."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from medqa_finetune.errors import ConfigError, Fault, RunError
from medqa_finetune.launch.exit_status import ExitStatus, read_or_none
from medqa_finetune.launch.scheduler import Job
from medqa_finetune.launch.task import CellTask, value_of_trial
from medqa_finetune.launch.trials import launch_trials
from medqa_finetune.log import visible
from medqa_finetune.ranks import OF_A_CELL, refuse_several
from medqa_finetune.record.evaluations import CellDir

if TYPE_CHECKING:
    # The launcher also serves Hydra programs other than this one.
    from medqa_finetune.cell import Cell

PLUGIN_MODULE = "hydra_plugins.medqa_finetune_matrix"
SHOWN_LINES = 5
PLANNED = "Give hydra/sweeper=matrix and the values to plan, or plan one cell without -m."
# Fault codes of runs that are not done, by exit state.
CODES = {"failed": "run-failed", "interrupted": "run-interrupted", "taken": "run-taken"}


class CellLauncher(Launcher):
    """A launcher of checked cells.

    Attributes:
        runs_here: Whether cells run on this machine, which is checked before then.
    """

    runs_here = True

    def __init__(self) -> None:
        self._context: HydraContext | None = None
        self._config: DictConfig | None = None
        self._makes_cells = False

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many cells run at a time."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context and configuration.

        Raises:
            ConfigError: cells are planned whose sweeper proposes them one by one, or torchrun started this launcher.
        """
        self._context = hydra_context
        self._config = config
        self._makes_cells = isinstance(task_function, CellTask)
        if isinstance(task_function, CellTask) and task_function.plans:
            problem = "proposes cells while they run, and cannot be planned"
            name = OmegaConf.select(config.hydra.runtime, "choices.hydra/sweeper")
            raise ConfigError(Fault("not-supported", problem, key="hydra/sweeper", got=name, hint=PLANNED))
        refuse_several(OF_A_CELL)

    def check_waits(self) -> None:
        """Check that launching ends when every cell has ended, as a sweeper needs it that reads results.

        Raises:
            ConfigError: it does not.
        """

    @abstractmethod
    def launch_cells(self, cells: "Sequence[Cell]") -> Sequence[JobReturn]:
        """Run cells that have been composed and checked, and return one result each, in order."""

    def _launch_trials(self, job_overrides: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        """Compose, check and run the cells of a sweeper of another package."""
        setup_globals()
        assert self._config is not None, "setup() comes first"  # noqa: S101
        asked = [tuple(each) for each in job_overrides]
        return launch_trials(self.launch_cells, self._load, self._config, asked, here=self.runs_here)

    def _load(self, overrides: tuple[str, ...]) -> DictConfig:
        assert self._context is not None, "setup() comes first"  # noqa: S101
        assert self._config is not None, "setup() comes first"  # noqa: S101
        return self._context.config_loader.load_sweep_config(self._config, list(overrides))


def job_return(job: Job) -> JobReturn:
    """Return the result of a job as Hydra has it, with the lowest validation loss or the reason why it is not done."""
    done = job.exit_status is not None and job.exit_status.state == "done"
    result = JobReturn(
        overrides=filter_overrides(job.overrides),
        working_dir=str(job.run.path),
        task_name=job.run.path.name,
        status=JobStatus.COMPLETED if done else JobStatus.FAILED,
    )
    if done or job.exit_status is None:
        result.return_value = value_of_trial(read_or_none(job.run))
    else:
        result.return_value = RunError(_fault_of(job.exit_status, job.run))
    return result


def _fault_of(status: ExitStatus, run: CellDir) -> Fault:
    """Return a fault with the reason why a run is not done, its log, and last output lines that add to the reason."""
    log = f" (log: {run.log_path})" if run.log_path.is_file() else ""
    lines = [line for line in status.lines if status.reason not in line and line.strip() not in status.reason]
    said = [f"{status.state}: {status.reason}{log}", *lines[-SHOWN_LINES:]]
    return Fault(CODES[status.state], "\n    ".join(map(visible, said)))
