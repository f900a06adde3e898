"""A cell on its way through the launcher."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medqa_finetune.launch.exit_status import Ending, Start, read_or_none
from medqa_finetune.launch.gpus import Slot
from medqa_finetune.launch.stage import Marks
from medqa_finetune.launch.worker import CellProcess
from medqa_finetune.record.evaluations import CellDir, evaluation_parts
from medqa_finetune.record.schema import Record

if TYPE_CHECKING:
    # The launcher serves programs that know nothing of experiments.
    from medqa_finetune.cell import Cell


@dataclass(frozen=True)
class Running:
    """A start of a cell that has not ended: its process, its place, and what its run looked like before."""

    process: CellProcess
    slot: Slot
    start: Start
    marks: Marks


def job_of(cell: "Cell", overrides: Sequence[str]) -> "Job":
    """Return the job of a checked cell.

    Args:
        cell: The cell.
        overrides: What its process is started with.
    """
    name = (*cell.config.run_name.split("__"), *evaluation_parts(cell.config.evaluation_name))
    return Job(name, list(overrides), cell.folder, read_or_none(cell.folder))


@dataclass
class Job:
    """A cell that the launcher was asked to run.

    Attributes:
        name: The parts of its name.
        overrides: What it is started with.
        run: The folder of its run, as its evaluation sees it.
        found: Its record as the launch found it; None for a program that keeps none.
        overwrites: Whether a result that the launch found is to be made anew.
        starts: How often it was started by this launch.
        first_start: When, on the monotonic clock.
        look_again_at: When to look whether another process still works on it; 0 if none did.
        lost: Whether a start found another process's record and no other process. A program that starts itself anew
            looks like that, so the next start is believed.
        running: Its present start.
        ending: How it ended; None while that is open.
        note: What there is to say about a cell that is done.
        label: How it is shown: its place among all cells, and what tells its name from theirs.
        seconds: From its first start to its end; None if that was another process's work.
    """

    name: Sequence[str]
    overrides: Sequence[str]
    run: CellDir
    found: Record | None
    overwrites: bool = False
    starts: int = 0
    first_start: float | None = None
    look_again_at: float = 0.0
    lost: bool = False
    running: Running | None = None
    ending: Ending | None = None
    note: str = ""
    label: str = ""
    seconds: float | None = None

    def end(self, ending: Ending, note: str = "") -> None:
        """Say how it ended."""
        self.ending, self.note = ending, note
        self.seconds = None if ending.by_another else self.seconds_so_far()

    def seconds_so_far(self) -> float | None:
        """Return the seconds since its first start; None if it has not been started."""
        return None if self.first_start is None else time.monotonic() - self.first_start

    def is_done_by(self, record: Record | None) -> bool:
        """Say whether there is nothing left to do with this record; a result to be made anew does not count."""
        return record is not None and record.status == "done" and not (self.overwrites and record == self.found)

    def is_due(self) -> bool:
        """Say whether it waits to be started, and long enough since it was last looked at."""
        return self.ending is None and self.running is None and time.monotonic() >= self.look_again_at

    def overrides_now(self, record: Record | None) -> list[str]:
        """Return what it is started with now; what an earlier start of this launch has made is resumed."""
        begun_anew = self.overwrites and record != self.found
        return [*self.overrides, "overwrite=false"] if begun_anew else list(self.overrides)
