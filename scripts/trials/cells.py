"""A matrix in a trial: its command line, the events of its cells, and their references."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from medqa_finetune.record.run_dir import RunDir, find_runs
from scripts.trials import checks
from scripts.trials.checks import DIFFERENT, DISHONEST, LOST, expect
from scripts.trials.inject import Event, Strike, read_journal
from scripts.trials.reference import Reference, Standing
from scripts.trials.settings import Setting, configuration
from scripts.trials.trial import Trial
from scripts.trials.warm import Child, Ended

# The launcher prepares data sets before it starts a cell.
IN_CELLS = "^(?!.*/cache)"


@dataclass(frozen=True)
class Matrix:
    """A matrix of a trial.

    Attributes:
        trial: The trial it belongs to.
        base: Setting that its cells share.
        axes: Values of swept fields; the cells are all combinations.
        more: Arguments of the launch only.
    """

    trial: Trial
    base: Setting
    axes: Mapping[str, Sequence[object]]
    more: tuple[str, ...] = ()

    @property
    def cells(self) -> list[Setting]:
        """Settings of all cells, in starting order."""
        values = [[(name, value) for value in swept] for name, swept in self.axes.items()]
        return [self.base.but(**dict(chosen)) for chosen in itertools.product(*values)]

    def arguments(self) -> list[str]:
        """Return the command line without the command's name and `-m`."""
        words = [word for word in self.base.arguments(self.trial.model) if word.split("=")[0] not in self.axes]
        return [*words, *(f"{name}={','.join(map(str, values))}" for name, values in self.axes.items()), *self.more]

    def words(self, cell: Setting) -> str:
        """Return the arguments unique to this cell's command line."""
        return " ".join(f"{name}={getattr(cell, name)}" for name in self.axes)

    def launch(self, *strikes: Strike) -> Child:
        return self.trial.launch(self.arguments(), *strikes)

    def reference(self, cell: Setting) -> Reference:
        return self.trial.reference(cell)

    def run(self, cell: Setting) -> RunDir:
        """Return a cell's run, which must exist."""
        run = RunDir(self.trial.outputs / "demo" / self.reference(cell).run.path.name)
        expect(run.record_path.is_file(), LOST, f"{self.words(cell)}: no record")
        return run

    def starts(self, cell: Setting, journals: Path | None = None) -> list[list[Event]]:
        """Return the events of every start of a cell, in order, in the newest launch or below another folder."""
        files = sorted((journals or self.trial.cells).rglob("*.journal"), key=lambda path: path.stat().st_mtime)
        words = set(self.words(cell).split())
        started = [events for path in files if (events := read_journal(path)) and events[0].kind == "start"]
        return [events for events in started if words <= set(events[0].path.split())]

    def moments(self, cell: Setting) -> int:
        """Return the number of events in a start of this cell that match `IN_CELLS`."""
        texts = [event.text for event in self.reference(cell).journal if "/cache" not in event.path]
        return max(number for number, text in enumerate(texts) if text.endswith("record.json"))

    def check_cells(self) -> None:
        """Check that every run equals its reference, and that there are no other runs."""
        names = {self.reference(cell).run.path.name for cell in self.cells}
        found = {run.path.name for run in find_runs(self.trial.outputs)}
        expect(found == names, DIFFERENT, f"runs {sorted(found ^ names)} are there, or are not")
        for cell in self.cells:
            self.check_same(cell)
        checks.check_whole(self.trial.outputs)
        left = checks.leftovers(self.trial.outputs)
        expect(not left, checks.TORN, f"left over: {left[:5]}")

    def check_same(self, cell: Setting) -> None:
        """Check that a cell is done and equals its reference."""
        run = self.run(cell)
        status = checks.read_record(run).status
        expect(status == "done", LOST, f"{self.words(cell)}: {status} instead of done")
        self.trial.check_same(self.reference(cell), run.path)

    def check_stopped(self, cell: Setting) -> RunDir:
        """Check a cell's invariants right after a fault, and return its run."""
        run = self.run(cell)
        self.trial.check_stopped(self.reference(cell), run.path)
        return run

    def check_trained_once(self, cell: Setting, journals: Path) -> None:
        """Check that all starts of a cell below a folder took every step exactly once in total."""
        train = checks.read_record(self.run(cell)).train
        updates = sum(event.kind == "update" for events in self.starts(cell, journals) for event in events)
        steps = 0 if train is None else train.steps
        expect(updates == steps, LOST, f"{self.words(cell)}: {updates} steps were trained instead of {steps}")

    def go_on(self) -> Ended:
        """Launch all cells again without faults; check that each resumes and equals its reference."""
        before = [self._standing(cell) for cell in self.cells]
        ended = self.trial.ended(self.launch())
        expect(ended.code == 0, LOST, f"the same sweep again ended with {ended.code}: {ended.errors[-800:]}")
        self.check_cells()
        for cell, standing in zip(self.cells, before, strict=True):
            events = [event for start in self.starts(cell) for event in start]
            expect(not events or standing.status != "done", LOST, f"{self.words(cell)}: started, though it was done")
            self.trial.check_resumed(cell, standing, Ended(0, "", events), self.run(cell))
        return ended

    def _standing(self, cell: Setting) -> Standing:
        path = self.trial.outputs / "demo" / self.reference(cell).run.path.name
        return self.trial.standing(RunDir(path) if (path / "record.json").is_file() else None)


def draw_matrix(trial: Trial, most: int = 6) -> Matrix:
    """Return a matrix of 3 to `most` (4 or 6) cells around one of three configurations, one or two at a time."""
    chance = trial.chance
    base = configuration(trial.seed, chance.randrange(3))
    seeds = list(range(chance.choice([3, 3, 4, most])))
    axes: dict[str, Sequence[object]] = {"seed": seeds}
    if chance.random() < 0.4:
        axes = {"data": ["20k", "50k"], "seed": seeds[: most // 2]}
    elif base.method != "full" and chance.random() < 0.4:
        axes = {"method": ["lora", "qlora"], "seed": seeds[: most // 2]}
    at_once = chance.choice([1, 1, 2])
    trial.say(f"{base.method} {axes}, {at_once} at a time")
    return Matrix(trial, base, axes, (f"hydra.launcher.max_parallel={at_once}",))


def check_nobody_left(trial: Trial, seconds: float) -> None:
    """Check that all processes of a trial end within `seconds`."""
    until = time.monotonic() + seconds
    while left := processes_in(trial.folder):
        expect(time.monotonic() < until, DISHONEST, f"still there after {seconds} s: {left}")
        time.sleep(0.05)


def processes_in(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())[-200:]}")
        except (psutil.Error, OSError):
            continue
    return found
