"""The simulation of large matrices, at a small size."""

import random
from pathlib import Path

import pytest

from medqa_finetune.record.run_dir import RunDir
from scripts.matrix_simulation.bound import Down, lower_bound
from scripts.matrix_simulation.clock import SimulatedClock
from scripts.matrix_simulation.quiet import quiet_costs
from scripts.matrix_simulation.world import Faults, Outcome, SimulatedProcess, World
from scripts.simulate_matrix import WAYS, Case, simulate

NONE = Faults(crashes=0, preemptions=0, dead_nodes=0, failing=0)
MANY = Faults(crashes=0.05, preemptions=0.05, dead_nodes=0.1, failing=0.25)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_or_done_twice_whatever_goes_wrong(way: str, tmp_path: Path) -> None:
    result = simulate(Case(way, "longest first", 1, cells=24, nodes=2, gpus=2, faults=MANY), tmp_path)
    assert result.problems == ()
    assert all(result.outcomes[each] for each in (Outcome.CRASHED, Outcome.PREEMPTED, Outcome.LOST, Outcome.FAILED))
    assert 1 <= result.ratio < 1.5


def test_quiet_polls_that_are_left_out_change_nothing(tmp_path: Path) -> None:
    cases = [Case("local", "typed", 0, 6, 2, 1, minutes=1, faults=NONE, every_poll=every) for every in (False, True)]
    skipped, whole = (simulate(case, tmp_path / str(case.every_poll)) for case in cases)
    assert skipped.problems == whole.problems == ()
    assert skipped.polls < whole.polls / 5
    # A poll or a check may come up to a second later.
    assert skipped.makespan == pytest.approx(whole.makespan, abs=2.0 * 6)


@pytest.mark.parametrize(
    ("works", "downs", "bound"),
    [
        ([3, 3, 3, 3], [], 6),
        ([9, 1, 1], [], 9),
        ([4, 4], [Down(1, 3, 1)], 5),
        ([4, 4], [Down(8, 9, 2)], 4),
        ([], [], 0),
    ],
)
def test_bound_is_the_work_that_fits_or_the_longest(works: list[float], downs: list[Down], bound: float) -> None:
    assert lower_bound(works, 2, downs) == bound


def test_cell_that_is_done_again_is_noticed(tmp_path: Path) -> None:
    world = World(SimulatedClock(), random.Random(0), NONE)  # noqa: S311
    world.add_cells(1, tmp_path)
    (name,) = world.cells
    for _ in range(2):
        SimulatedProcess(world, name, "node0")
        world.clock.sleep(1e6)
    assert len(world.problems) == 1


def test_run_that_another_process_has_is_left_to_it(tmp_path: Path) -> None:
    world = World(SimulatedClock(), random.Random(0), NONE)  # noqa: S311
    world.add_cells(1, tmp_path)
    (name,) = world.cells
    first, second = (SimulatedProcess(world, name, host) for host in ("node0", "node1"))
    world.clock.sleep(1e6)
    assert (first.outcome, second.outcome) == (Outcome.DONE, Outcome.BUSY)
    assert (world.cells[name].done, world.problems) == (1, [])


def test_a_poll_without_news_starts_and_ends_nothing(tmp_path: Path) -> None:
    poll, refresh = quiet_costs(30, 4, tmp_path)
    assert poll > 0
    assert refresh > 0
    statuses = [record.status for run in tmp_path.iterdir() if (record := RunDir(run).read()) is not None]
    assert (statuses.count("running"), statuses.count("pending")) == (4, 26)
