"""Runs our own training through the users' command line, and reads its figures from the record."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.benchmarks.processes import ROOT, last_line
from scripts.benchmarks.settings import WARM_UP_STEPS, Settings

TRAIN = "medqa_finetune.train"


def command(settings: Settings, outputs: Path, program: str = TRAIN) -> list[str]:
    """Return the command line that trains and generates predictions according to the settings."""
    as_peers = [
        "method.dropout=0.0", f"train.micro_batch={settings.micro_batch}",
        f"train.gradient_checkpointing={str(settings.gradient_checkpointing).lower()}",
    ]  # fmt: skip
    return [
        sys.executable, "-m", program, f"method={settings.method}", "data=all", "corpus=jsonl",
        "model=local", "tracker=none", f"model.path={settings.model}", f"corpus.path={settings.data}/pairs.jsonl",
        f"outputs={outputs}", f"precision={'bf16' if settings.device == 'cuda' else 'fp32'}",
        f"data.train_size={settings.rows}", "data.validation_size=1", f"data.test_size={settings.eval_rows}",
        "data.near_duplicate_threshold=1.0", f"seed={settings.seed}", f"method.rank={settings.rank}",
        f"method.alpha={settings.alpha}", "train.epochs=1.0", f"train.batch_size={settings.batch}",
        f"train.learning_rate={settings.learning_rate}", "train.scheduler=linear", "train.warmup_ratio=0.0",
        f"train.max_length={settings.max_length}", f"train.logging_steps={settings.logging_steps}",
        f"train.warmup_steps_unmetered={WARM_UP_STEPS}", "train.validations=1", "train.checkpoint_minutes=600",
        f"evaluate.max_new_tokens={settings.max_new_tokens}", "evaluate.metrics=[rouge]",
        f"evaluate.max_samples={settings.eval_rows if settings.predict else 1}",
        *([] if settings.own_defaults else as_peers),
    ]  # fmt: skip


def run_ours(
    settings: Settings,
    outputs: Path,
    log: Path,
    python_path: Path = ROOT,
    *,
    changes: Sequence[str] = (),
    program: str = TRAIN,
) -> dict[str, Any]:
    """Run our training in a fresh process; return the figures, or `{"failed": reason}`.

    Args:
        settings: The work.
        outputs: Empty folder for the run.
        log: File for the run's output.
        python_path: Folder from which the package is imported.
        changes: Further overrides of settings.
        program: Module that takes this command line.
    """
    # As for peers: without a visible GPU, everything runs on the CPU.
    hidden = {} if settings.device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(
            [*command(settings, outputs, program), *changes],
            stdout=out, stderr=subprocess.STDOUT, check=False, stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(python_path)} | hidden,
        )  # fmt: skip
    if done.returncode != 0:
        return {"failed": f"exit code {done.returncode}: {last_line(log.read_text(encoding='utf-8'))[:300]}"}
    (record,) = outputs.rglob("record.json")
    return figures(json.loads(record.read_text(encoding="utf-8")), record.with_name("metrics.jsonl"), settings)


def figures(record: dict[str, Any], metrics: Path, settings: Settings) -> dict[str, Any]:
    """Return a record's figures under the names that the peers' programs use, and a few of our own."""
    train, evaluation = record["train"], record["evaluation"]
    return {
        "train_samples_per_second": train["samples_per_second"],
        "train_seconds": train["seconds"],
        "mean_loss": mean_loss(metrics),
        "peak_rss_bytes": train["peak_rss_bytes"],
        "peak_vram_bytes": train["peak_vram_bytes"],
        "predict_samples_per_second": evaluation["samples_per_second"] if settings.predict else None,
        "flops_per_sample": train["flops"] / train["samples"],
        "matrix_flops_per_second": train["matrix_flops_per_second"],
        "tokens_per_sample": train["tokens"] / train["samples"],
        "device": record["environment"]["device"],
        "versions": record["environment"]["versions"],
    }


def mean_loss(metrics: Path) -> float:
    """Return the mean loss over all steps, as peers report it; each point of the curve covers the steps before it.

    Raises:
        ValueError: the curve does not reach the last step.
    """
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    points = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    if points[-1][0] != rows[-1]["steps"]:
        raise ValueError(f"{metrics}: the training loss ends at step {points[-1][0]} of {rows[-1]['steps']}")
    begins = [0, *(step for step, _ in points[:-1])]
    weighted = (loss * (step - begin) for begin, (step, loss) in zip(begins, points, strict=True))
    return float(sum(weighted) / points[-1][0])
