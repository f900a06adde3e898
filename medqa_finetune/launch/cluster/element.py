"""What an array's element does on its node: runs one cell's command line, and puts the cell back if it was cut short.

SLURM starts it as the batch process, and srun starts the cell as a step, to which SLURM's signals go: the warning
before the time limit (SIGUSR2), the same or SIGTERM when the job is preempted, and SIGTERM when it is cancelled. The
cell then writes a checkpoint and ends. For SLURM, a job that ends by itself is done, and so it is put back here.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from medqa_finetune.errors import EXIT_DONE, EXIT_RUN_FAILED
from medqa_finetune.launch.cluster.start import Start, count_start, give_up, run_cell
from medqa_finetune.launch.exit_status import ExitStatus
from medqa_finetune.stopping import EXIT_OFFSET

# Signals that the cell handles, and this process survives.
PASSED_BY = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2)
WARNED = (EXIT_OFFSET + signal.SIGUSR2, -signal.SIGUSR2)
# Time in which SLURM ends a job that it has been asked to put back.
REQUEUE_SECONDS = 60.0


def main(arguments: Sequence[str]) -> int:
    """Run the cell that the batch script names, and return its exit code."""
    for number in PASSED_BY:
        # Not ignored: the cell would inherit that.
        signal.signal(number, lambda *_: None)
    start, cores = read_arguments(arguments)
    cell = start.cell()
    is_further = int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    stalled = count_start(start, cell, os.environ.get("SLURM_JOB_ID", ""), is_further=is_further)
    if stalled >= start.stalled_starts:
        give_up(start, cell, stalled)
        return EXIT_RUN_FAILED

    def run(command: Sequence[str], variables: Mapping[str, str], log: IO[bytes]) -> int:
        return subprocess.run(
            [*_srun(cores), *command], env={**os.environ, **variables}, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, check=False,
        ).returncode  # fmt: skip

    status, code = run_cell(start, cell, run)
    if cause := _cause_to_requeue(status, code):
        start.say(f"{cause}; the cell is put back into the queue, and resumes from its checkpoint")
        if _requeue(start):
            return code
        start.say("SLURM did not put it back; the same command submits it again")
    return EXIT_DONE if status.state == "done" else code or EXIT_RUN_FAILED


def read_arguments(arguments: Sequence[str]) -> tuple[Start, int | None]:
    """Return what the batch script gives, `key=value …  -- COMMAND`, and the cores of a cell, where they are set."""
    end = list(arguments).index("--")
    given = dict(each.split("=", 1) for each in arguments[:end])
    start = Start(
        "slurm",
        Path(given["folder"]),
        given["name"],
        arguments[end + 1 :],
        retries=int(given["retries"]),
        stalled_starts=int(given["stalled_starts"]),
        processes=int(given.get("processes", 1)),
    )
    return start, int(given["cores"]) if "cores" in given else None


def _srun(cores: int | None) -> list[str]:
    # From SLURM 22.05 on, a step does not take the cores of its job by itself.
    return ["srun", "--ntasks=1", "--unbuffered", *([] if cores is None else [f"--cpus-per-task={cores}"])]


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


def _requeue(start: Start) -> bool:
    """Ask SLURM to put this job back; return False if it is still running some time later."""
    asked = _scontrol("requeue", os.environ["SLURM_JOB_ID"])
    if asked.returncode:
        start.say(" ".join(asked.stderr.split()))
        return False
    # SLURM ends this process.
    time.sleep(REQUEUE_SECONDS)
    return False


def _scontrol(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, errors="replace", check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
