"""Cells as jobs of Ray, which outlive the launcher: one for each, whose driver runs the cell as a task."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.launch.cluster.naming import RAY, queue_folder
from medqa_finetune.launch.cluster.queue import (
    ClusterQueue,
    Element,
    End,
    Entry,
    QueueSilentError,
    State,
    Submission,
    digests_of,
)
from medqa_finetune.launch.cluster.ray.settings import AUTO, RayLauncherConfig
from medqa_finetune.launch.planned import as_text
from medqa_finetune.record.files import write_text

KEY = "hydra/launcher"
DRIVER = "medqa_finetune.launch.cluster.ray.driver"
# In the metadata of a job: the folder of its cell's description and logs.
FOLDER = "medqa_folder"
# Ray gives a driver 3 seconds to stop, where this is not set for the job.
STOP_VARIABLE = "RAY_JOB_STOP_WAIT_TIME_S"
# More than a cell's grace, for the driver's own end.
MORE_SECONDS = 60
MOST_WORDS = 300
ENDED = {"SUCCEEDED": End.BY_ITSELF, "FAILED": End.BY_ITSELF, "STOPPED": End.CANCELLED}


class RayJobs(ClusterQueue):
    """The jobs of a cluster.

    Args:
        dashboard: Address of the cluster's dashboard, `http://HOST:PORT`.
        settings: Settings of the launcher.
        folder: Folder of descriptions and logs.
    """

    def __init__(self, dashboard: str, settings: RayLauncherConfig, folder: Path) -> None:
        self._dashboard = dashboard
        self._settings = settings
        self.folder = folder

    def entries(self) -> list[Entry]:
        """Return the jobs of cells, as `ClusterQueue` has it."""
        return list(entries(self._dashboard))

    def submit(self, elements: Sequence[Element]) -> Submission:
        """Submit a job for each cell, named after it, as `ClusterQueue` has it."""
        ids: dict[str, str] = {}
        # For `summarize`.
        write_text(dashboard_path(self.folder), self._dashboard + "\n")
        try:
            client = client_at(self._dashboard)
            ended = {each.id for each in self.entries() if each.state is State.ENDED}
            for element in elements:
                if element.name in ended:
                    client.delete_job(element.name)
                self._submit(client, element)
                ids[element.name] = element.name
        except Exception as error:
            for name in ids:
                client.stop_job(name)
            if not isinstance(error, QueueSilentError | RuntimeError | OSError):
                raise
            problem = f"Ray refuses the cells: {_words_of(error)}"
            raise ConfigError(Fault("cluster-refused", problem, key=KEY, got="ray")) from None
        return Submission("", ids)

    def _submit(self, client: Any, element: Element) -> None:
        folder = queue_folder(element.run.path, RAY)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{element.name}.json", as_text(element.cell))
        write_place(folder, element.name, State.QUEUED)
        # The driver runs on a node of the cluster, whose own address it takes.
        settings = dataclasses.replace(self._settings, address=AUTO, wait=True, environment=[])
        given = {"folder": folder, "name": element.name, "settings": json.dumps(dataclasses.asdict(settings))}
        arguments = [f"{key}={value}" for key, value in given.items()]
        variables = self._settings.variables()
        client.submit_job(
            entrypoint=f"cd {shlex.quote(str(Path.cwd()))} && exec "
            + shlex.join([sys.executable, "-m", DRIVER, *arguments]),
            submission_id=element.name,
            metadata={FOLDER: str(folder)},
            runtime_env={
                "env_vars": {**variables, STOP_VARIABLE: str(self._settings.grace_seconds + MORE_SECONDS)},
            },
        )

    def end_of(self, identifier: str) -> End:
        """Return UNKNOWN: Ray keeps jobs as long as the cluster runs, or they are deleted."""
        return End.UNKNOWN

    def log_path(self, name: str, run: Path) -> Path:
        """Return the file with what a cell printed, in its study's folder."""
        return queue_folder(run, RAY) / f"{name}.log"

    def cancel_command(self, ids: Sequence[str]) -> str:
        """Return the command that stops these jobs; each cell writes a checkpoint first."""
        if len(ids) == 1:
            return f"ray job stop --address {self._dashboard} {ids[0]}"
        return f"for job in {' '.join(ids)}; do ray job stop --no-wait --address {self._dashboard} $job; done"


def client_at(dashboard: str) -> Any:
    """Return a client of a cluster's jobs.

    Raises:
        QueueSilentError: the dashboard does not answer, or Ray is not installed.
    """
    try:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(dashboard)
    except (ImportError, ConnectionError, RuntimeError, OSError) as error:
        raise QueueSilentError(_words_of(error)) from None


def entries(dashboard: str) -> Iterator[Entry]:
    """Yield the jobs of cells; those that have ended as long as the cluster runs.

    Raises:
        QueueSilentError: the dashboard does not answer, or Ray is not installed.
    """
    try:
        found = client_at(dashboard).list_jobs()
    except (ConnectionError, RuntimeError, OSError) as error:
        raise QueueSilentError(_words_of(error)) from None
    for job in found:
        if not job.submission_id or FOLDER not in (job.metadata or {}):
            continue
        end = ENDED.get(str(getattr(job.status, "value", job.status)))
        state = State.ENDED if end is not None else read_place(Path(job.metadata[FOLDER]), job.submission_id)
        yield Entry(job.submission_id, job.submission_id, state, end=end)


def live_digests(folders: Iterable[Path]) -> dict[str, str]:
    """Return the states of jobs that are queued or running, by the digests in their names.

    Args:
        folders: Folders of studies, from whose cells jobs may have been made.

    Raises:
        QueueSilentError: a dashboard does not answer, or Ray is not installed.
    """
    paths = filter(Path.is_file, map(dashboard_path, folders))
    dashboards = {path.read_text(encoding="utf-8").strip() for path in paths}
    return {digest: state for each in dashboards for digest, state in digests_of(entries(each)).items()}


def dashboard_path(folder: Path) -> Path:
    """Return the file with the address of the dashboard at which cells of a folder were submitted."""
    return folder / "dashboard"


def lock(folder: Path) -> FileLock:
    """Return the lock that a launcher holds from looking into the queue until its cells are in it."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".submit.lock")


def write_place(folder: Path, name: str, state: State) -> None:
    """Write whether the cell of a job waits for a node or runs, which Ray does not know: its driver runs always."""
    write_text(folder / f"{name}.place", state.value + "\n")


def read_place(folder: Path, name: str) -> State:
    """Return whether the cell of a job waits or runs."""
    try:
        return State((folder / f"{name}.place").read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        return State.QUEUED


def _words_of(error: Exception) -> str:
    return " ".join(str(error).split())[:MOST_WORDS]
