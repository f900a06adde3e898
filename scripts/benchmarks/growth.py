"""Measures how seconds and memory of data preparation and training set-up grow with the number of examples."""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

from medqa_finetune.errors import Fault, RunError
from medqa_finetune.record.files import write_bytes
from scripts.benchmarks.made_pairs import made_pairs, read_rows, write_rows
from scripts.benchmarks.processes import last_line, run_module
from scripts.benchmarks.results import heading, keep, markdown

MIB = 2**20
HEADER = ("stage", "pairs", "seconds", "µs a pair", "grows as n^", "own memory, MiB", "with mapped files, MiB")
STAGES = {"prepare": "data preparation", "setup": "training set-up"}
Figures = dict[str, Any]


def growth(options: argparse.Namespace) -> int:
    """Measure every size, each stage in a fresh process; print the table, save figures and plot."""
    started, rows = heading("growth"), []
    source = read_rows(options.pairs)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.scratch) as folder:
        for size in sorted(options.sizes):
            corpus, cache = Path(folder) / f"{size}.jsonl", Path(folder) / f"cache-{size}"
            write_rows(corpus, made_pairs(source, size))
            rows.append(measure("prepare", size, corpus, [str(cache)]))
            if size <= options.largest_setup:
                more = ["--pairs", str(rows[-1]["done"]), "--tokenizer", str(options.tokenizer)]
                rows.append(measure("setup", rows[-1]["done"], corpus, [str(cache), *more]))
            corpus.unlink()
    print(table(rows))
    keep(options.out, {**started, "tokenizer": options.tokenizer.name, "rows": rows})
    if options.out is not None:
        write_bytes(options.out.with_suffix(".png"), draw(rows))
    return 0


def measure(stage: str, pairs: int, corpus: Path, arguments: Sequence[str]) -> Figures:
    """Run a stage in its own process, and return its figures.

    Raises:
        RunError: it failed.
    """
    print(f"{STAGES[stage]}, {pairs:,} pairs …", file=sys.stderr)
    done = run_module("scripts.benchmarks.growth_stage", [stage, str(corpus), *arguments])
    if done.returncode != 0:
        problem = f"{STAGES[stage]} of {pairs:,} pairs failed: {last_line(done.stderr)}"
        raise RunError(Fault("process-failed", problem, file=str(corpus)))
    return {"stage": stage, "pairs": pairs, **json.loads(done.stdout.splitlines()[-1])}


def exponents(rows: Sequence[Figures]) -> list[float | None]:
    """Return, for each row of one stage, the log-log slope of the seconds since the previous row."""
    slopes = [
        log(after["seconds"] / before["seconds"]) / log(after["pairs"] / before["pairs"])
        for before, after in pairwise(rows)
    ]
    return [None, *slopes]


def table(rows: Sequence[Figures]) -> str:
    """Format the figures of all stages as a table, one size per line."""
    lines = []
    for stage, title in STAGES.items():
        chosen = [row for row in rows if row["stage"] == stage]
        for row, slope in zip(chosen, exponents(chosen), strict=False):
            lines.append([
                title, f"{row['pairs']:,}", f"{row['seconds']:.2f}", f"{row['seconds'] / row['pairs'] * 1e6:.0f}",
                "" if slope is None else f"{slope:.2f}", f"{row['private_bytes'] / MIB:.0f}",
                f"{row['resident_bytes'] / MIB:.0f}",
            ])  # fmt: skip
    return markdown(HEADER, lines)


def draw(rows: Sequence[Figures]) -> bytes:
    """Plot seconds and memory over examples on logarithmic axes, and return the PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for stage, title in STAGES.items():
        chosen = [row for row in rows if row["stage"] == stage]
        pairs = [row["pairs"] for row in chosen]
        panels[0].loglog(pairs, [row["seconds"] for row in chosen], "o-", label=title)
        panels[1].loglog(pairs, [row["private_bytes"] / MIB for row in chosen], "o-", label=title)
    for panel, unit in zip(panels, ("seconds", "own memory, MiB"), strict=True):
        panel.set(xlabel="pairs", ylabel=unit)
        panel.grid(visible=True, which="both", alpha=0.3)
        panel.legend()
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=100)
    pyplot.close(figure)
    return written.getvalue()
