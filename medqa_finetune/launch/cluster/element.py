"""What an array's element does on its node: runs one cell's command line, and puts the cell back if it was cut short.

SLURM starts it as the batch process, and srun starts the cell as a step, to which SLURM's signals go: the warning
before the time limit (SIGUSR2), the same or SIGTERM when the job is preempted, and SIGTERM when it is cancelled. The
cell then writes a checkpoint and ends. For SLURM, a job that ends by itself is done, and so it is put back here.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_finetune.child_process import FAULTS_VARIABLE, last_lines, read_faults
from medqa_finetune.errors import EXIT_DONE, EXIT_RUN_FAILED, Fault
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
from medqa_finetune.stopping import EXIT_OFFSET

# Signals that the cell handles, and this process survives.
PASSED_BY = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2)
WARNED = (EXIT_OFFSET + signal.SIGUSR2, -signal.SIGUSR2)
# Time in which SLURM ends a job that it has been asked to put back.
REQUEUE_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """What the batch script gives.

    Attributes:
        folder: Folder of logs and descriptions.
        name: Name of the job, and of its files there.
        command: Command line of the cell.
        retries: How often a crashed cell is restarted.
        stalled_starts: Starts in a row without progress after which a cell is not run again.
        cores: CPU cores of the cell; None where SLURM's default was taken.
        processes: Processes that train it.
    """

    folder: Path
    name: str
    command: Sequence[str]
    retries: int
    stalled_starts: int
    cores: int | None = None
    processes: int = 1


def main(arguments: Sequence[str]) -> int:
    """Run the cell that the batch script names, and return its exit code."""
    for number in PASSED_BY:
        # Not ignored: the cell would inherit that.
        signal.signal(number, lambda *_: None)
    options = read_options(arguments)
    cell = _cell_of(options)
    stalled = count_start(options, cell)
    if stalled >= options.stalled_starts:
        return _give_up(cell, stalled)
    status, code = _run_cell(options, cell)
    if cause := _cause_to_requeue(status, code):
        _say(f"{cause}; the cell is put back into the queue, and resumes from its checkpoint")
        if _requeue():
            return code
        _say("SLURM did not put it back; the same command submits it again")
    return EXIT_DONE if status.state == "done" else code or EXIT_RUN_FAILED


def read_options(arguments: Sequence[str]) -> Options:
    """Return what the batch script gives: `key=value …  -- COMMAND`."""
    end = list(arguments).index("--")
    given = dict(each.split("=", 1) for each in arguments[:end])
    cores = int(given["cores"]) if "cores" in given else None
    numbers = {key: int(given[key]) for key in ("retries", "stalled_starts")}
    processes = int(given.get("processes", 1))
    command = arguments[end + 1 :]
    return Options(Path(given["folder"]), given["name"], command, cores=cores, processes=processes, **numbers)


def _cell_of(options: Options) -> CellDir:
    from pydantic import TypeAdapter

    from medqa_finetune.cell import Cell

    return TypeAdapter(Cell).validate_python(json.loads(_description(options).read_bytes())).folder


def _description(options: Options) -> Path:
    return options.folder / f"{options.name}.json"


def count_start(options: Options, cell: CellDir) -> int:
    """Count this start, and return how many starts of this job before it in a row made no progress.

    All causes of a further start count alike, those by SLURM too: time limit, preemption, a lost node.
    """
    path = options.folder / f"{options.name}.starts.json"
    job = os.environ.get("SLURM_JOB_ID", "")
    before: Mapping[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        before = json.loads(path.read_bytes())
    progress = progress_of(cell)
    is_same_job = before.get("job") == job and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    stalled = before["stalled"] + 1 if is_same_job and before.get("progress") == progress else 0
    starts = before["starts"] + 1 if is_same_job else 1
    fields = {"job": job, "starts": starts, "stalled": stalled, "progress": progress}
    write_text(path, json.dumps(fields) + "\n")
    _say(f"start {starts} of job {job} on {os.uname().nodename}")
    return stalled


def progress_of(cell: CellDir) -> list[Any]:
    """Return what would be resumed: the run's status, steps in its newest checkpoint, questions answered."""
    from medqa_finetune.training.checkpoints import Checkpoints

    record, rows = read_or_none(cell), read_progress(cell)
    steps = [] if record is None else Checkpoints(cell.run.checkpoints_path, record.identity).steps()
    trained = record is not None and record.is_trained
    return [trained, max(steps, default=0), rows.answering.get("answered", 0)]


def _give_up(cell: CellDir, stalled: int) -> int:
    problem = f"{stalled} starts in a row made no progress: each was cut short before it had written a checkpoint"
    hint = "Give a longer hydra.launcher.time, or a smaller train.checkpoint_steps."
    status = classify_loss(cell, "failed", Fault("no-progress", problem, hint=hint))
    _say(status.reason)
    return EXIT_RUN_FAILED


def _run_cell(options: Options, cell: CellDir) -> tuple[ExitStatus, int]:
    """Run the cell, and once more after each crash, as often as is set; return how it ended, and its exit code."""
    for attempt in range(options.retries + 1):
        status, code = _attempt(options, cell)
        if status.state == "done":
            _say(summarize_record(read_or_none(cell)))
        else:
            _say(f"{status.state}: {status.reason}")
        if not status.may_retry or attempt == options.retries:
            break
        _say(f"trying again ({attempt + 1} of {options.retries})")
    return status, code


def _attempt(options: Options, cell: CellDir) -> tuple[ExitStatus, int]:
    before = read_or_none(cell)
    with tempfile.TemporaryDirectory(prefix="medqa-") as folder, _log_of(options).open("ab+") as log:
        faults = Path(folder) / "faults.json"
        variables = {
            PLANNED_VARIABLE: str(_description(options)),
            FAULTS_VARIABLE: str(faults),
            # Its output may become part of its record.
            LANGUAGE_VARIABLE: "en",
            "PYTHONFAULTHANDLER": "1",
            **({STARTED_VARIABLE: str(options.processes)} if options.processes > 1 else {}),
        }
        begin = log.seek(0, os.SEEK_END)
        done = subprocess.run(
            [*_srun(options), *options.command], env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, check=False,
        )  # fmt: skip
        code = done.returncode
        # Whoever has written the record since counts as the cell: srun knows its process, this one does not.
        attempt = Attempt(cell, before, None)
        return classify_exit(attempt, code, last_lines(log, begin), read_faults(faults), stopping=False), code


def _srun(options: Options) -> list[str]:
    # From SLURM 22.05 on, a step does not take the cores of its job by itself.
    cores = [] if options.cores is None else [f"--cpus-per-task={options.cores}"]
    return ["srun", "--ntasks=1", "--unbuffered", *cores]


def _log_of(options: Options) -> Path:
    return options.folder / f"{options.name}.log"


def _cause_to_requeue(status: ExitStatus, code: int) -> str:
    """Return why a cell that is not done is put back into the queue; empty where it is not, as after scancel."""
    if status.state not in ("interrupted", "taken"):
        return ""
    job = _this_job()
    if job.get("JobState") != "RUNNING":
        return ""
    if status.state == "taken":
        return "another process works on this run"
    if job.get("PreemptTime", "None") not in ("None", "N/A", ""):
        return "the job is preempted"
    return "the job was warned by SIGUSR2 (its time limit is near, or scancel --signal=USR2)" if code in WARNED else ""


def _this_job() -> dict[str, str]:
    shown = _scontrol("show", "--oneliner", "job", os.environ["SLURM_JOB_ID"])
    return dict(each.split("=", 1) for each in shown.stdout.split() if "=" in each)


def _requeue() -> bool:
    """Ask SLURM to put this job back; return False if it is still running some time later."""
    asked = _scontrol("requeue", os.environ["SLURM_JOB_ID"])
    if asked.returncode:
        _say(" ".join(asked.stderr.split()))
        return False
    # SLURM ends this process.
    time.sleep(REQUEUE_SECONDS)
    return False


def _scontrol(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, errors="replace", check=False)


def _say(text: str) -> None:
    """Write a line into the element's log, which is its standard output."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  slurm: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
