"""The driver of a job of Ray: runs one cell as a task until it has ended, whatever becomes of its nodes.

`ray job stop` sends it SIGTERM; the cell writes a checkpoint then. What it prints is shown by `ray job logs`.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from medqa_finetune.errors import EXIT_DONE, EXIT_RUN_FAILED
from medqa_finetune.launch.cluster.queue import State
from medqa_finetune.launch.cluster.ray.cluster import connected
from medqa_finetune.launch.cluster.ray.jobs import write_place
from medqa_finetune.launch.cluster.ray.settings import RayLauncherConfig
from medqa_finetune.launch.cluster.ray.tasks import RayTasks
from medqa_finetune.launch.scheduler import Job, job_of
from medqa_finetune.stopping import stoppable


class Lines:
    """The display of a driver: lines, and whether the cell runs, for launchers that look."""

    def __init__(self, folder: Path, name: str, job: Job) -> None:
        self._folder = folder
        self._name = name
        self._job = job
        self._shown: State | None = None

    def show(self) -> None:
        """Write whether the cell waits or runs, if that has changed."""
        place = self._job.elsewhere
        state = State.RUNNING if place is not None and place.is_running else State.QUEUED
        if state is not self._shown:
            write_place(self._folder, self._name, state)
            self._shown = state

    def print_line(self, text: str) -> None:
        """Print a line with its time."""
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run the cell that the arguments name, and return the exit code."""
    from pydantic import TypeAdapter

    from medqa_finetune.cell import Cell

    given = dict(each.split("=", 1) for each in arguments)
    folder, name = Path(given["folder"]), given["name"]
    settings = RayLauncherConfig(**json.loads(given["settings"]))
    cell = TypeAdapter(Cell).validate_python(json.loads((folder / f"{name}.json").read_bytes()))
    job = job_of(cell, name, cell.overrides)
    job.label = name
    lines = Lines(folder, name, job)
    with connected(settings, {}) as cluster, stoppable() as stop, stop.deferred():
        tasks = RayTasks({name: job}, {name: cell}, cluster, settings, lines)
        try:
            while tasks.has_open_jobs() and stop.number is None:
                tasks.start_due()
                tasks.collect()
                lines.show()
        finally:
            tasks.stop()
    status = job.exit_status
    if status is None:
        return EXIT_RUN_FAILED
    lines.print_line(job.note or f"{status.state}: {status.reason}")
    return EXIT_DONE if status.state == "done" else EXIT_RUN_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
