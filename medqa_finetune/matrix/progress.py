"""One line in the terminal per running cell."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record

REFRESH_SECONDS = 1.0
TAIL_BYTES = 4096


class Progress:
    """Shows what a running cell is at: a line that rewrites itself in a terminal, nothing until the end elsewhere."""

    def __init__(self, label: str, run: RunDir) -> None:
        self._label = label
        self._run = run
        self._live = sys.stderr.isatty()
        self._shown_at = 0.0
        if not self._live:
            print(f"{label}  started", file=sys.stderr, flush=True)

    def show(self, seconds: float) -> None:
        """Refresh the line, about once a second."""
        if self._live and time.monotonic() - self._shown_at >= REFRESH_SECONDS:
            self._shown_at = time.monotonic()
            self._write(f"{_step(self._run)}  {seconds:.0f} s", end="")

    def finish(self, text: str) -> None:
        """Replace the line for good."""
        self._write(text, end="\n")

    def _write(self, text: str, end: str) -> None:
        start = "\r\033[K" if self._live else ""
        print(f"{start}{self._label}  {text}", end=end, file=sys.stderr, flush=True)


def outcome(record: Record | None) -> str:
    """Say in a few words how a run ended."""
    if record is None:
        return "failed: no readable record"
    if record.status != "done" or record.evaluation is None:
        return f"{record.status}: {record.failure.message if record.failure else 'no reason recorded'}"
    scores = record.evaluation.scores
    shown = [
        f"{name} {scores[key].value:.2f}" for key, name in (("rougeL", "ROUGE-L"), ("bleu", "BLEU")) if key in scores
    ]
    return "  ".join(["done", *shown])


def _step(run: RunDir) -> str:
    row = _last_row(run.metrics_path)
    if run.predictions_path.exists():
        return "answering the test questions"
    if not row:
        return "preparing"
    shown = f"training  step {row['step']}/{row['steps']}"
    if row.get("loss") is not None:
        shown += f"  loss {row['loss']:.3f}"
    if row.get("tokens_per_second"):
        shown += f"  {row['tokens_per_second']:,.0f} tokens/s"
    return shown


def _last_row(path: Path) -> Mapping[str, Any]:
    """Return the last whole line of `metrics.jsonl`, read from the end; empty if there is none yet."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().rpartition(b"\n")[0].split(b"\n")
        row: Mapping[str, Any] = json.loads(lines[-1])
        return row
    except (OSError, ValueError):
        return {}
