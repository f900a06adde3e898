"""Simulated cells and their processes: they take simulated time, leave real records, and hold real locks."""

import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from medqa_finetune.errors import EXIT_RUN_FAILED, Fault, RunError
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Failure, Process, Record
from medqa_finetune.stopping import EXIT_OFFSET
from scripts.matrix_simulation.clock import SimulatedClock

HOUR = 3600.0
METHODS = {"lora": 5.0, "qlora": 3.2}
"""Examples a second on one GPU, as in `scripts/benchmarks/made_runs.py`."""
SIZES = (20_000, 50_000, 100_000)
# Standard deviation of the logarithm of a cell's duration.
SPREAD = 0.1
ANSWERING_SECONDS = 900.0
# From the start of a process until it holds the lock, and from then on until it trains.
IMPORT_SECONDS, LOADING_SECONDS = 10.0, 35.0
CHECKPOINT_SECONDS = 600.0
SIGTERM, SIGSEGV, SIGKILL = 15, 11, 9


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    CRASHED = "crashed"
    FAILED = "failed for good"
    PREEMPTED = "preempted"
    LOST = "lost with its node"
    BUSY = "another process had the run"


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong; the rates are per hour of one GPU, or of one node.

    Attributes:
        crashes: Crashes of a process, which loses what it did since its last checkpoint.
        preemptions: Stops from outside, before which a checkpoint is written.
        dead_nodes: Losses of a node with all its processes.
        down_seconds: Time until a lost node is back.
        failing: Share of the cells that fail for good, somewhere in their work, at every start.
    """

    crashes: float = 0.01
    preemptions: float = 0.02
    dead_nodes: float = 0.02
    down_seconds: float = HOUR
    failing: float = 0.02


@dataclass
class SimulatedCell:
    """A cell and what has become of it.

    Attributes:
        run: Its run folder, with a record.
        examples: Its training examples.
        work: Seconds that it takes without faults, loading left out.
        fails_at: Seconds of work after which it fails at every start; None if it never does.
        saved: Seconds of work in its last checkpoint.
        counted: Seconds of GPU time of every attempt that a perfect scheduler needs as well.
        done: How often it was done.
        has_failed: Whether it has failed for good.
    """

    run: RunDir
    examples: int
    work: float
    fails_at: float | None
    saved: float = 0.0
    counted: float = 0.0
    done: int = 0
    has_failed: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.done > 0 or self.has_failed


@dataclass
class World:
    """Everything that is simulated around the scheduler.

    Attributes:
        cells: By the names of their folders.
        outcomes: How often attempts ended in which way.
        problems: What must never happen, in words.
        ended: Time at which the last cell was done or failed for good.
    """

    clock: SimulatedClock
    chance: random.Random
    faults: Faults
    cells: dict[str, SimulatedCell] = field(default_factory=dict)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    ended: float = 0.0
    working: dict[str, "SimulatedProcess"] = field(default_factory=dict)
    pids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1_000_000))

    def add_cells(self, count: int, folder: Path, minutes: float | None = None) -> None:
        """Make cells of every method and size with as many seeds as needed, in the order of a typed matrix.

        Args:
            count: How many.
            folder: Folder of their runs.
            minutes: Longest of their durations, without the spread; None for the real ones.
        """
        seeds = -(-count // (len(METHODS) * len(SIZES)))
        kinds = [(method, size, seed) for method in METHODS for size in SIZES for seed in range(seeds)]
        longest = max(SIZES) / min(METHODS.values())
        scale = 1.0 if minutes is None else minutes * 60 / longest
        for method, size, seed in kinds[:count]:
            run = RunDir(folder / f"{method}_{size // 1000}k__seed={seed}")
            spread = self.chance.lognormvariate(0.0, SPREAD)
            work = (size / METHODS[method] + ANSWERING_SECONDS) * spread * scale
            fails_at = self.chance.uniform(0, work) if self.chance.random() < self.faults.failing else None
            run.write(Record(run.path.name, run.path.name, "pending", method, f"{size}", "simulated", seed, config={}))
            self.cells[run.path.name] = SimulatedCell(run, size, work, fails_at)

    def are_all_settled(self) -> bool:
        """Return whether every cell is done or has failed for good."""
        return all(cell.is_settled for cell in self.cells.values())

    def time_until(self, rate: float) -> float:
        """Return seconds until something happens that does so `rate` times an hour, by chance."""
        return self.chance.expovariate(rate / HOUR) if rate else float("inf")


class SimulatedProcess:
    """An attempt at a cell, as the scheduler sees a process.

    Args:
        world: What is around it.
        name: Name of the cell.
        host: Name of its node.
        when_ended: Called at its end; None where somebody asks for its exit code.
    """

    def __init__(
        self, world: World, name: str, host: str, when_ended: Callable[["SimulatedProcess"], None] | None = None
    ) -> None:
        self.world, self.name, self.cell = world, name, world.cells[name]
        self.identity = Process(next(world.pids), host)
        self.faults: list[Fault] = []
        self.progress_path = self.cell.run.path / "none"
        self.outcome: Outcome | None = None
        self.began = world.clock.monotonic()
        self._code: int | None = None
        self._lock = contextlib.ExitStack()
        self._when_ended = when_ended
        world.clock.at(self.began + IMPORT_SECONDS, self._claim)

    def _claim(self) -> None:
        """Take the run's lock, as an experiment does first, and draw how this attempt ends."""
        if self.outcome is not None:
            return
        try:
            self._lock.enter_context(self.cell.run.lock(0.0))
        except RunError:
            self._end(Outcome.BUSY, EXIT_RUN_FAILED)
            return
        if self.name in self.world.working or (self.cell.is_settled and not self.cell.has_failed):
            self.world.problems.append(f"{self.name} was started while it was worked on, or after it was done")
        self.world.working[self.name] = self
        self.cell.run.update(status="running", process=self.identity, failure=None)
        self.world.clock.at(*self._fate())

    def _fate(self) -> tuple[float, Callable[[], None]]:
        world, cell = self.world, self.cell
        at_work = world.clock.monotonic() + LOADING_SECONDS
        ends = [
            (at_work + cell.work - cell.saved, Outcome.DONE, 0),
            (world.clock.monotonic() + world.time_until(world.faults.crashes), Outcome.CRASHED, -SIGSEGV),
            (
                world.clock.monotonic() + world.time_until(world.faults.preemptions),
                Outcome.PREEMPTED,
                EXIT_OFFSET + SIGTERM,
            ),
        ]
        if cell.fails_at is not None:
            ends.append((at_work + max(0.0, cell.fails_at - cell.saved), Outcome.FAILED, EXIT_RUN_FAILED))
        when, outcome, code = min(ends)
        return when, lambda: self._end(outcome, code)

    def lose(self) -> None:
        """Lose this process with its node."""
        self._end(Outcome.LOST, -SIGKILL)

    def _end(self, outcome: Outcome, code: int) -> None:
        if self.outcome is not None:
            return
        world, cell, self.outcome = self.world, self.cell, outcome
        took = world.clock.monotonic() - self.began
        world.outcomes[outcome] += 1
        if outcome is not Outcome.BUSY and not cell.has_failed:
            cell.counted += took
        if world.working.get(self.name) is self:
            self._leave_record(outcome, cell.saved + max(0.0, took - IMPORT_SECONDS - LOADING_SECONDS))
            del world.working[self.name]
        self._lock.close()
        self._code = code
        if self._when_ended is not None:
            self._when_ended(self)

    def _leave_record(self, outcome: Outcome, reached: float) -> None:
        world, cell = self.world, self.cell
        if outcome is Outcome.DONE:
            cell.done += 1
            world.ended = world.clock.monotonic()
            cell.run.update(status="done")
        elif outcome is Outcome.FAILED:
            world.ended = world.ended if cell.has_failed else world.clock.monotonic()
            cell.has_failed = True
            cell.saved = max(cell.saved, reached // CHECKPOINT_SECONDS * CHECKPOINT_SECONDS)
            cell.run.update(status="failed", failure=Failure("DataError", "it fails at every start", final=True))
        elif outcome is Outcome.PREEMPTED:
            cell.saved = reached
            cell.run.update(status="interrupted", failure=Failure("SIGTERM", "stopped from outside"))
        else:
            cell.saved = max(cell.saved, reached // CHECKPOINT_SECONDS * CHECKPOINT_SECONDS)

    @property
    def folder(self) -> CellDir:
        """Folders of its cell."""
        return CellDir(self.cell.run)

    def exit_code(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._code

    def ask_to_stop(self) -> None:
        """Write a checkpoint and end."""
        self._end(Outcome.PREEMPTED, EXIT_OFFSET + SIGTERM)

    def kill(self) -> None:
        """End at once."""
        self._end(Outcome.CRASHED, -SIGKILL)

    def end(self) -> tuple[int, list[str]]:
        """Return the exit code, and no output."""
        self.kill()
        return self._code or 0, []
