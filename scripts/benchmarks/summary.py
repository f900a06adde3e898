"""Measures time and memory of `summarize` over many synthetic run folders, and over a matrix of six."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from medqa_finetune.errors import Fault, RunError
from scripts.benchmarks.made_runs import AnswerBank, MadeRun, many, six, write_run
from scripts.benchmarks.processes import last_line
from scripts.benchmarks.results import heading, keep, markdown

# Resident memory of the largest child, in bytes, printed by a process that starts `summarize` and waits for it.
METER = (
    "import resource, subprocess, sys; code = subprocess.run([sys.executable, '-m', 'medqa_finetune.summarize', "
    "*sys.argv[1:]], stdout=subprocess.DEVNULL).returncode; "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024); sys.exit(code)"
)
LIMITS = {"many": 60.0, "six": 10.0}


def summary(options: argparse.Namespace) -> int:
    """Make run folders, summarize them in fresh processes, print seconds and memory, keep the figures."""
    started = heading("summary")
    bank = AnswerBank(options.questions)
    measured: list[dict[str, Any]] = []
    rows = []
    for what, runs in (("six", six()), ("six, three seeds", six(3)), ("many", many(options.runs))):
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.scratch) as folder:
            found = measure(Path(folder), runs, bank)
        measured.append({"what": what, "runs": len(runs), "questions": options.questions, **found})
        limit = LIMITS.get(what)
        memory = f"{found['peak_rss_bytes'] / 2**20:.0f}"
        rows.append(
            [f"{len(runs):,}", what, f"{found['seconds']:.1f}", memory, "–" if limit is None else f"{limit:.0f}"]
        )
    print(markdown(("runs", "which", "seconds", "peak memory, MiB", "limit, seconds"), rows))
    keep(options.out, {**started, "limits": LIMITS, "measured": measured})
    return int(any(each["seconds"] > LIMITS.get(each["what"], float("inf")) for each in measured))


def measure(root: Path, runs: list[MadeRun], bank: AnswerBank) -> dict[str, float]:
    """Return seconds and peak memory of `summarize` over runs that are written below `root`."""
    for run in runs:
        write_run(root, run, bank)
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", METER, f"outputs={root}"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        problem = f"`summarize outputs={root}` failed: {last_line(done.stderr)}"
        raise RunError(Fault("process-failed", problem))
    return {"seconds": time.perf_counter() - begin, "peak_rss_bytes": float(done.stdout)}
