"""What is done to a cell on SLURM."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from scripts.clusters.stage import LEAVES, LIMIT_SECONDS, WAITS, Case, Stage, until_training, wait_until

# The whole node, so that a job in the partition that preempts needs the cell's place. Its GPUs are only claimed.
CORES = os.cpu_count() or 1


class SlurmStage(Stage):
    """A SLURM of one node."""

    queue: ClassVar[str] = "slurm"
    options: ClassVar[tuple[str, ...]] = (
        "hydra/launcher=slurm", f"hydra.launcher.cpus_per_cell={CORES}", "hydra.launcher.partition=low",
        "hydra.launcher.gpus_per_cell=0", "hydra.launcher.time=60",
    )  # fmt: skip

    def job(self) -> tuple[str, str]:
        """Return id and state of the newest job; two empty texts without any."""
        shown = self.ask("squeue", "--me", "--noheader", "--array", "--format=%A %T").split("\n")
        return max((tuple(line.split()) for line in shown if line), key=lambda row: int(row[0]), default=("", ""))  # type: ignore[return-value]

    def until_waiting(self, job: str) -> None:
        """Wait until a job is back in the queue, and spare it the two minutes for which SLURM then holds it."""
        wait_until(lambda: self.ask("squeue", f"--job={job}", "--noheader", "--format=%T").strip() == "PENDING")
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=60")

    def until_training(self, outputs: Path) -> str:
        """Wait until the cell trains, and return its job."""
        until_training(outputs)
        return self.job()[0]


def _left(act: Callable[[SlurmStage, str], None], stage: SlurmStage, outputs: Path) -> int:
    """Submit and leave, disturb the training so that the job is put back, and return the exit code."""
    code = stage.run(outputs, LEAVES).returncode
    job = stage.until_training(outputs)
    act(stage, job)
    stage.until_waiting(job)
    return code


def _run_out_of_time(stage: SlurmStage, job: str) -> None:
    fields = dict(each.split("=", 1) for each in stage.ask("scontrol", "--oneliner", "show", "job", job).split()
                  if "=" in each)  # fmt: skip
    hours, minutes, _ = map(int, fields["RunTime"].split(":"))
    # Less is left than the grace of two minutes: the warning comes at once.
    stage.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={hours * 60 + minutes + 2}")


def _warn(stage: SlurmStage, job: str) -> None:
    stage.ask("scancel", "--signal=USR2", job)


def _preempt(stage: SlurmStage, job: str) -> None:
    stage.ask("sbatch", "--partition=high", f"--cpus-per-task={CORES}", "--output=/dev/null", "--wrap=sleep 5")


def _requeue(stage: SlurmStage, job: str) -> None:
    stage.ask("scontrol", "requeue", job)


def _cancel(stage: SlurmStage, outputs: Path) -> int:
    with stage.start(outputs, WAITS) as process:
        stage.ask("scancel", stage.until_training(outputs))
        process.communicate(timeout=LIMIT_SECONDS)
        return process.returncode


def _kill_launcher(stage: SlurmStage, outputs: Path) -> None:
    with stage.start(outputs, WAITS) as process:
        stage.until_training(outputs)
        process.kill()


CASES: Mapping[str, Case[SlurmStage]] = {
    "preempted": Case("a job in a partition that preempts", partial(_left, _preempt)),
    "cancelled": Case("`scancel`", _cancel),
    "launcher-killed": Case("`kill -9` of the launcher while it waits", _kill_launcher),
    "time-out": Case("its time limit comes near", partial(_left, _run_out_of_time)),
    "requeued": Case("`scontrol requeue`", partial(_left, _requeue)),
    "warned": Case("`scancel --signal=USR2`", partial(_left, _warn)),
}
