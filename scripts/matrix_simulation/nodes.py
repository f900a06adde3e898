"""Launchers of `hydra/launcher=local` on several nodes that share a folder of runs, with the real scheduler each."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from medqa_finetune.launch.exit_status import ExitStatus, read_or_none
from medqa_finetune.launch.gpus import Gpu, Slot
from medqa_finetune.launch.scheduler import CHECK_AGAIN_SECONDS, POLL_SECONDS, Job, Scheduler, label_jobs
from medqa_finetune.record.evaluations import CellDir
from scripts.matrix_simulation.bound import Down
from scripts.matrix_simulation.world import Outcome, SimulatedProcess, World

# States of a job that is not done, by how its launcher's own last attempt at it ended.
STATES = {Outcome.CRASHED: "failed", Outcome.FAILED: "failed", Outcome.PREEMPTED: "interrupted"}


class NoDisplay:
    """A display that shows nothing."""

    def show(self) -> None:
        """Show nothing."""

    def print_line(self, text: str) -> None:
        """Print nothing."""


@dataclass
class Launch:
    """One command on one node: its jobs, its scheduler, and the processes that it has started."""

    jobs: Sequence[Job]
    scheduler: Scheduler
    processes: dict[str, list[SimulatedProcess]] = field(default_factory=dict)


@dataclass
class Cost:
    """What the scheduler itself takes: seconds of this machine, and polls."""

    seconds: float = 0.0
    polls: int = 0


class Nodes:
    """Nodes with the same command on each, until every cell is done or has failed for good.

    Args:
        world: The cells, and what becomes of their processes.
        nodes: Number of nodes; each has one launcher.
        gpus: GPUs of each.
        retries: How often a launcher restarts a crashed cell.
        order: Names of the cells in starting order.
    """

    def __init__(self, world: World, nodes: int, gpus: int, *, retries: int, order: Sequence[str]) -> None:
        self._world, self._gpus, self._retries, self._order = world, gpus, retries, order
        self._launches: dict[int, Launch | None] = dict.fromkeys(range(nodes))
        self.cost, self.rounds, self.downs = Cost(), 0, list[Down]()
        self._down: set[int] = set()
        for node in range(nodes):
            self._plan_death(node)

    def run(self, *, every_poll: bool = False) -> None:
        """Run the command on every node, and again as often as cells are left that may yet be done.

        Args:
            every_poll: Whether also the polls are made before which nothing has happened.
        """
        world = self._world
        while not world.are_all_settled():
            self.rounds += 1
            for node in self._launches:
                if node not in self._down:
                    self._launches[node] = self.launch(node)
            self._run_round(every_poll)

    def _run_round(self, every_poll: bool) -> None:
        clock = self._world.clock
        settled_at = clock.monotonic() + CHECK_AGAIN_SECONDS + POLL_SECONDS
        while self._poll():
            event = clock.next_event()
            if every_poll:
                clock.sleep(POLL_SECONDS)
            elif event is None or clock.monotonic() < settled_at:
                clock.sleep(CHECK_AGAIN_SECONDS + POLL_SECONDS)
            else:
                # Between two events no poll finds anything, but for what was to be checked again after the last one.
                clock.move_to(event)
                clock.sleep(POLL_SECONDS / 2)
                settled_at = clock.monotonic() + CHECK_AGAIN_SECONDS

    def _poll(self) -> bool:
        """Poll every launcher as `run_jobs` does; return whether any has open jobs."""
        open_launches = [each for each in self._launches.values() if each and each.scheduler.has_open_jobs()]
        begin = time.process_time()
        for launch in open_launches:
            launch.scheduler.start_due_jobs()
            launch.scheduler.collect_exits()
        self.cost.seconds += time.process_time() - begin
        self.cost.polls += len(open_launches)
        waits = bool(self._down) and not self._world.are_all_settled()
        return waits or any(each.scheduler.has_open_jobs() for each in open_launches)

    def launch(self, node: int) -> Launch:
        """Give the command on a node, as it is now."""
        clock, cells = self._world.clock, self._world.cells
        folders = [CellDir(cells[name].run) for name in self._order]
        jobs = [
            Job((folder.path.name,), [folder.path.name], folder, read_or_none(folder), clock=clock)
            for folder in folders
        ]
        for job in jobs:
            if job.is_done_by(job.earlier):
                job.finish(ExitStatus("done"))
        label_jobs(jobs)
        slots = [Slot((Gpu(str(number), str(number)),)) for number in range(self._gpus)]
        processes: dict[str, list[SimulatedProcess]] = {}

        def start(command: Sequence[str], *_: object) -> SimulatedProcess:
            process = SimulatedProcess(self._world, command[-1], f"node{node}")
            processes.setdefault(command[-1], []).append(process)
            return process

        scheduler = Scheduler(jobs, slots, retries=self._retries, display=NoDisplay(), start=start, clock=clock)
        return Launch(jobs, scheduler, processes)

    def _plan_death(self, node: int) -> None:
        wait = self._world.time_until(self._world.faults.dead_nodes)
        if wait < float("inf"):
            self._world.clock.at(self._world.clock.monotonic() + wait, lambda: self._die(node))

    def _die(self, node: int) -> None:
        world, launch = self._world, self._launches[node]
        if world.are_all_settled():
            return
        now = world.clock.monotonic()
        self._launches[node] = None
        self._down.add(node)
        self.downs.append(Down(now, now + world.faults.down_seconds, self._gpus))
        for process in [] if launch is None else [each for own in launch.processes.values() for each in own]:
            process.lose()
        world.clock.at(now + world.faults.down_seconds, lambda: self._come_back(node))

    def _come_back(self, node: int) -> None:
        self._down.discard(node)
        self._launches[node] = self.launch(node)
        self._plan_death(node)

    def check(self) -> None:
        """Add to the world's problems what launchers say wrongly of their jobs, as far as their nodes live."""
        for launch in filter(None, self._launches.values()):
            for job in launch.jobs:
                name = job.run.path.name
                state = job.exit_status.state if job.exit_status is not None else "open"
                outcomes = [each.outcome for each in launch.processes.get(name, []) if each.outcome is not None]
                own = [outcome for outcome in outcomes if outcome is not Outcome.BUSY]
                expected = "done" if state == "done" else STATES.get(own[-1]) if own else None
                if state != expected or (state == "done" and self._world.cells[name].done != 1):
                    self._world.problems.append(f"{name}: its launcher says {state}, its attempts were {own}")
