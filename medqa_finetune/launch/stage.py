"""Reads the stage of a running cell from the files of its run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medqa_finetune.launch.exit_status import read_or_none
from medqa_finetune.progress import Doing
from medqa_finetune.record.evaluations import CellDir

TAIL_BYTES = 4096
Row = Mapping[str, float]


@dataclass(frozen=True)
class ProgressRows:
    """The last rows of a run's `metrics.jsonl` and `answering.jsonl`; empty where there are none."""

    training: Row
    answering: Row


@dataclass(frozen=True)
class Stage:
    """The current stage of a running cell and its progress.

    Attributes:
        name: Name of the stage; `running` if nothing more is known.
        at: Steps taken or questions answered.
        of: Total steps or questions.
        vram_gib: GPU memory held by tensors, in GiB; None on a CPU.
    """

    name: str
    at: float | None = None
    of: float | None = None
    loss: float | None = None
    tokens_per_second: float | None = None
    vram_gib: float | None = None


def read_progress(run: CellDir) -> ProgressRows:
    """Read the run's progress files."""
    answering = {} if run.evaluation is None else _last_row(run.evaluation.answering_path)
    return ProgressRows(_last_row(run.run.metrics_path), answering)


def read_stage(run: CellDir, before: ProgressRows, said: Doing | None = None) -> Stage:
    """Return the stage of a running cell: what its process says, with figures from the files of its run.

    Args:
        run: Its folder.
        before: The run's progress when the cell was started.
        said: What its process says; None for a program that says nothing, whose files alone tell the stage.
    """
    return _by_files(run, before) if said is None else _as_said(run, before, said)


def _by_files(run: CellDir, before: ProgressRows) -> Stage:
    record = read_or_none(run)
    if record is None:
        return Stage("running")
    marks = read_progress(run)
    training, answering = marks.training, marks.answering
    vram = training.get("vram_allocated_gib") or None
    if answering != before.answering:
        speed = _speed(answering)
        return Stage("answering", answering.get("answered"), answering.get("questions"), None, speed, vram)
    if record.status == "evaluated":
        return Stage("scoring")
    if record.is_trained:
        return Stage("answering" if training != before.training else "preparing")
    if training != before.training:
        steps, speed = training.get("steps"), training.get("tokens_per_second")
        return Stage("training", training.get("step"), steps, training.get("loss"), speed, vram)
    return Stage("preparing")


def _as_said(run: CellDir, before: ProgressRows, said: Doing) -> Stage:
    marks = read_progress(run)
    of_training = said.name in ("training", "validating") and marks.training != before.training
    vram = (marks.training.get("vram_allocated_gib") or None) if marks.training != before.training else None
    if of_training:
        loss = said.loss if said.loss is not None else marks.training.get("loss")
        speed = marks.training.get("tokens_per_second")
        return Stage(said.name, said.at, said.of, loss, speed, vram)
    speed = _speed(marks.answering) if marks.answering != before.answering else None
    return Stage(said.name, said.at, said.of, said.loss, speed, vram)


def _speed(answering: Row) -> float | None:
    """Return tokens per second of the last batch of predictions."""
    seconds, tokens = answering.get("seconds"), answering.get("tokens")
    return tokens / seconds if seconds and tokens else None


def _last_row(path: Path) -> Row:
    """Return the newest number of every key in the last rows of a JSON Lines file, which is read from its end."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, 2) - TAIL_BYTES)
            file.seek(start)
            lines = file.read().rpartition(b"\n")[0].split(b"\n")
        newest: dict[str, float] = {}
        for line in lines[1 if start else 0 :]:
            row = json.loads(line)
            newest |= {key: value for key, value in row.items() if isinstance(value, int | float)}
        return newest
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
