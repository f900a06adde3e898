"""A Ray cluster for tests: tasks that end as a test says, and jobs in a list."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from medqa_finetune.cell import Cell
from medqa_finetune.launch.cluster.queue import End
from medqa_finetune.launch.cluster.ray.cluster import TaskLostError
from medqa_finetune.launch.cluster.ray.element import Cause, as_answer
from medqa_finetune.launch.exit_status import ExitStatus
from tests.cells import evaluate

# What a task does in place of a cell: returns its result, or raises.
Does = Callable[[], str]


def done(cell: Cell) -> Does:
    """Return what a task does that does its cell."""

    def does() -> str:
        evaluate(cell)
        return as_answer(ExitStatus("done"), "")

    return does


def ended(state: Any, cause: Cause = "") -> Does:
    return lambda: as_answer(ExitStatus(state, "so"), cause)


def lost(end: End) -> Does:
    def does() -> str:
        raise TaskLostError(end, "gone")

    return does


@dataclass
class FakeCluster:
    """A cluster; `does` is what tasks do, in the order of their ends."""

    does: list[Does] = field(default_factory=list)
    dashboard: str = "http://here"
    commands: list[list[str]] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    most: int = 0

    def check(self, outputs: Path) -> None:
        assert outputs.is_dir()

    def start(self, function: Any, *arguments: Any) -> int:
        self.commands.append(list(arguments[0]))
        return len(self.commands) - 1

    def ended(self, tasks: Sequence[int], seconds: float) -> list[int]:
        self.most = max(self.most, len(tasks))
        return list(tasks)[:1] if self.does else []

    def result(self, task: int) -> str:
        return self.does.pop(0)()

    def cancel(self, task: int) -> None:
        self.cancelled.append(task)
        self.does.append(lost(End.CANCELLED))


@dataclass
class FakeJobs:
    """The jobs of a dashboard, as its client has them."""

    jobs: dict[str, SimpleNamespace] = field(default_factory=dict)
    refuses: bool = False
    deleted: list[str] = field(default_factory=list)

    def list_jobs(self) -> list[SimpleNamespace]:
        return list(self.jobs.values())

    def submit_job(self, **given: Any) -> None:
        if self.refuses:
            raise RuntimeError("no more jobs")
        name = given["submission_id"]
        if name in self.jobs:
            raise RuntimeError("is there already")
        self.jobs[name] = SimpleNamespace(
            submission_id=name, status="PENDING", metadata=given["metadata"], given=given, message=""
        )

    def delete_job(self, name: str) -> None:
        self.deleted.append(name)
        del self.jobs[name]

    def stop_job(self, name: str) -> None:
        self.jobs[name].status = "STOPPED"

    def set(self, name: str, status: str) -> None:
        self.jobs[name].status = status
