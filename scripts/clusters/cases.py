"""What is done to a cell on SLURM, and what comes of it when the same command is typed again."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from medqa_finetune.record.run_dir import RunDir, find_runs
from scripts.command_line import ROOT, environment
from scripts.matrix_kills import summary_of
from scripts.small_models import write_micro_model

SETTINGS = (
    "-m", "profile=demo", "model=local", "data.scale=0.001", "data.validation_size=4000", "data.test_size=4000",
    "train.max_steps=1000", "train.epochs=10000", "train.checkpoint_steps=50", "train.logging_steps=5",
    "evaluate.max_new_tokens=8", "tracker=none", "threads=1", "method=lora", "data=20k",
)  # fmt: skip
# The whole node, so that a job in the partition that preempts needs the cell's place. Its GPUs are only claimed.
CORES = os.cpu_count() or 1
ON_SLURM = ("hydra/launcher=slurm", f"hydra.launcher.cpus_per_cell={CORES}", "hydra.launcher.partition=low",
            "hydra.launcher.gpus_per_cell=0", "hydra.launcher.time=60")  # fmt: skip
WAITS = "hydra.launcher.wait=true"
LEAVES = "hydra.launcher.wait=false"
# Steps after which a training is disturbed.
DISTURBED_AFTER = 60
LIMIT_SECONDS = 900.0


@dataclass
class Stage:
    """Where cases run.

    Attributes:
        place: A folder of their own.
        variables: Environment variables of SLURM's clients.
    """

    place: Path
    variables: Mapping[str, str]
    model: Path = field(init=False)

    def __post_init__(self) -> None:
        self.model = write_micro_model(self.place / "model")

    def command(self, outputs: Path, *more: str) -> list[str]:
        """Return the command line of the matrix."""
        return [sys.executable, "-m", "medqa_finetune.train", *SETTINGS, f"model.path={self.model}",
                f"outputs={outputs}", *more]  # fmt: skip

    def start(self, outputs: Path, *more: str) -> "subprocess.Popen[str]":
        """Start the command."""
        return subprocess.Popen(
            self.command(outputs, *more), cwd=self.place, text=True, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            env={**environment(self.place), **self.variables, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def run(self, outputs: Path, *more: str) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end."""
        with self.start(outputs, *more) as process:
            _, said = process.communicate(timeout=LIMIT_SECONDS)
            return subprocess.CompletedProcess(process.args, process.returncode, "", said)

    def slurm(self, *command: str) -> str:
        """Run a command of SLURM's, and return what it prints."""
        done = subprocess.run(command, env={**os.environ, **self.variables}, capture_output=True, text=True, check=True)
        return done.stdout

    def job(self) -> tuple[str, str]:
        """Return id and state of the newest job; two empty texts without any."""
        shown = self.slurm("squeue", "--me", "--noheader", "--array", "--format=%A %T").split("\n")
        return max((tuple(line.split()) for line in shown if line), key=lambda row: int(row[0]), default=("", ""))  # type: ignore[return-value]

    def until_waiting(self, job: str) -> None:
        """Wait until a job is back in the queue, and spare it the two minutes for which SLURM then holds it."""
        wait_until(lambda: self.slurm("squeue", f"--job={job}", "--noheader", "--format=%T").strip() == "PENDING")
        self.slurm("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=60")


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        case: Its name.
        starts: How often the cell was started.
        resumed_from: Steps that trainings resumed from.
        first_code: Exit code of the first command; None where it was killed.
        submitted_again: Whether the same command submitted the cell again.
        equal: Whether the results equal those of an undisturbed run.
    """

    case: str
    starts: int
    resumed_from: tuple[int, ...]
    first_code: int | None
    submitted_again: bool
    equal: bool


Disturb = Callable[[Stage, Path], int | None]


@dataclass(frozen=True)
class Case:
    """A case: its title, and a function that starts the command, disturbs it, and returns its exit code."""

    title: str
    disturb: Disturb


def undisturbed(stage: Stage) -> bytes:
    """Return the results of a run by the local launcher."""
    outputs = stage.place / "undisturbed"
    done = stage.run(outputs, "hydra.launcher.gpus_per_cell=0")
    if done.returncode:
        raise SystemExit(done.stderr)
    return summary_of(outputs)


def run_case(name: str, stage: Stage, expected: bytes) -> Outcome:
    """Run a case: start, disturb, the same command again until it ends well, and compare."""
    outputs = stage.place / name
    code = CASES[name].disturb(stage, outputs)
    again = stage.run(outputs, *ON_SLURM, WAITS)
    if again.returncode:
        raise SystemExit(f"{name}: the same command ended with {again.returncode}\n{again.stderr}")
    run = run_of(outputs)
    record = run.read()
    if record is None or record.train is None:
        raise SystemExit(f"{name}: the cell is not trained")
    (log,) = outputs.glob("*/slurm/lora*.log")
    starts = log.read_text(encoding="utf-8").count("  slurm: start ")
    submitted = "submitted 1 cells" in again.stderr
    return Outcome(name, starts, tuple(record.train.resumed_from), code, submitted, summary_of(outputs) == expected)


def run_of(outputs: Path) -> RunDir:
    """Return the one run of a case."""
    (run,) = find_runs(outputs)
    return run


def until_training(stage: Stage, outputs: Path) -> str:
    """Wait until the cell trains, and return its job."""

    def trains() -> bool:
        if any(record.status == "failed" for run in find_runs(outputs) if (record := run.read()) is not None):
            raise SystemExit("the cell failed before it was disturbed")
        rows = [row for run in find_runs(outputs) for row in run.read_metrics()]
        return any(row["step"] >= DISTURBED_AFTER for row in rows)

    wait_until(trains)
    return stage.job()[0]


def wait_until(condition: Callable[[], bool], seconds: float = LIMIT_SECONDS) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it never was.
    """
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("it never came to that")
        time.sleep(1)


def _left(act: Callable[[Stage, str], None], stage: Stage, outputs: Path) -> int:
    """Submit and leave, disturb the training so that the job is put back, and return the exit code."""
    code = stage.run(outputs, *ON_SLURM, LEAVES).returncode
    job = until_training(stage, outputs)
    act(stage, job)
    stage.until_waiting(job)
    return code


def _run_out_of_time(stage: Stage, job: str) -> None:
    fields = dict(each.split("=", 1) for each in stage.slurm("scontrol", "--oneliner", "show", "job", job).split()
                  if "=" in each)  # fmt: skip
    hours, minutes, _ = map(int, fields["RunTime"].split(":"))
    # Less is left than the grace of two minutes: the warning comes at once.
    stage.slurm("scontrol", "update", f"JobId={job}", f"TimeLimit={hours * 60 + minutes + 2}")


def _warn(stage: Stage, job: str) -> None:
    stage.slurm("scancel", "--signal=USR2", job)


def _preempt(stage: Stage, job: str) -> None:
    stage.slurm("sbatch", "--partition=high", f"--cpus-per-task={CORES}", "--output=/dev/null", "--wrap=sleep 5")


def _requeue(stage: Stage, job: str) -> None:
    stage.slurm("scontrol", "requeue", job)


def _cancel(stage: Stage, outputs: Path) -> int:
    with stage.start(outputs, *ON_SLURM, WAITS) as process:
        stage.slurm("scancel", until_training(stage, outputs))
        process.communicate(timeout=LIMIT_SECONDS)
        return process.returncode


def _kill_launcher(stage: Stage, outputs: Path) -> None:
    with stage.start(outputs, *ON_SLURM, WAITS) as process:
        until_training(stage, outputs)
        process.kill()


CASES: Mapping[str, Case] = {
    "preempted": Case("a job in a partition that preempts", partial(_left, _preempt)),
    "cancelled": Case("`scancel`", _cancel),
    "launcher-killed": Case("`kill -9` of the launcher while it waits", _kill_launcher),
    "time-out": Case("its time limit comes near", partial(_left, _run_out_of_time)),
    "requeued": Case("`scontrol requeue`", partial(_left, _requeue)),
    "warned": Case("`scancel --signal=USR2`", partial(_left, _warn)),
}
