"""A matrix of one cell that is started on a cluster, disturbed, and started again; what comes of it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from medqa_finetune.record.run_dir import RunDir, find_runs
from scripts.command_line import ROOT, environment
from scripts.matrix_kills import summary_of
from scripts.small_models import write_micro_model

SETTINGS = (
    "-m", "profile=demo", "model=local", "data.scale=0.001", "data.validation_size=4000", "data.test_size=4000",
    "train.max_steps=1000", "train.epochs=10000", "train.checkpoint_steps=50", "train.logging_steps=5",
    "evaluate.max_new_tokens=8", "tracker=none", "threads=1", "method=lora", "data=20k",
)  # fmt: skip
WAITS = "hydra.launcher.wait=true"
LEAVES = "hydra.launcher.wait=false"
# Steps after which a training is disturbed.
DISTURBED_AFTER = 60
LIMIT_SECONDS = 900.0
# What a launch says that finds nothing to submit or run.
NOTHING_TO_DO = ("queued or running already", "cells are done")


@dataclass
class Stage:
    """Where cases run.

    Attributes:
        place: A folder of their own.
        variables: Environment variables of the cluster's clients.
        queue: Name of the cluster's queue.
        options: Settings of its launcher.
    """

    place: Path
    variables: Mapping[str, str]
    model: Path = field(init=False)
    queue: ClassVar[str]
    options: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        self.model = write_micro_model(self.place / "model")

    def command(self, outputs: Path, options: Sequence[str]) -> list[str]:
        """Return the command line of the matrix."""
        return [sys.executable, "-m", "medqa_finetune.train", *SETTINGS, f"model.path={self.model}",
                f"outputs={outputs}", *options]  # fmt: skip

    def start(self, outputs: Path, *more: str) -> "subprocess.Popen[str]":
        """Start the command on the cluster."""
        return self._start(outputs, [*self.options, *more])

    def _start(self, outputs: Path, options: Sequence[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(outputs, options), cwd=self.place, text=True, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            env={**environment(self.place), **self.variables, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def run(self, outputs: Path, *more: str) -> "subprocess.CompletedProcess[str]":
        """Run the command on the cluster to its end."""
        return self._run(outputs, [*self.options, *more])

    def run_here(self, outputs: Path) -> "subprocess.CompletedProcess[str]":
        """Run the command with the local launcher to its end."""
        return self._run(outputs, ["hydra.launcher.gpus_per_cell=0"])

    def _run(self, outputs: Path, options: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        with self._start(outputs, options) as process:
            _, said = process.communicate(timeout=LIMIT_SECONDS)
            return subprocess.CompletedProcess(process.args, process.returncode, "", said)

    def ask(self, *command: str) -> str:
        """Run a command of the cluster's, and return what it prints."""
        done = subprocess.run(command, env={**os.environ, **self.variables}, capture_output=True, text=True, check=True)
        return done.stdout


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        case: Its name.
        starts: How often the cell was started.
        resumed_from: Steps that trainings resumed from.
        first_code: Exit code of the first command; None where it was killed.
        submitted_again: Whether the same command submitted the cell, or ran it, again.
        equal: Whether the results equal those of an undisturbed run.
    """

    case: str
    starts: int
    resumed_from: tuple[int, ...]
    first_code: int | None
    submitted_again: bool
    equal: bool


OnStage = TypeVar("OnStage", bound=Stage)


@dataclass(frozen=True)
class Case(Generic[OnStage]):
    """A case.

    Attributes:
        title: What happens.
        disturb: Starts the command, disturbs it, and returns its exit code.
    """

    title: str
    disturb: Callable[[OnStage, Path], int | None]


def undisturbed(stage: Stage) -> bytes:
    """Return the results of a run by the local launcher."""
    outputs = stage.place / "undisturbed"
    done = stage.run_here(outputs)
    if done.returncode:
        raise SystemExit(done.stderr)
    return summary_of(outputs)


def run_case(name: str, case: Case[OnStage], stage: OnStage, expected: bytes) -> Outcome:
    """Run a case: start, disturb, the same command again until it ends well, and compare."""
    outputs = stage.place / name
    code = case.disturb(stage, outputs)
    again = stage.run(outputs, WAITS)
    if again.returncode:
        raise SystemExit(f"{name}: the same command ended with {again.returncode}\n{again.stderr}")
    record = run_of(outputs).read()
    if record is None or record.train is None:
        raise SystemExit(f"{name}: the cell is not trained")
    (log,) = outputs.glob(f"*/{stage.queue}/lora*.log")
    starts = log.read_text(encoding="utf-8").count(f"  {stage.queue}: start ")
    submitted = not any(words in again.stderr for words in NOTHING_TO_DO)
    return Outcome(name, starts, tuple(record.train.resumed_from), code, submitted, summary_of(outputs) == expected)


def run_of(outputs: Path) -> RunDir:
    """Return the one run of a case."""
    (run,) = find_runs(outputs)
    return run


def until_training(outputs: Path) -> None:
    """Wait until the cell trains."""

    def trains() -> bool:
        if any(record.status == "failed" for run in find_runs(outputs) if (record := run.read()) is not None):
            raise SystemExit("the cell failed before it was disturbed")
        rows = [row for run in find_runs(outputs) for row in run.read_metrics()]
        return any(row["step"] >= DISTURBED_AFTER for row in rows)

    wait_until(trains)


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
