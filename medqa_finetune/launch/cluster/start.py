"""One start of a cell on a node of a cluster: counts it, runs the cell's command line, and says how it ended."""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medqa_finetune.child_process import FAULTS_VARIABLE, last_lines, read_faults
from medqa_finetune.errors import Fault
from medqa_finetune.languages.choice import VARIABLE as LANGUAGE_VARIABLE
from medqa_finetune.launch.exit_status import (
    Attempt,
    ExitStatus,
    classify_exit,
    classify_loss,
    read_or_none,
    summarize_record,
)
from medqa_finetune.launch.planned import PLANNED_VARIABLE
from medqa_finetune.launch.stage import read_progress
from medqa_finetune.ranks import STARTED_VARIABLE
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.files import write_text

# Runs the cell's command line with variables added to those of this process, its output appended to a file, and returns
# its exit code.
Runner = Callable[[Sequence[str], Mapping[str, str], IO[bytes]], int]


@dataclass(frozen=True)
class Start:
    """What a node is given to run.

    Attributes:
        queue: Name of the cluster's queue, for the log.
        folder: Folder of logs and descriptions.
        name: Name of the job, and of its files there.
        command: Command line of the cell.
        retries: How often a crashed cell is restarted.
        stalled_starts: Starts in a row without progress after which a cell is not run again.
        processes: Processes that train it.
    """

    queue: str
    folder: Path
    name: str
    command: Sequence[str]
    retries: int
    stalled_starts: int
    processes: int = 1

    @property
    def description(self) -> Path:
        """File with the cell, as JSON."""
        return self.folder / f"{self.name}.json"

    @property
    def log_path(self) -> Path:
        """File with what the cell prints."""
        return self.folder / f"{self.name}.log"

    @property
    def starts_path(self) -> Path:
        """File with the starts so far of the cell's job; written when a start begins."""
        return starts_path(self.folder, self.name)

    def say(self, text: str) -> None:
        """Write a line into the log, which is the standard output."""
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {self.queue}: {text}", flush=True)

    def cell(self) -> CellDir:
        """Return the folders of the cell."""
        from pydantic import TypeAdapter

        from medqa_finetune.cell import Cell

        return TypeAdapter(Cell).validate_python(json.loads(self.description.read_bytes())).folder


def starts_path(folder: Path, name: str) -> Path:
    """Return the file with the starts of a job."""
    return folder / f"{name}.starts.json"


def count_start(start: Start, cell: CellDir, job: str, *, is_further: bool) -> int:
    """Count this start, and return how many starts of its job before it in a row made no progress.

    All causes of a further start count alike: time limit, preemption, a lost node.

    Args:
        start: The start.
        cell: Folders of the cell.
        job: Its job; another one counts from the beginning.
        is_further: Whether the job was started before.
    """
    before: Mapping[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        before = json.loads(start.starts_path.read_bytes())
    progress = progress_of(cell)
    is_same_job = before.get("job") == job and is_further
    stalled = before["stalled"] + 1 if is_same_job and before.get("progress") == progress else 0
    starts = before["starts"] + 1 if is_same_job else 1
    fields = {"job": job, "starts": starts, "stalled": stalled, "progress": progress}
    write_text(start.starts_path, json.dumps(fields) + "\n")
    start.say(f"start {starts} of job {job} on {os.uname().nodename}")
    return stalled


def progress_of(cell: CellDir) -> list[Any]:
    """Return what would be resumed: the run's status, steps in its newest checkpoint, questions answered."""
    from medqa_finetune.training.checkpoints import Checkpoints

    record, rows = read_or_none(cell), read_progress(cell)
    steps = [] if record is None else Checkpoints(cell.run.checkpoints_path, record.identity).steps()
    trained = record is not None and record.is_trained
    return [trained, max(steps, default=0), rows.answering.get("answered", 0)]


def give_up(start: Start, cell: CellDir, stalled: int) -> ExitStatus:
    """Record that a cell is not started again, and return that."""
    problem = f"{stalled} starts in a row made no progress: each was cut short before it had written a checkpoint"
    hint = "Give a longer hydra.launcher.time, or a smaller train.checkpoint_steps."
    status = classify_loss(cell, "failed", Fault("no-progress", problem, hint=hint))
    start.say(status.reason)
    return status


def run_cell(
    start: Start, cell: CellDir, run: Runner, *, is_stopping: Callable[[], bool] = lambda: False
) -> tuple[ExitStatus, int]:
    """Run a cell, and once more after each crash, as often as is set; return how it ended, and its exit code.

    Args:
        start: The start.
        cell: Folders of the cell.
        run: Runs its command line.
        is_stopping: Whether the cell has been asked to stop.
    """
    for attempt in range(start.retries + 1):
        status, code = _attempt(start, cell, run, is_stopping)
        if status.state == "done":
            start.say(summarize_record(read_or_none(cell)))
        else:
            start.say(f"{status.state}: {status.reason}")
        if not status.may_retry or attempt == start.retries:
            break
        start.say(f"trying again ({attempt + 1} of {start.retries})")
    return status, code


def _attempt(start: Start, cell: CellDir, run: Runner, is_stopping: Callable[[], bool]) -> tuple[ExitStatus, int]:
    before = read_or_none(cell)
    with tempfile.TemporaryDirectory(prefix="medqa-") as folder, start.log_path.open("ab+") as log:
        faults = Path(folder) / "faults.json"
        variables = {
            PLANNED_VARIABLE: str(start.description),
            FAULTS_VARIABLE: str(faults),
            # Its output may become part of its record.
            LANGUAGE_VARIABLE: "en",
            "PYTHONFAULTHANDLER": "1",
            **({STARTED_VARIABLE: str(start.processes)} if start.processes > 1 else {}),
        }
        begin = log.seek(0, os.SEEK_END)
        code = run(start.command, variables, log)
        # Whoever has written the record since counts as the cell: its process may be on another machine.
        attempt = Attempt(cell, before, None)
        status = classify_exit(attempt, code, last_lines(log, begin), read_faults(faults), stopping=is_stopping())
        return status, code
