"""Measures start-up and overhead: `--help`, and a whole cell with the shipped model."""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from medqa_finetune.errors import Fault, RunError
from scripts.benchmarks.processes import last_line, run_module
from scripts.benchmarks.results import heading, keep, markdown, shown, spread

CELL = ("profile=demo", "method=lora", "data=20k")
LIMITS = {"help": 1.0, "cell": 12.0}


def startup(options: argparse.Namespace) -> int:
    """Measure several times in fresh processes, print the table, keep the figures."""
    started = heading("startup")
    helps = [_seconds("--help") for _ in range(options.rounds)]
    cells = []
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.scratch) as folder:
        # The first one also prepares the corpus; the others find it in the cache, as the cells of a matrix do.
        for number in range(options.rounds):
            outputs = Path(folder) / "outputs"
            whole = _seconds(*CELL, f"outputs={outputs}", f"study=round-{number}")
            (record,) = (outputs / f"round-{number}").glob("*/record.json")
            cells.append(around(json.loads(record.read_text(encoding="utf-8")), whole))
    rows = [
        ["`python -m medqa_finetune.train --help`", shown(spread(helps)), str(LIMITS["help"])],
        [f"`{' '.join(CELL)}`, outside training and answering", shown(spread(cells)), str(LIMITS["cell"])],
    ]
    print(markdown(("what", "seconds", "limit"), rows))
    keep(options.out, {**started, "limits": LIMITS, "help_seconds": helps, "cell_seconds": cells})
    return int(median(helps) > LIMITS["help"] or median(cells) > LIMITS["cell"])


def around(record: dict[str, Any], whole: float) -> float:
    """Return a cell's seconds outside optimizer steps and generation: start, loading, validation, scoring, saving."""
    return whole - float(record["train"]["seconds"]) - float(record["evaluation"]["seconds"])


def _seconds(*arguments: str) -> float:
    begin = time.perf_counter()
    done = run_module("medqa_finetune.train", arguments)
    if done.returncode != 0:
        raise RunError(Fault("process-failed", f"`{' '.join(arguments)}` failed: {last_line(done.stderr)}"))
    return time.perf_counter() - begin
