"""References for disturbed runs: the undisturbed run, and the progress before a restart."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_finetune.record.run_dir import RunDir, find_runs
from scripts.trials import checks
from scripts.trials.inject import Event, read_journal

TESTED = 6  # test questions of a run


@dataclass(frozen=True)
class Reference:
    """The undisturbed run of a setting.

    Attributes:
        place: Working folder it was started in.
        seconds: Its duration.
    """

    place: Path
    seconds: float

    @property
    def run(self) -> RunDir:
        (run,) = find_runs(self.place / "outputs")
        return run

    @property
    def journal(self) -> list[Event]:
        return read_journal(self.place / "1.journal")

    @property
    def results(self) -> dict[str, Any]:
        return checks.results(self.run)

    def moments(self, event: str = "", *, after: str = "", before: str = "") -> list[int]:
        """Return the numbers (from 1) of the events whose text contains `event`.

        Args:
            event: Part of `kind path`. A kind alone ends with the space, since names of runs hold words like `batch`.
            after: Only those after the first event that contains this.
            before: Only those before the last event that contains this.
        """
        texts = [each.text.replace(str(self.place), "") for each in self.journal]
        first = next((n for n, text in enumerate(texts) if after in text), len(texts)) if after else 0
        last = max((n for n, text in enumerate(texts) if before in text), default=-1) if before else len(texts)
        return [n + 1 for n in range(first, min(last + 1, len(texts))) if event in texts[n]]


@dataclass(frozen=True)
class Standing:
    """Progress of an interrupted run.

    Attributes:
        status: Status of its record; `none` without one.
        checkpoints: Steps of its valid checkpoints, newest first.
        answered: Number of predictions on disk.
        logged: Number of prediction batches whose cost is on disk.
        trained: Whether its training has ended.
        tested: Number of questions of its evaluation.
    """

    status: str
    checkpoints: list[int]
    answered: int
    logged: int = 0
    trained: bool = False
    tested: int = TESTED

    def batches(self, size: int) -> int:
        """Return the number of batches of this size that are not generated again; those without their cost are."""
        whole = self.answered // size if self.answered < self.tested else -(-self.tested // size)
        return min(whole, self.logged)
