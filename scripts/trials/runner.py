"""Runs many trials in a few parallel processes."""

import json
import os
import random
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scripts.small_models import write_micro_model
from scripts.trials.checks import Lost
from scripts.trials.plan import FAULTS
from scripts.trials.trial import Trial
from scripts.trials.warm import Child

BROKEN = "the harness itself failed"
# Writes to a pipe up to this size are atomic.
LINE_BYTES = 4000


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `kind` is empty if all checks passed."""

    fault: str
    number: int
    kind: str = ""
    reason: str = ""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def prepare(shared: Path) -> None:
    """Write the model shared by all trials, with 100,000 random weights."""
    if not (shared / "model" / "config.json").is_file():
        shared.mkdir(parents=True, exist_ok=True)
        # In a child, since computing would start threads in this process, which forks.
        ended = Child(lambda: write_micro_model(shared / "model"), shared, shared / "none").end()
        if ended.code != 0:
            raise RuntimeError(f"no model could be written: {ended.errors}")


def run_trial(fault: str, number: int, seed: int, shared: Path) -> Outcome:
    """Run one trial in its own folder, which is kept if a check failed."""
    folder = shared / "trials" / f"{fault}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chance = random.Random(f"{seed} {fault} {number}")
    trial = Trial(f"{fault}-{number}", seed, number, shared, folder, chance)
    started = time.monotonic()
    try:
        FAULTS[fault].run(trial)
    except Lost as lost:
        return Outcome(fault, number, lost.kind, str(lost), time.monotonic() - started, trial.notes)
    except Exception:
        return Outcome(fault, number, BROKEN, traceback.format_exc()[-1500:], time.monotonic() - started, trial.notes)
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome(fault, number, "", "", time.monotonic() - started, trial.notes)


def run_all(jobs: Sequence[tuple[str, int]], seed: int, shared: Path, workers: int, limit: float) -> Iterator[Outcome]:
    """Run trials in `workers` processes, and yield each outcome; after `limit` seconds no new trial is started."""
    tasks, tasks_end = os.pipe()
    results, results_end = os.pipe()
    until = time.monotonic() + limit
    pids = []
    for _ in range(workers):
        pid = os.fork()
        if pid == 0:
            os.close(tasks_end)
            os.close(results)
            _work(tasks, results_end, jobs, seed, shared, until)
        pids.append(pid)
    os.close(results_end)
    os.close(tasks)
    with os.fdopen(tasks_end, "wb") as file:
        file.write(b"".join(number.to_bytes(4, "little") for number in range(len(jobs))))
    with os.fdopen(results, "rb") as file:
        for line in file:
            yield Outcome(**json.loads(line))
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    if any(statuses):
        raise RuntimeError("a process of the harness died; its trials are missing")


def _work(tasks: int, results: int, jobs: Sequence[tuple[str, int]], seed: int, shared: Path, until: float) -> None:
    code = 1
    try:
        while time.monotonic() < until and (number := os.read(tasks, 4)):
            outcome = run_trial(*jobs[int.from_bytes(number, "little")], seed, shared)
            os.write(results, _line(outcome))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _line(outcome: Outcome) -> bytes:
    content = asdict(outcome)
    log = {**content, "reason": outcome.reason[:1500]}
    while len(line := json.dumps(log).encode() + b"\n") > LINE_BYTES:
        log["notes"] = [note[: max(40, len(note) // 2)] for note in log["notes"]][-20:]
        if all(len(note) <= 40 for note in log["notes"]):
            log["notes"] = log["notes"][-5:]
            log["reason"] = str(log["reason"])[:600]
    return line
