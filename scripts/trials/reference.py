"""What a disturbed run is compared with: the undisturbed one, and how far it had come itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_finetune.record.run_dir import RunDir, find_runs
from scripts.trials import checks
from scripts.trials.inject import Event, read_journal

TESTED = 6  # test questions of a run


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of a setting.

    Attributes:
        place: Folder it was started in.
        seconds: How long it took.
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
            after: Only those behind the first event that contains this.
            before: Only those before the last event that contains this.
        """
        texts = [each.text.replace(str(self.place), "") for each in self.journal]
        first = next((n for n, text in enumerate(texts) if after in text), len(texts)) if after else 0
        last = max((n for n, text in enumerate(texts) if before in text), default=-1) if before else len(texts)
        return [n + 1 for n in range(first, min(last + 1, len(texts))) if event in texts[n]]


@dataclass(frozen=True)
class Standing:
    """How far an interrupted run has come.

    Attributes:
        status: Of its record; `none` without one.
        checkpoints: Steps of its whole checkpoints, the newest first.
        answered: Answers on disk.
        logged: Batches of answers whose cost is on disk.
        trained: Whether its training has ended, whatever has happened since.
    """

    status: str
    checkpoints: list[int]
    answered: int
    logged: int = 0
    trained: bool = False

    def batches(self, size: int) -> int:
        """Return how many batches of this size need not be answered again; one without its cost is."""
        whole = self.answered // size if self.answered < TESTED else -(-TESTED // size)
        return min(whole, self.logged)
