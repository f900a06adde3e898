"""Profiles training and generation by kind of operation."""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medqa_finetune.errors import Fault, RunError
from scripts.benchmarks.processes import last_line, run_module
from scripts.benchmarks.results import heading, keep, markdown
from scripts.benchmarks.settings import write_settings
from scripts.benchmarks.speed import make_work, plan_jobs, settings_of

# An operator's kind is the first with a word that its name contains.
KINDS = {
    "attention": ("attention", "attn", "flash"),
    "matrix products": ("::mm", "addmm", "bmm", "gemm", "matmul", "cutlass", "bitsandbytes", "nvjet"),
    "loss": ("softmax", "nll_loss", "cross_entropy"),
    "multiplications": ("::mul", "::mul_", "::div"),
    "additions": ("::add", "::add_", "::sub", "::sum", "::rsub"),
    "norms and activations": ("::pow", "rsqrt", "::mean", "silu", "gelu", "::neg", "::exp", "sigmoid", "layer_norm"),
    "copies and indices": ("copy", "::cat", "::clone", "index", "gather", "scatter", "::fill_", "zero_", "embedding",
                           "::slice", "::select", "::empty"),
    "optimizer": ("optimizer", "adam", "foreach", "norm"),
}  # fmt: skip
OTHER, OUTSIDE = "other operators", "Python, and waiting"


def profile(options: argparse.Namespace) -> int:
    """Make the input, run it once under the profiler, print the table and save the figures.

    Raises:
        RunError: the run failed.
    """
    job, started = plan_jobs(options)[0], heading("profile")
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.scratch) as folder:
        work = Path(folder).resolve()
        make_work([job], options, work)
        write_settings(work / "settings.json", settings_of(job, options, work))
        done = run_module("scripts.benchmarks.profile_stage", [str(work / "settings.json"), str(work / "outputs")])
    if done.returncode != 0:
        raise RunError(Fault("process-failed", f"the run under the profiler failed: {last_line(done.stderr)}"))
    measured: dict[str, Any] = json.loads(last_line(done.stdout))
    shares = {part: shares_of(found) for part, found in measured.items()}
    rows = [
        [kind, *(f"{100 * shares[part].get(kind, (0.0, 0))[0]:.1f} %" for part in measured),
         *(f"{shares[part].get(kind, (0.0, 0))[1]:,}" for part in measured)]
        for kind in (*KINDS, OTHER, OUTSIDE)
    ]  # fmt: skip
    print(markdown(("kind", *measured, *(f"calls, {part}" for part in measured)), rows))
    keep(options.out, {**started, "work": job.title(), "method": job.method, "shares": shares, "measured": measured})
    return 0


def shares_of(measured: Mapping[str, Any]) -> dict[str, tuple[float, int]]:
    """Return the share of the wall time, in [0, 1], and the number of calls of every kind.

    Args:
        measured: `seconds` of wall time, and `operators`: for each its `calls`, and the `seconds` in itself.
    """
    seconds, calls = dict.fromkeys((*KINDS, OTHER), 0.0), dict.fromkeys((*KINDS, OTHER), 0)
    for name, found in measured["operators"].items():
        kind = kind_of(name)
        seconds[kind] += found["seconds"]
        calls[kind] += found["calls"]
    shares = {kind: (seconds[kind] / measured["seconds"], calls[kind]) for kind in seconds}
    return shares | {OUTSIDE: (1 - sum(seconds.values()) / measured["seconds"], 0)}


def kind_of(operator: str) -> str:
    """Return the kind of an operator, by its name in torch's profiler."""
    name = operator.lower()
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), OTHER)
