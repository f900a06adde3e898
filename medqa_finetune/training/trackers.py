"""Who is told of the training curves. Their trouble never becomes the training's.

What is told, and how it is called, is transformers' own integration; here it is said where a tracker keeps its files,
what the run is called there, and that a training which goes on continues what it had begun.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from transformers import TrainerCallback
from transformers.integrations import (  # type: ignore[attr-defined]
    MLflowCallback,
    TensorBoardCallback,
    WandbCallback,
)

from medqa_finetune.compat.wandb import mode as wandb_mode
from medqa_finetune.record.files import sha256_of_text
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.stopping import Interrupted

log = logging.getLogger(__name__)

EVENTS = [name for name in dir(TrainerCallback) if name.startswith("on_")]
PROJECT = "medqa_finetune"
# Tag of an MLflow run by which a training that goes on finds it again.
MLFLOW_TAG = "medqa_finetune.run"


@dataclass(frozen=True)
class Tracked:
    """The training that trackers are told of.

    Attributes:
        run: Its folder.
        name: What it is called.
        outputs: Root of all run folders, where a store lies that several runs share.
        resumed_from: Step that training goes on from; None for a new one.
    """

    run: RunDir
    name: str
    outputs: Path
    resumed_from: int | None = None

    @property
    def id(self) -> str:
        """A name that only this run has, the same at every restart, another one when it is begun anew."""
        record = self.run.read()
        begun = "" if record is None else f"{record.identity} {record.started}"
        return sha256_of_text(f"{self.run.path.resolve()} {begun}")[:16]


Opener = Callable[[Tracked], AbstractContextManager[TrainerCallback]]


@contextmanager
def _tensorboard(tracked: Tracked) -> Iterator[TrainerCallback]:
    from torch.utils.tensorboard import SummaryWriter

    # Curves behind the step that training goes on from are withdrawn.
    purge = None if tracked.resumed_from is None else tracked.resumed_from + 1
    with SummaryWriter(str(tracked.run.tensorboard_path), purge_step=purge) as writer:
        yield TensorBoardCallback(writer)  # type: ignore[no-untyped-call]


@contextmanager
def _wandb(tracked: Tracked) -> Iterator[TrainerCallback]:
    # Its reports of errors are a network call that nobody asked for.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    # Without a key it would ask for one, and a training that nobody watches would wait for the answer.
    if wandb_mode() in ("online", "shared") and not wandb.login(prompt=False):
        raise RuntimeError("nobody is logged in: `wandb login`, or WANDB_MODE=offline")
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT), name=tracked.name, id=tracked.id, resume="allow",
        dir=str(tracked.run.path),
    )  # fmt: skip
    failed = 1
    try:
        yield WandbCallback()  # type: ignore[no-untyped-call]
        failed = 0
    finally:
        run.finish(exit_code=failed)


@contextmanager
def _mlflow(tracked: Tracked) -> Iterator[TrainerCallback]:
    # Nobody asked for a network call, a warning for every long setting, or a line for every table that it makes.
    usual = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_FLATTEN_PARAMS": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
    for name, value in usual.items():
        os.environ.setdefault(name, value)
    import mlflow

    with FileLock(tracked.outputs / ".mlflow.lock"):  # cells that start together would all make the store
        _choose_experiment(tracked.outputs.resolve())
        begun = mlflow.search_runs(
            filter_string=f"tags.`{MLFLOW_TAG}` = '{tracked.id}'", max_results=1, output_format="list"
        )
        mlflow.start_run(
            run_id=begun[0].info.run_id if begun else None, run_name=tracked.name, tags={MLFLOW_TAG: tracked.id}
        )
    status = "FAILED"
    try:
        yield MLflowCallback()  # type: ignore[no-untyped-call]
        status = "FINISHED"
    except (Interrupted, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        mlflow.end_run(status)


def _choose_experiment(outputs: Path) -> None:
    """Let MLflow keep runs where the environment says, else in one store for all runs below `outputs`."""
    import mlflow

    files = None
    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{outputs / 'mlflow.db'}")
        files = (outputs / "mlartifacts").as_uri()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    if mlflow.get_experiment_by_name(name) is None:
        mlflow.create_experiment(name, files)
    mlflow.set_experiment(name)


OPENERS: dict[str, Opener] = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


class Guarded(TrainerCallback):
    """Passes events on to a tracker until it raises; then says so once, and leaves it alone.

    TensorBoard's writer, for one, dies of a full disk or a folder that went away (tensorboard #5759).
    """

    def __init__(self, name: str, tracker: TrainerCallback) -> None:
        self._name = name
        self._tracker: TrainerCallback | None = tracker

    def tell(self, event: str, *arguments: Any, **details: Any) -> None:
        """Pass one event on."""
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, event)(*arguments, **details)
        except Exception as error:
            self._tracker = None
            warn(self._name, error)


def _teller(event: str) -> Any:
    def tell(self: Guarded, *arguments: Any, **details: Any) -> None:
        self.tell(event, *arguments, **details)

    return tell


# Trainer calls one method per event.
for _event in EVENTS:
    setattr(Guarded, _event, _teller(_event))


@contextmanager
def trackers(names: Sequence[str], tracked: Tracked) -> Iterator[list[TrainerCallback]]:
    """Yield the callbacks of the named trackers, those that can be opened; close them when the block ends.

    Args:
        names: Of `OPENERS`.
        tracked: What they are told of.
    """
    with ExitStack() as stack:
        made: list[TrainerCallback] = []
        for name in names:
            try:
                opened = OPENERS[name](tracked)
                made.append(Guarded(name, opened.__enter__()))
                stack.push(_closing(name, opened))
            except Exception as error:
                warn(name, error)
        yield made


def _closing(name: str, opened: AbstractContextManager[TrainerCallback]) -> Callable[..., bool]:
    """Return what closes a tracker at the end of the block, however it ends; its trouble is said."""

    def close(*ending: Any) -> bool:
        try:
            opened.__exit__(*ending)
        except Exception as error:
            # A context manager passes on what ended the block; that is not the tracker's own.
            if error is not ending[1]:
                warn(name, error)
        return False

    return close


def warn(name: str, error: Exception) -> None:
    """Say once that a tracker is out; everything it would have shown stands in `metrics.jsonl` too."""
    reason = " ".join(str(error).split())[:200]
    log.warning("tracker %s stopped (%s: %s); training continues, and metrics.jsonl has its figures",
                name, type(error).__name__, reason)  # fmt: skip
