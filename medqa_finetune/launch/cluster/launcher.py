"""`hydra/launcher=slurm`: submits cells that are neither done nor queued as one array, and shows them or leaves."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.languages.translate import say
from medqa_finetune.launch.cell_launcher import CellLauncher, job_return
from medqa_finetune.launch.cluster.cells import WATCH_AGAIN, jobs_of, left_open, moved_aside, tell
from medqa_finetune.launch.cluster.naming import SLURM, job_name, queue_folder
from medqa_finetune.launch.cluster.queue import Element, Entry, QueueSilentError, Submission, live_by_name
from medqa_finetune.launch.cluster.settings import SlurmLauncherConfig, check_settings
from medqa_finetune.launch.cluster.slurm import KEY, SlurmQueue, check_commands
from medqa_finetune.launch.cluster.watch import watch
from medqa_finetune.launch.order import longest_first
from medqa_finetune.launch.scheduler import Job
from medqa_finetune.launch.task import CellTask
from medqa_finetune.launch.time_limit import refuse_time_limit
from medqa_finetune.stopping import Interrupted

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell


class SlurmLauncher(CellLauncher):
    """Runs each cell as an element of a SLURM array.

    Cells that an earlier launch submitted, and that are still queued or running, are shown, not submitted again. Any
    end of this launcher leaves the jobs in the queue.
    """

    runs_here = False

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self._settings = SlurmLauncherConfig("", **settings)
        # Lists of Hydra's own kind.
        self._settings.setup = [str(line) for line in self._settings.setup]
        self._settings.options = [str(option) for option in self._settings.options]

    @property
    def slots(self) -> int:
        """How many cells run at a time, as far as that is set."""
        return self._settings.max_parallel or 1

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context and configuration.

        Raises:
            ConfigError: a launcher setting is invalid, SLURM is not installed here, or the program is another one.
        """
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        check_settings(self._settings)
        if not isinstance(task_function, CellTask):
            raise ConfigError(Fault("not-supported", "runs cells of medqa_finetune alone", key=KEY, got="slurm"))
        check_commands()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the trials of a sweeper of another package, as `CellLauncher` has it.

        Raises:
            ConfigError: the launcher does not wait, and a sweeper needs results.
        """
        self.check_waits()
        return self._launch_trials(job_overrides)

    def check_waits(self) -> None:
        """Check that this launcher waits, as `CellLauncher` has it."""
        if not self._settings.wait:
            problem = "a sweeper that proposes trials waits for their results"
            hint = "Leave it out; Ctrl-C leaves the jobs in the queue."
            raise ConfigError(Fault("conflict", problem, key="hydra.launcher.wait", got=False, hint=hint))

    def launch_cells(self, cells: "Sequence[Cell]") -> Sequence[JobReturn]:
        """Submit cells that are neither done nor queued, and return one result per cell.

        Without waiting, a cell that is not done has a result of the status UNKNOWN.

        Raises:
            ConfigError: SLURM refuses the cells; none has been submitted.
            Interrupted: a signal came; the jobs stay in the queue.
        """
        if not cells:
            return []
        refuse_time_limit(cells[0].config)
        queue = SlurmQueue(self._settings, queue_folder(cells[0].run.path, SLURM))
        with queue.lock():
            found = _entries(queue)
            if left := queue.remove_unnamed(found):
                tell(say("cancelled {jobs}, left by a launch that was killed while it submitted", jobs=" ".join(left)))
            live = live_by_name(found)
            queue.check()
            fresh = [moved_aside(cell) if job_name(cell) not in live else cell for cell in cells]
            jobs = jobs_of(fresh)
            waiting = {name: cell for name, cell in zip(jobs, fresh, strict=True) if jobs[name].exit_status is None}
            asked = [Element(name, cell) for name, cell in waiting.items() if name not in live]
            # An array starts in its order.
            asked = [asked[place] for place in longest_first([each.cell for each in asked])]
            sent = queue.submit(_after_training(asked, live, waiting)) if asked else Submission("", {})
        ids = {name: sent.ids.get(name) or live[name].id for name in waiting}
        self._announce(queue, sent, jobs, ids)
        if not self._settings.wait:
            return [job_return(job) if job.exit_status else left_open(job) for job in jobs.values()]
        try:
            watch(jobs, queue, ids)
        except Interrupted:
            open_ids = [ids[name] for name, job in jobs.items() if job.exit_status is None]
            if open_ids:
                tell(say("{count} cells stay in the queue", count=len(open_ids)))
                self._tell_what_next(queue, sent, open_ids)
            raise
        return [job_return(job) for job in jobs.values()]

    def _announce(self, queue: SlurmQueue, sent: Submission, jobs: dict[str, Job], ids: dict[str, str]) -> None:
        known = len(ids) - len(sent.ids)
        if sent.ids:
            said = "submitted {count} cells as SLURM job {id}; logs: {folder}"
            tell(say(said, count=len(sent.ids), id=sent.id, folder=queue.folder))
        if known:
            tell(say("{count} cells are queued or running already", count=known))
        if done := len(jobs) - len(ids):
            tell(say("{count} cells are done", count=done))
        if ids and not self._settings.wait:
            self._tell_what_next(queue, sent, list(ids.values()))

    @staticmethod
    def _tell_what_next(queue: SlurmQueue, sent: Submission, ids: Sequence[str]) -> None:
        # An array is cancelled whole by its own number.
        arrays = [sent.id] if set(ids) == set(sent.ids.values()) else list(ids)
        tell(say("cancel: {command}", command=queue.cancel_command(arrays)))
        tell(say(WATCH_AGAIN))


def _entries(queue: SlurmQueue) -> list[Entry]:
    try:
        return queue.entries()
    except QueueSilentError as error:
        hint = "Try again when squeue answers: what is queued already is not known."
        raise ConfigError(Fault("not-answering", f"SLURM does not answer: {error}", key=KEY, hint=hint)) from None


def _after_training(
    elements: Sequence[Element], live: Mapping[str, Entry], waiting: "Mapping[str, Cell]"
) -> list[Element]:
    """Return elements of which those that evaluate a run start after the one that trains it."""
    # The first cell of a run that is queued already, or else the first that is submitted, trains it.
    trains: dict[str, str] = {}
    for name, cell in waiting.items():
        if name in live:
            trains.setdefault(str(cell.run.path), live[name].id)
    placed = []
    for element in elements:
        record = element.run.run.read()
        trainer = trains.setdefault(str(element.run.path), element.name)
        waits = trainer != element.name and (record is None or not record.is_trained)
        placed.append(dataclasses.replace(element, after=trainer if waits else None))
    return placed
