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

# Resident memory of the largest child, in bytes, and CPU seconds of all, printed by
# a process that starts `summarize` and waits for it.
METER = (
    "import resource, subprocess, sys; code = subprocess.run([sys.executable, '-m', 'medqa_finetune.summarize', "
    "*sys.argv[1:]], stdout=subprocess.DEVNULL).returncode; "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime); sys.exit(code)"
)
HEADER = ("runs", "which", "seconds", "CPU seconds", "peak memory, MiB", "page, MiB", "limit, seconds")
MOST_LIMITED = 1000
LIMITS = {"many": 60.0, "six": 10.0}


def summary(options: argparse.Namespace) -> int:
    """Make run folders, summarize them in fresh processes, print seconds and memory, keep the figures."""
    started = heading("summary")
    bank = AnswerBank(options.questions)
    measured: list[dict[str, Any]] = []
    rows, late = [], False
    larger = [("many", many(count)) for count in options.runs]
    for what, runs in (("six", six()), ("six, three seeds", six(3)), *larger):
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.scratch) as folder:
            found = measure(Path(folder), runs, bank)
        measured.append({"what": what, "runs": len(runs), "questions": options.questions, **found})
        # Of a thousand runs; more may take longer.
        limit = LIMITS.get(what) if len(runs) <= MOST_LIMITED else None
        late |= limit is not None and found["seconds"] > limit
        memory = f"{found['peak_rss_bytes'] / 2**20:.0f}"
        rows.append(
            [
                f"{len(runs):,}",
                what,
                f"{found['seconds']:.1f}",
                f"{found['cpu_seconds']:.1f}",
                memory,
                f"{found['page_bytes'] / 2**20:.1f}",
                "–" if limit is None else f"{limit:.0f}",
            ]
        )
    print(markdown(HEADER, rows))
    keep(options.out, {**started, "limits": LIMITS, "measured": measured})
    return int(late)


def measure(root: Path, runs: list[MadeRun], bank: AnswerBank) -> dict[str, float]:
    """Return seconds, peak memory and the page's size of `summarize` over runs that are written below `root`."""
    for run in runs:
        write_run(root, run, bank)
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", METER, f"outputs={root}"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        problem = f"`summarize outputs={root}` failed: {last_line(done.stderr)}"
        raise RunError(Fault("process-failed", problem))
    seconds = time.perf_counter() - begin
    peak, cpu = map(float, done.stdout.split())
    page = (root / "summary" / "report.html").stat().st_size
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_rss_bytes": peak, "page_bytes": float(page)}
