"""Two processes against one: prints the table of README, "Several GPUs for one cell", within ten minutes.

Each training is compared with one of a single process, point by point of its curves: with two processes (gloo on CPUs,
NCCL on two GPUs), and stopped by a signal and resumed by another number of processes. Dropout is off, since each
process draws masks of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)] * (str(ROOT) not in sys.path)

from scripts.command_line import environment  # noqa: E402

STEPS = 60
# Trained long enough to be stopped on the way; at this rate, differences by rounding do not grow with what is learnt.
SETTINGS = ("profile=demo", "data=20k", "data.scale=0.01", f"train.max_steps={STEPS}", "train.logging_steps=1",
            "train.learning_rate=1e-4", "train.checkpoint_steps=10", "train.max_length=128", "evaluate.max_samples=2",
            "evaluate.max_new_tokens=4", "tracker=none", "precision=fp32", "threads=2")  # fmt: skip
METHODS = {
    "LoRA": ("method=lora", "method.dropout=0"),
    "QLoRA (NF4)": ("method=qlora", "method.dropout=0"),
    "full": ("method=full",),
    "full, divided": ("method=full", "train.sharding=full"),
}
# Numbers of processes, one start after the other; each but the last is stopped.
STARTS = ((2,), (2, 1), (1, 2))
# Between looks for a checkpoint.
LOOK_SECONDS = 0.05
LIMIT_SECONDS = 600.0


def command(processes: int, outputs: Path, settings: Sequence[str]) -> list[str]:
    """Return the command line of a training; of one process, without what needs several."""
    if processes == 1:
        settings = [each for each in settings if not each.startswith("train.sharding")]
    run = ["-m", "medqa_finetune.train", *SETTINGS, *settings, f"outputs={outputs}"]
    together = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [sys.executable, *(together if processes > 1 else []), *run]


def train(processes: int, outputs: Path, settings: Sequence[str], *, stop: bool = False) -> None:
    """Train to the end, or, `stop`, until 20 more steps have a checkpoint.

    Raises:
        SystemExit: the training failed.
    """
    begun = newest_step(outputs)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command(processes, outputs, settings), cwd=outputs.parent, env=environment(outputs.parent),
            stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
        while stop and process.poll() is None and newest_step(outputs) < begun + 20:
            time.sleep(LOOK_SECONDS)
        if stop:
            process.terminate()
        code = process.wait(LIMIT_SECONDS)
        if (code == 0) is stop:
            said.seek(0)
            raise SystemExit(f"exit code {code}\n{said.read().decode(errors='replace')[-3000:]}")


def newest_step(outputs: Path) -> int:
    """Return the step of the newest checkpoint; 0 without one."""
    names = [path.name.removeprefix("step-") for path in outputs.glob("*/*/checkpoints/step-*")]
    return max(map(int, names), default=0)


def points(outputs: Path, name: str) -> dict[int, float]:
    """Return a curve of the only run: values by step."""
    (path,) = outputs.glob("*/*/metrics.jsonl")
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    return {row["step"]: row[name] for row in rows if name in row}


def difference(one: Path, other: Path, name: str) -> float:
    """Return the largest difference of two curves.

    Raises:
        SystemExit: they have not the same points.
    """
    first, second = points(one, name), points(other, name)
    if first.keys() != second.keys():
        raise SystemExit(f"{other}: {name} has other points than with one process")
    return max(abs(first[step] - second[step]) for step in first)


def resumed_at(outputs: Path) -> str:
    """Return the steps that the only run was resumed at."""
    (path,) = outputs.glob("*/*/record.json")
    found = json.loads(path.read_text("utf-8"))["train"]["resumed_from"]
    return ", ".join(map(str, found)) or "–"


def main() -> None:
    """Train everything in a temporary folder, and print a row for each."""
    print("| method | processes | resumed at step | training loss, largest difference | validation loss |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="several-") as folder:
        for place, (title, settings) in enumerate(METHODS.items()):
            alone = Path(folder) / f"{place}-alone"
            train(1, alone, settings)
            for starts in STARTS:
                outputs = Path(folder) / f"{place}-{'-'.join(map(str, starts))}"
                for number, processes in enumerate(starts, start=1):
                    train(processes, outputs, settings, stop=number < len(starts))
                losses = [f"{difference(alone, outputs, name):.1e}" for name in ("loss", "eval_loss")]
                shown = " → ".join(map(str, starts))
                print(f"| {title} | {shown} | {resumed_at(outputs)} | {' | '.join(losses)} |", flush=True)


if __name__ == "__main__":
    main()
