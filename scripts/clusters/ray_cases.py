"""What is done to a cell on Ray."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import psutil

from scripts.clusters.ray_server import Server
from scripts.clusters.stage import LEAVES, LIMIT_SECONDS, WAITS, Case, Stage, run_of, until_training, wait_until


@dataclass
class RayStage(Stage):
    """A Ray cluster of a head and a node.

    Attributes:
        server: The cluster.
    """

    server: Server
    queue: ClassVar[str] = "ray"
    # Its GPUs would only be claimed.
    options: ClassVar[tuple[str, ...]] = ("hydra/launcher=ray", "hydra.launcher.gpus_per_cell=0")

    def replace_node(self) -> None:
        """Take the node away under its cell; another one is there."""
        self.server.add_node()
        self.server.remove_node()


def _of_cell(outputs: Path) -> list[psutil.Process]:
    """Return the cell's process, and the one on its node that runs it."""
    record = run_of(outputs).read()
    if record is None or record.process is None:
        raise SystemExit("the cell does not run")
    cell = psutil.Process(record.process.pid)
    return [parent for parent in [cell.parent()] if parent is not None] + [cell]


def _lose_node(stage: RayStage, outputs: Path) -> None:
    processes = _of_cell(outputs)
    for process in processes:
        # So that it does not notice the end of its node, as on a machine without power.
        process.suspend()
    stage.replace_node()
    for process in processes:
        process.kill()


def _kill_worker(stage: RayStage, outputs: Path) -> None:
    (worker,) = [each for each in psutil.process_iter() if each.name().startswith("ray::run_command")]
    worker.kill()


def _waiting(act: Callable[[RayStage, Path], None], stage: RayStage, outputs: Path) -> int:
    """Disturb the training while the command waits, and return its exit code."""
    with stage.start(outputs, WAITS) as process:
        until_training(outputs)
        act(stage, outputs)
        process.communicate(timeout=LIMIT_SECONDS)
        return process.returncode


def _left(act: Callable[[RayStage, Path], None], stage: RayStage, outputs: Path) -> int:
    """Submit and leave, disturb the training, and return the exit code."""
    code = stage.run(outputs, LEAVES).returncode
    until_training(outputs)
    act(stage, outputs)
    return code


def _signal_launcher(number: signal.Signals, stage: RayStage, outputs: Path) -> int:
    with stage.start(outputs, WAITS) as process:
        until_training(outputs)
        process.send_signal(number)
        process.communicate(timeout=LIMIT_SECONDS)
    return process.returncode


def _stop_job(stage: RayStage, outputs: Path) -> None:
    (log,) = outputs.glob("*/ray/lora*.log")
    address = log.with_name("dashboard").read_text(encoding="utf-8").strip()
    stage.ask("ray", "job", "stop", "--no-wait", "--address", address, log.stem)
    _until_stopped(stage, outputs)


def _until_stopped(stage: RayStage, outputs: Path) -> None:
    def is_stopped() -> bool:
        record = run_of(outputs).read()
        return record is not None and record.status == "interrupted"

    wait_until(is_stopped)


def _time_out(stage: RayStage, outputs: Path) -> int:
    return stage.run(outputs, WAITS, "hydra.launcher.time=0:00:50", "hydra.launcher.grace_seconds=20").returncode


CASES: Mapping[str, Case[RayStage]] = {
    "node-removed": Case("its node is stopped (`ray stop`)", partial(_waiting, lambda stage, _: stage.replace_node())),
    "node-lost": Case("its node is gone at once, with all processes", partial(_waiting, _lose_node)),
    "worker-killed": Case("`kill -9` of its worker of Ray", partial(_waiting, _kill_worker)),
    "time-out": Case("its time limit comes near, again and again", _time_out),
    "launcher-stopped": Case("SIGTERM to the launcher while it waits", partial(_signal_launcher, signal.SIGTERM)),
    "launcher-killed": Case("`kill -9` of the launcher while it waits", partial(_signal_launcher, signal.SIGKILL)),
    "left": Case("nothing; the launcher submits and leaves", partial(_left, lambda *_: None)),
    "left-node-lost": Case("its node is gone at once, the launcher has left", partial(_left, _lose_node)),
    "job-stopped": Case("`ray job stop`, the launcher has left", partial(_left, _stop_job)),
}
