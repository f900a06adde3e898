"""Simulate matrices of many cells on many GPUs, with everything that goes wrong, through the real scheduler.

python scripts/simulate_matrix.py                                1,000 cells on 64 GPUs, several seeds
python scripts/simulate_matrix.py --cells 100 --nodes 2 --gpus 4 --seeds 0

Cells take hours by their size and method; processes crash, are preempted, and die with their nodes; some cells fail at
every start. The scheduler, its locks and its records, and the watch of a cluster's queue are the real ones; time,
processes and queue are simulated. Checked: no cell runs twice at a time or is done twice, none is lost, every verdict
is right, and with the longest first the matrix takes at most 5 % longer than the lower bound of any schedule
(`matrix_simulation/bound.py`). The exit code is 1 where one of this does not hold.
"""

import argparse
import gc
import random
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from medqa_finetune.launch.display import REFRESH_SECONDS  # noqa: E402
from medqa_finetune.launch.scheduler import POLL_SECONDS  # noqa: E402
from scripts.benchmarks.results import markdown  # noqa: E402
from scripts.matrix_simulation.bound import lower_bound  # noqa: E402
from scripts.matrix_simulation.clock import SimulatedClock  # noqa: E402
from scripts.matrix_simulation.nodes import Nodes  # noqa: E402
from scripts.matrix_simulation.queue import SimulatedQueue, Watched  # noqa: E402
from scripts.matrix_simulation.quiet import quiet_costs  # noqa: E402
from scripts.matrix_simulation.world import HOUR, Faults, Outcome, World  # noqa: E402

WAYS = ("local", "slurm")
ORDERS = ("longest first", "typed")
# Of the bound; what the order that is not used takes is shown for comparison.
ALLOWED = 1.05
NORMAL = Faults()
QUIET_CELLS, QUIET_GPUS = (10, 100, 1000), 64
QUIET_HEADER = ("cells", "a poll, µs", "a refresh of the table, ms", "of one core, %")
# `hydra.launcher.retries`: of hundreds of long cells, some crash twice.
RETRIES = 3
RIGHT = "no cell ran twice at a time or was done twice, none was lost, every verdict was right"
HEADER = ("launcher", "order", "seed", "cells", "GPUs", "crashes", "preempted", "dead nodes", "lost with them",
          "failing cells", "commands", "makespan, h", "bound, h", "ratio", "own CPU, s", "polls", "ms a poll",
          "MiB")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row of the table: `way` is the launcher, `nodes` have `gpus` each."""

    way: str
    order: str
    seed: int
    cells: int
    nodes: int
    gpus: int
    minutes: float | None = None
    faults: Faults = NORMAL
    every_poll: bool = False
    retries: int = RETRIES


@dataclass(frozen=True)
class Result:
    """What came of a case; times in seconds of the simulated clock, but for `cpu_seconds` of this machine.

    Attributes:
        problems: What must never happen.
        outcomes: How often attempts ended in which way.
        rounds: How often the command was given.
        peak_bytes: Peak memory of this process, simulation included.
    """

    makespan: float
    bound: float
    outcomes: dict[Outcome, int]
    dead_nodes: int
    failing: int
    rounds: int
    cpu_seconds: float
    polls: int
    problems: tuple[str, ...]
    peak_bytes: int

    @property
    def ratio(self) -> float:
        """Makespan by lower bound, ≥ 1."""
        return self.makespan / self.bound


def simulate(case: Case, folder: Path) -> Result:
    """Simulate a case, with run folders below a folder."""
    world = World(SimulatedClock(), random.Random(case.seed), case.faults)  # noqa: S311
    world.add_cells(case.cells, folder, case.minutes)
    begin = world.clock.monotonic()
    names = list(world.cells)
    # As `launch/order.py` has it: by examples, of equal methods and models; it does not know what a cell really takes.
    order = sorted(names, key=lambda name: -world.cells[name].examples) if case.order == ORDERS[0] else names
    if case.way == "local":
        nodes = Nodes(world, case.nodes, case.gpus, retries=case.retries, order=order)
        nodes.run(every_poll=case.every_poll)
        nodes.check()
        found: Nodes | Watched = nodes
    else:
        found = Watched(world, SimulatedQueue(world, case.nodes, case.gpus, retries=case.retries), order)
        found.run()
    works = [cell.counted for cell in world.cells.values()]
    return Result(
        makespan=world.ended - begin,
        bound=lower_bound(works, case.nodes * case.gpus, found.downs),
        outcomes=dict(world.outcomes),
        dead_nodes=len(found.downs),
        failing=sum(cell.has_failed for cell in world.cells.values()),
        rounds=found.rounds,
        cpu_seconds=found.cost.seconds,
        polls=found.cost.polls,
        problems=(*world.problems, *_lost(world)),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _lost(world: World) -> list[str]:
    """Return what is wrong with the cells at the end, and with their records."""
    problems = []
    for name, cell in world.cells.items():
        record = cell.run.read()
        # A cell that fails at every start may have been stopped or lost in a later one.
        is_right = record is not None and (record.status == "done") == (cell.done == 1)
        if cell.done + cell.has_failed != 1 or not is_right:
            problems.append(f"{name}: done {cell.done} times, its record says {record and record.status}")
    return problems


def row_of(case: Case, result: Result) -> list[str]:
    """Return a case as a row of the table."""
    count = result.outcomes.get
    return [
        case.way, case.order, str(case.seed), f"{case.cells:,}", f"{case.nodes} × {case.gpus}",
        str(count(Outcome.CRASHED, 0)), str(count(Outcome.PREEMPTED, 0)), str(result.dead_nodes),
        str(count(Outcome.LOST, 0)), str(result.failing), str(result.rounds),
        f"{result.makespan / HOUR:.1f}", f"{result.bound / HOUR:.1f}",
        f"{result.ratio:.3f}", f"{result.cpu_seconds:.1f}", f"{result.polls:,}",
        f"{1000 * result.cpu_seconds / max(1, result.polls):.2f}", f"{result.peak_bytes / 2**20:.0f}",
    ]  # fmt: skip


def _quiet_row(cells: int, scratch: Path | None) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="matrix-", dir=scratch) as folder:
        poll, refresh = quiet_costs(cells, QUIET_GPUS, Path(folder))
    shares = 100 * (poll / POLL_SECONDS + refresh / REFRESH_SECONDS)
    return [f"{cells:,}", f"{1e6 * poll:.0f}", f"{1e3 * refresh:.1f}", f"{shares:.1f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--gpus", type=int, default=8, help="of a node (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--launchers", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=ORDERS)
    parser.add_argument("--retries", type=int, default=RETRIES, help="of a crashed cell (default: %(default)s)")
    parser.add_argument("--scratch", type=Path, help="folder for the run folders; the system's by default")
    given = parser.parse_args(arguments)
    rows, problems = [], []
    for way in given.launchers:
        for order in given.orders:
            for seed in given.seeds:
                case = Case(way, order, seed, given.cells, given.nodes, given.gpus, retries=given.retries)
                with tempfile.TemporaryDirectory(prefix="matrix-", dir=given.scratch) as folder:
                    result = simulate(case, Path(folder))
                gc.collect()
                rows.append(row_of(case, result))
                problems += [f"{way}, {order}, seed {seed}: {each}" for each in result.problems]
                if order == ORDERS[0] and result.ratio > ALLOWED:
                    problems.append(f"{way}, seed {seed}: {result.ratio:.3f} times the bound, allowed is {ALLOWED}")
    print(markdown(HEADER, rows))
    print(f"\nWhile nothing happens, one launcher with {QUIET_GPUS} GPUs:\n")
    print(markdown(QUIET_HEADER, [_quiet_row(cells, given.scratch) for cells in QUIET_CELLS]))
    print("\n".join(problems) or RIGHT)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
