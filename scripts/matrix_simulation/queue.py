"""A simulated cluster with a queue like SLURM's, and the real watch that says what becomes of cells in it."""

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medqa_finetune.launch.cluster.queue import ClusterQueue, Element, End, Entry, QueueSilentError, State, Submission
from medqa_finetune.launch.cluster.watch import LOOK_SECONDS, Watcher
from medqa_finetune.launch.exit_status import Attempt, classify_exit, read_or_none
from medqa_finetune.launch.scheduler import Job, label_jobs
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.schema import Record
from scripts.matrix_simulation.bound import Down
from scripts.matrix_simulation.nodes import Cost, NoDisplay
from scripts.matrix_simulation.world import Outcome, SimulatedProcess, World

# As SLURM by default: a job that is put back waits before it starts again, one that has ended is forgotten.
PUT_BACK_SECONDS, FORGOTTEN_SECONDS = 120.0, 300.0
# Share of the looks at which the queue does not answer, or leaves a job out.
SILENT = 0.02


@dataclass
class QueuedJob:
    """A job of the queue.

    Attributes:
        place: Its index in the array, which is the order of starting.
        entry: What the queue shows of it; None once it is forgotten.
        starts: Attempts at its cell in its current start.
        before: The record before its attempt.
    """

    place: int
    name: str
    entry: Entry | None
    starts: int = 0
    before: Record | None = None
    node: int = 0


class SimulatedQueue(ClusterQueue):
    """A queue over nodes of several GPUs, which starts jobs in order and puts them back as SLURM does."""

    def __init__(self, world: World, nodes: int, gpus: int, *, retries: int) -> None:
        self._world, self._gpus, self._retries = world, gpus, retries
        self._free = dict.fromkeys(range(nodes), gpus)
        self._jobs: dict[str, QueuedJob] = {}
        self._waiting: list[tuple[int, str]] = []
        self._running: dict[str, SimulatedProcess] = {}
        self._down: set[int] = set()
        self.downs: list[Down] = []
        for node in range(nodes):
            self._plan_death(node)

    def entries(self) -> list[Entry]:
        """Return the jobs that are not forgotten; now and then the queue is silent, or one is missing.

        Raises:
            QueueSilentError: it does not answer.
        """
        chance = self._world.chance
        if chance.random() < SILENT:
            raise QueueSilentError("no answer")
        found = [job.entry for job in self._jobs.values() if job.entry is not None]
        if found and chance.random() < SILENT:
            found.pop(chance.randrange(len(found)))
        return found

    def submit(self, elements: Sequence[Element]) -> Submission:
        """Simulated cells are submitted by name."""
        raise NotImplementedError

    def put(self, names: Sequence[str], array: int) -> dict[str, str]:
        """Put cells into the queue as one array; return the job of each."""
        ids = {name: f"{array}_{place}" for place, name in enumerate(names)}
        for place, name in enumerate(names):
            self._jobs[ids[name]] = QueuedJob(place, name, Entry(ids[name], name, State.QUEUED, "Priority"))
            heapq.heappush(self._waiting, (place, ids[name]))
        self._start_waiting()
        return ids

    def end_of(self, identifier: str) -> End:
        """Return that nothing is known, as without accounting."""
        return End.UNKNOWN

    def log_path(self, name: str, run: Path) -> Path:
        """Return a path where nothing is."""
        return run / "none.log"

    def cancel_command(self, ids: Sequence[str]) -> str:
        """Return nothing: nobody cancels."""
        return ""

    def _start_waiting(self) -> None:
        while self._waiting and (node := next((node for node, free in self._free.items() if free), None)) is not None:
            _, identifier = heapq.heappop(self._waiting)
            job = self._jobs[identifier]
            job.node, job.starts = node, 0
            job.entry = Entry(identifier, job.name, State.RUNNING)
            self._free[node] -= 1
            self._attempt(identifier)

    def _attempt(self, identifier: str) -> None:
        job = self._jobs[identifier]
        job.starts += 1
        job.before = read_or_none(CellDir(self._world.cells[job.name].run))

        def ended(process: SimulatedProcess) -> None:
            self._ended(identifier, process)

        self._running[identifier] = SimulatedProcess(self._world, job.name, f"node{job.node}", ended)

    def _ended(self, identifier: str, process: SimulatedProcess) -> None:
        """Do what an element does when its cell has ended, and SLURM when a node has."""
        job = self._jobs[identifier]
        if process.outcome is Outcome.CRASHED:
            # As `element.py` does: the record says so, and the cell starts again where it is.
            classify_exit(Attempt(process.folder, job.before, None), *process.end(), [], stopping=False)
            if job.starts <= self._retries:
                self._attempt(identifier)
                return
        del self._running[identifier]
        if job.node not in self._down:
            self._free[job.node] += 1
        if process.outcome in (Outcome.PREEMPTED, Outcome.LOST, Outcome.BUSY):
            job.entry = Entry(identifier, job.name, State.QUEUED, "BeginTime")
            self._after(PUT_BACK_SECONDS, lambda: self._put_back(identifier))
        else:
            job.entry = Entry(identifier, job.name, State.ENDED, end=End.BY_ITSELF)
            self._after(FORGOTTEN_SECONDS, lambda: setattr(job, "entry", None))
        self._start_waiting()

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        self._world.clock.at(self._world.clock.monotonic() + seconds, happen)

    def _put_back(self, identifier: str) -> None:
        heapq.heappush(self._waiting, (self._jobs[identifier].place, identifier))
        self._start_waiting()

    def _plan_death(self, node: int) -> None:
        wait = self._world.time_until(self._world.faults.dead_nodes)
        if wait < float("inf"):
            self._after(wait, lambda: self._die(node))

    def _die(self, node: int) -> None:
        if self._world.are_all_settled():
            return
        down = self._world.faults.down_seconds
        now = self._world.clock.monotonic()
        self._down.add(node)
        self._free[node] = 0
        self.downs.append(Down(now, now + down, self._gpus))
        for process in [each for each in self._running.values() if self._node_of(each) == node]:
            process.lose()
        self._after(down, lambda: self._come_back(node))

    @staticmethod
    def _node_of(process: SimulatedProcess) -> int:
        return int(process.identity.host.removeprefix("node"))

    def _come_back(self, node: int) -> None:
        self._down.discard(node)
        self._free[node] = self._gpus
        self._start_waiting()
        self._plan_death(node)


class Watched:
    """Cells in a simulated queue, watched by the real watch until each is done or has failed for good.

    Args:
        world: The cells.
        queue: The queue.
        order: Names of the cells in the order of the array.
    """

    def __init__(self, world: World, queue: SimulatedQueue, order: Sequence[str]) -> None:
        self._world, self._queue, self._order = world, queue, order
        self.cost, self.rounds = Cost(), 0

    @property
    def downs(self) -> list[Down]:
        """When nodes were down."""
        return self._queue.downs

    def run(self) -> None:
        """Submit the cells, watch them, and submit again those that may yet be done, as the same command does."""
        while not self._world.are_all_settled():
            self.rounds += 1
            names = [name for name in self._order if not self._world.cells[name].is_settled]
            ids = self._queue.put(names, self.rounds)
            clock = self._world.clock
            folders = {name: CellDir(self._world.cells[name].run) for name in names}
            jobs = {name: Job((name,), [], folders[name], read_or_none(folders[name]), clock=clock) for name in names}
            label_jobs(list(jobs.values()))
            self._watch(Watcher(jobs, self._queue, ids, NoDisplay(), clock=clock))
            self._check(jobs)

    def _watch(self, watcher: Watcher) -> None:
        clock = self._world.clock
        while watcher.has_open_jobs():
            begin = time.process_time()
            watcher.look_when_due()
            self.cost.seconds += time.process_time() - begin
            self.cost.polls += 1
            # Between two events no look finds anything; three after each, since the queue may be silent or incomplete.
            event = clock.next_event()
            if event is not None and self.cost.polls % 3 == 0:
                clock.move_to(event)
            clock.sleep(LOOK_SECONDS)

    def _check(self, jobs: Mapping[str, Job]) -> None:
        for name, job in jobs.items():
            cell = self._world.cells[name]
            state = job.exit_status.state if job.exit_status is not None else "open"
            if state not in ("done", "failed") or (state == "done") != (cell.done == 1):
                self._world.problems.append(f"{name}: the watch says {state}, it was done {cell.done} times")
