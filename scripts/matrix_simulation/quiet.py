"""What a launcher takes while nothing happens: one poll, and one refresh of its table."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from medqa_finetune.launch.display import draw_table, view_of
from medqa_finetune.progress import StageClock
from scripts.matrix_simulation.clock import SimulatedClock
from scripts.matrix_simulation.nodes import Launch, Nodes
from scripts.matrix_simulation.world import Faults, World

POLLS, REFRESHES = 200, 5
NOTHING = Faults(crashes=0, preemptions=0, dead_nodes=0, failing=0)


def quiet_costs(cells: int, gpus: int, folder: Path) -> tuple[float, float]:
    """Return CPU seconds of a poll without news, and of a refresh of a table of 50 rows, with every GPU in use."""
    world = World(SimulatedClock(), random.Random(0), NOTHING)  # noqa: S311
    world.add_cells(cells, folder)
    nodes = Nodes(world, 1, gpus, retries=0, order=list(world.cells))
    launch = nodes.launch(0)
    launch.scheduler.start_due_jobs()
    world.clock.sleep(60.0)
    return _seconds(lambda: _poll(launch), POLLS), _seconds(lambda: _refresh(launch), REFRESHES)


def _poll(launch: Launch) -> None:
    if launch.scheduler.has_open_jobs():
        launch.scheduler.start_due_jobs()
        launch.scheduler.collect_exits()


def _refresh(launch: Launch) -> None:
    draw_table([(job.label, view_of(job, StageClock())) for job in launch.jobs], height=56, width=120)


def _seconds(do: Callable[[], None], times: int) -> float:
    begin = time.process_time()
    for _ in range(times):
        do()
    return (time.process_time() - begin) / times
