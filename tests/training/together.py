"""Trainings of several processes, as torchrun starts them, and what they leave."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from medqa_finetune.ranks import RANK
from medqa_finetune.record.read import read_record
from medqa_finetune.record.schema import Record, TrainRecord
from scripts.command_line import environment
from tests.commands import TINY

# Of loss curves of one process and of several, in fp32.
TOLERANCE = 1e-4
# A training that is long enough to be stopped.
LONG = ("data=20k", "train.epochs=1000", "train.max_steps=120", "train.checkpoint_steps=10",
        "train.batch_size=7", "train.micro_batch=2", "train.max_length=64")  # fmt: skip


def command(processes: int, folder: Path, *arguments: str) -> list[str]:
    typed = ["-m", "medqa_finetune.train", *TINY, "train.logging_steps=1", f"outputs={folder}", *arguments]
    if processes == 1:
        return [sys.executable, *typed]
    # `--standalone` finds a free port.
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *typed]


def run(processes: int, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(processes, folder, *arguments), cwd=folder.parent, env=environment(folder.parent),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def record_in(outputs: Path) -> Record:
    (path,) = outputs.glob("demo/*/record.json")
    return read_record(path)


def training_in(outputs: Path) -> TrainRecord:
    found = record_in(outputs).train
    assert found is not None
    return found


def lines_in(outputs: Path, pattern: str) -> list[dict[str, Any]]:
    (path,) = outputs.glob(pattern)
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def assert_equal_curves(one: Path, other: Path) -> None:
    first, second = (lines_in(outputs, "demo/*/metrics.jsonl") for outputs in (one, other))
    for name in ("step", "loss", "eval_loss"):
        found = [[row[name] for row in rows if name in row] for rows in (first, second)]
        assert found[0] == pytest.approx(found[1], abs=TOLERANCE)


@contextmanager
def training(processes: int, outputs: Path, *arguments: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a training and give it back once it has a checkpoint of step 20, or of 20 steps after the newest."""
    begun = newest_step(outputs)
    process = subprocess.Popen(
        command(processes, outputs, *LONG, *arguments), cwd=outputs.parent,
        env=environment(outputs.parent) | variables,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while newest_step(outputs) < begun + 20:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        yield process
    finally:
        for each in ranks_of(process.pid):
            each.kill()
        process.kill()
        process.wait()


def newest_step(outputs: Path) -> int:
    """The step of the newest checkpoint; 0 without one."""
    return max((int(path.name.removeprefix("step-")) for path in outputs.glob("demo/*/checkpoints/step-*")), default=0)


def ranks_of(pid: int) -> Sequence[psutil.Process]:
    """The processes that torchrun has started, by rank."""
    try:
        return sorted(psutil.Process(pid).children(), key=lambda each: int(each.environ().get(RANK, "0")))
    except psutil.NoSuchProcess:
        return []
