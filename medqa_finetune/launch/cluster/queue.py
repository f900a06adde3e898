"""What a launcher needs of a cluster's queue: submit cells, the state of each, and why one ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medqa_finetune.record.evaluations import CellDir

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell


class State(StrEnum):
    """Where a cell is."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


class End(StrEnum):
    """How a job ended, as the queue knows it."""

    # Its process ended by itself, well or not; the cell's record says how.
    BY_ITSELF = "by itself"
    TIME_LIMIT = "time limit"
    CANCELLED = "cancelled"
    NODE_LOST = "node lost"
    OUT_OF_MEMORY = "out of memory"
    PREEMPTED = "preempted"
    # The queue has forgotten it.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Entry:
    """A cell as the queue shows it.

    Attributes:
        id: Its job, by which the queue's own commands find it.
        name: Name of the job.
        state: Where the cell is.
        detail: Why it waits, in the queue's word; empty otherwise.
        end: How it ended; None before that.
    """

    id: str
    name: str
    state: State
    detail: str = ""
    end: End | None = None


@dataclass(frozen=True)
class Element:
    """A cell to submit.

    Attributes:
        name: Name of its job: the cell's name and a digest of what and where it is.
        cell: The cell.
        after: Job that trains the run which this cell only evaluates; None where there is nothing to wait for. It may
            be the name of an element of the same submission.
    """

    name: str
    cell: "Cell"
    after: str | None = None

    @property
    def run(self) -> CellDir:
        """Its folders."""
        return self.cell.folder


@dataclass(frozen=True)
class Submission:
    """Cells that were submitted together.

    Attributes:
        id: Job, or array of jobs, by which all are cancelled.
        ids: Job of each element, by its name.
    """

    id: str
    ids: dict[str, str]


class QueueSilentError(Exception):
    """The queue does not answer at the moment; its words."""


class ClusterQueue(Protocol):
    """A cluster's queue, as far as a launcher needs it."""

    def entries(self) -> list[Entry]:
        """Return this user's jobs; ended ones as long as the queue remembers them.

        Raises:
            QueueSilentError: it does not answer.
        """

    def submit(self, elements: Sequence[Element]) -> Submission:
        """Submit cells.

        Raises:
            ConfigError: the queue refuses them; none is left in it.
        """

    def end_of(self, identifier: str) -> End:
        """Return how a job ended that `entries` no longer shows."""

    def log_path(self, name: str, run: Path) -> Path:
        """Return the file with what a cell printed.

        Args:
            name: Name of its job.
            run: Folder of its run.
        """

    def cancel_command(self, ids: Sequence[str]) -> str:
        """Return the command that cancels these jobs."""


def live_by_name(found: Iterable[Entry]) -> Mapping[str, Entry]:
    """Return the jobs that are queued or running, by name."""
    return {entry.name: entry for entry in found if entry.state is not State.ENDED}


def digests_of(found: Iterable[Entry]) -> dict[str, str]:
    """Return the states of jobs that are queued or running, by the digests in their names."""
    return {name.rpartition("-")[2]: entry.state.value for name, entry in live_by_name(found).items()}
