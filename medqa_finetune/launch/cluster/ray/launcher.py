"""`hydra/launcher=ray`: runs cells as tasks and shows them, or submits them as jobs and leaves."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.languages.translate import say
from medqa_finetune.launch.cell_launcher import CellLauncher, job_return
from medqa_finetune.launch.cluster.cells import WATCH_AGAIN, jobs_of, left_open, moved_aside, tell
from medqa_finetune.launch.cluster.naming import RAY, job_name, queue_folder
from medqa_finetune.launch.cluster.queue import Element, Entry, QueueSilentError, Submission, live_by_name
from medqa_finetune.launch.cluster.ray.cluster import KEY, RayCluster, check_installed, connected
from medqa_finetune.launch.cluster.ray.jobs import RayJobs, lock
from medqa_finetune.launch.cluster.ray.settings import RayLauncherConfig, check_settings
from medqa_finetune.launch.cluster.ray.tasks import RayTasks
from medqa_finetune.launch.cluster.watch import Watcher
from medqa_finetune.launch.display import LiveDisplay
from medqa_finetune.launch.scheduler import Job
from medqa_finetune.launch.task import CellTask
from medqa_finetune.launch.time_limit import refuse_time_limit
from medqa_finetune.stopping import stoppable

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell


class RayLauncher(CellLauncher):
    """Runs each cell as a task of Ray.

    With `wait`, this process is the tasks' driver: its end stops the cells, each of which writes a checkpoint first.
    Without, each cell has a job of Ray's with a driver of its own. Cells whose jobs an earlier launch has left are
    shown, not run again.
    """

    runs_here = False

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self._settings = RayLauncherConfig("", **settings)
        # A list of Hydra's own kind.
        self._settings.environment = [str(name) for name in self._settings.environment]

    @property
    def slots(self) -> int:
        """How many cells run at a time, as far as that is set."""
        return self._settings.max_parallel or 1

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context and configuration.

        Raises:
            ConfigError: a launcher setting is invalid, Ray is not installed, or the program is another one.
        """
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        check_settings(self._settings)
        if not isinstance(task_function, CellTask):
            raise ConfigError(Fault("not-supported", "runs cells of medqa_finetune alone", key=KEY, got="ray"))
        check_installed()

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
            hint = "Leave it out."
            raise ConfigError(Fault("conflict", problem, key="hydra.launcher.wait", got=False, hint=hint))

    def launch_cells(self, cells: "Sequence[Cell]") -> Sequence[JobReturn]:
        """Run or submit cells that are not done, and return one result per cell.

        Without waiting, a cell that is not done has a result of the status UNKNOWN.

        Raises:
            ConfigError: no cluster can run the cells; none has been submitted.
            Interrupted: a signal came; cells that this process ran have stopped, and jobs stay.
        """
        if not cells:
            return []
        refuse_time_limit(cells[0].config)
        jobs = jobs_of(cells)
        if all(job.exit_status is not None for job in jobs.values()) and not any(
            cell.config.overwrite for cell in cells
        ):
            tell(say("{count} cells are done", count=len(jobs)))
            return [job_return(job) for job in jobs.values()]
        folder = queue_folder(cells[0].run.path, RAY)
        with connected(self._settings, self._settings.variables()) as cluster:
            with lock(folder):
                cluster.check(folder)
                queue = self._queue(cluster, cells[0])
                live = live_by_name(self._entries(queue))
                fresh = [moved_aside(cell) if job_name(cell) not in live else cell for cell in cells]
                jobs = jobs_of(fresh)
                waiting = {name: cell for name, cell in zip(jobs, fresh, strict=True) if jobs[name].exit_status is None}
                own = {name: cell for name, cell in waiting.items() if name not in live}
                sent = Submission("", {})
                if queue is not None and own and not self._settings.wait:
                    sent = queue.submit([Element(name, cell) for name, cell in own.items()])
            known = {name: entry.id for name, entry in live.items() if name in waiting}
            self._announce(queue, sent, jobs, known)
            if not self._settings.wait:
                return [job_return(job) if job.exit_status else left_open(job) for job in jobs.values()]
            self._run(cluster, queue, jobs, own, known)
        return [job_return(job) for job in jobs.values()]

    def _queue(self, cluster: RayCluster, cell: "Cell") -> RayJobs | None:
        """Return the cluster's jobs; None where it has no dashboard, and hence no jobs."""
        if cluster.dashboard:
            return RayJobs(cluster.dashboard, self._settings, queue_folder(cell.run.path, RAY))
        if self._settings.wait:
            return None
        problem = "the cluster has no dashboard, which takes jobs"
        hint = "Start its head with ray[default] and its dashboard, or give hydra.launcher.wait=true."
        raise ConfigError(Fault("not-supported", problem, key="hydra.launcher.wait", got=False, hint=hint))

    def _entries(self, queue: RayJobs | None) -> list[Entry]:
        try:
            return [] if queue is None else queue.entries()
        except QueueSilentError as error:
            hint = "Try again when `ray job list` answers: which cells have jobs already is not known."
            raise ConfigError(
                Fault("not-answering", f"the dashboard of Ray does not answer: {error}", key=KEY, hint=hint)
            ) from None

    def _announce(
        self, queue: RayJobs | None, sent: Submission, jobs: Mapping[str, Job], known: Mapping[str, str]
    ) -> None:
        if sent.ids and queue is not None:
            said = "submitted {count} cells as jobs of Ray; logs: {folder}"
            tell(say(said, count=len(sent.ids), folder=queue.folder))
        if known:
            tell(say("{count} cells are queued or running already", count=len(known)))
        if done := sum(job.exit_status is not None for job in jobs.values()):
            tell(say("{count} cells are done", count=done))
        if queue is not None and not self._settings.wait and (ids := [*sent.ids.values(), *known.values()]):
            self._tell_what_next(queue, ids)

    @staticmethod
    def _tell_what_next(queue: RayJobs, ids: Sequence[str]) -> None:
        tell(say("cancel: {command}", command=queue.cancel_command(ids)))
        tell(say(WATCH_AGAIN))

    def _run(
        self,
        cluster: RayCluster,
        queue: RayJobs | None,
        jobs: Mapping[str, Job],
        own: "Mapping[str, Cell]",
        known: Mapping[str, str],
    ) -> None:
        """Run cells as tasks, show those that have jobs, until all have ended."""
        with stoppable() as stop, LiveDisplay(list(jobs.values())) as display, stop.deferred():
            tasks = RayTasks({name: jobs[name] for name in own}, own, cluster, self._settings, display)
            watcher = None if queue is None else Watcher({name: jobs[name] for name in known}, queue, known, display)
            with self._leaving(queue, jobs, known), contextlib.ExitStack() as stack:
                stack.callback(tasks.stop)
                while any(job.exit_status is None for job in jobs.values()) and stop.number is None:
                    tasks.start_due()
                    tasks.collect()
                    if watcher is not None:
                        watcher.look_when_due()
                    display.show()

    @contextlib.contextmanager
    def _leaving(self, queue: RayJobs | None, jobs: Mapping[str, Job], known: Mapping[str, str]) -> Iterator[None]:
        """Say what stays in the cluster if the block is interrupted."""
        try:
            yield
        finally:
            ids = [known[name] for name in known if jobs[name].exit_status is None]
            if queue is not None and ids:
                tell(say("{count} cells stay in the queue", count=len(ids)))
                self._tell_what_next(queue, ids)
