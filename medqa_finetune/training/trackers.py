"""Experiment trackers: TensorBoard, Weights & Biases and MLflow. Tracker failures never interrupt training.

What is logged, and under which names, is transformers' own integration. This module decides where a tracker stores its
files and what the run is named there, and lets a resumed training continue the same run.
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
# Tag of an MLflow run, by which a resumed training finds it.
MLFLOW_TAG = "medqa_finetune.run"


@dataclass(frozen=True)
class Tracked:
    """The training as trackers see it.

    Attributes:
        run: The run folder.
        name: Name of the run.
        outputs: Root of all run folders; contains stores shared by several runs.
        resumed_from: Step that training resumes from; None for a new one.
    """

    run: RunDir
    name: str
    outputs: Path
    resumed_from: int | None = None

    @property
    def id(self) -> str:
        """A unique id: the same at every restart, different for a training that starts from the beginning."""
        record = self.run.read()
        started = "" if record is None else f"{record.identity} {record.started}"
        return sha256_of_text(f"{self.run.path.resolve()} {started}")[:16]


Opener = Callable[[Tracked], AbstractContextManager[TrainerCallback]]


@contextmanager
def _tensorboard(tracked: Tracked) -> Iterator[TrainerCallback]:
    from torch.utils.tensorboard import SummaryWriter

    # Points after the resumed step are dropped from the curves.
    purge = None if tracked.resumed_from is None else tracked.resumed_from + 1
    with SummaryWriter(str(tracked.run.tensorboard_path), purge_step=purge) as writer:
        yield TensorBoardCallback(writer)  # type: ignore[no-untyped-call]


@contextmanager
def _wandb(tracked: Tracked) -> Iterator[TrainerCallback]:
    # Its error reports are network calls that the user did not request.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    # Without a key it would prompt for one, and an unattended training would wait for ever.
    if wandb_mode() in ("online", "shared") and not wandb.login(prompt=False):
        raise RuntimeError("not logged in; run `wandb login` or set WANDB_MODE=offline")
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=tracked.name,
        id=tracked.id,
        resume="allow",
        dir=str(tracked.run.path),
    )
    failed = 1
    try:
        yield WandbCallback()  # type: ignore[no-untyped-call]
        failed = 0
    finally:
        run.finish(exit_code=failed)


@contextmanager
def _mlflow(tracked: Tracked) -> Iterator[TrainerCallback]:
    # No network calls, no warnings about long settings, no line for every table that it creates.
    defaults = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_FLATTEN_PARAMS": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    import mlflow

    with FileLock(tracked.outputs / ".mlflow.lock"):  # cells that start at the same time would all create the store
        _choose_experiment(tracked.outputs.resolve())
        earlier = mlflow.search_runs(
            filter_string=f"tags.`{MLFLOW_TAG}` = '{tracked.id}'", max_results=1, output_format="list"
        )
        mlflow.start_run(
            run_id=earlier[0].info.run_id if earlier else None, run_name=tracked.name, tags={MLFLOW_TAG: tracked.id}
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
    """Select MLflow's store: from the environment, or one below `outputs` for all runs."""
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
    """Forwards events to a tracker until it raises; then logs the error once, and stops calling it.

    For example, TensorBoard's writer raises when the disk is full or its folder is deleted (tensorboard #5759).
    """

    def __init__(self, name: str, tracker: TrainerCallback) -> None:
        self._name = name
        self._tracker: TrainerCallback | None = tracker

    @property
    def has_stopped(self) -> bool:
        """Whether the tracker has raised."""
        return self._tracker is None

    def pass_on(self, event: str, *arguments: object, **details: object) -> None:
        """Call the tracker's method for an event; the first exception is logged and ends all further calls."""
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, event)(*arguments, **details)
        except Exception as error:
            self._tracker = None
            _warn(self._name, error)


def _passing_on(event: str) -> Callable[..., None]:
    def on_event(self: Guarded, *arguments: object, **details: object) -> None:
        self.pass_on(event, *arguments, **details)

    return on_event


# Trainer calls one method per event.
for _event in EVENTS:
    setattr(Guarded, _event, _passing_on(_event))


@contextmanager
def trackers(names: Sequence[str], tracked: Tracked) -> Iterator[list[TrainerCallback]]:
    """Yield the callbacks of the trackers that could be opened; close them at the end of the block.

    Args:
        names: Keys of `OPENERS`.
        tracked: The training as trackers see it.
    """
    with ExitStack() as stack:
        made: list[TrainerCallback] = []
        for name in names:
            try:
                opened = OPENERS[name](tracked)
                guarded = Guarded(name, opened.__enter__())
                made.append(guarded)
                stack.push(_closing(name, opened, guarded))
            except Exception as error:
                _warn(name, error)
        yield made


def _closing(name: str, opened: AbstractContextManager[TrainerCallback], guarded: Guarded) -> Callable[..., bool]:
    def close(*ending: Any) -> bool:
        try:
            opened.__exit__(*ending)
        except Exception as error:
            # A context manager re-raises what ended the block; that is no error of the tracker. What has stopped it
            # mostly happens again when it is closed.
            if error is not ending[1] and not guarded.has_stopped:
                _warn(name, error)
        return False

    return close


def _warn(name: str, error: Exception) -> None:
    """Log that a tracker has stopped."""
    reason = " ".join(str(error).split())[:200]
    problem = f"{type(error).__name__}: {reason}"
    log.warning("tracker %s stopped (%s); training continues, and metrics.jsonl has its figures", name, problem)
