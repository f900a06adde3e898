"""Measures the speed-up of single options over plain torch: the same training in turns, medians of several rounds."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medqa_finetune.errors import ConfigError, Fault
from scripts.benchmarks.ours import TRAIN, run_ours
from scripts.benchmarks.results import GIB, heading, keep, markdown, shown, spread
from scripts.benchmarks.speed import Job, make_work, plan_jobs, settings_of

HEADER = ("work", "method", "option", "train samples/s", "times the first", "training, s", "mean loss",
          "peak RSS, GiB", "peak VRAM, GiB")  # fmt: skip
PLAIN = "adamw_torch"
DROPOUT, FUSED = "method.dropout=0.05", "train.fused_adapters=true"
CHECKPOINTING = "train.gradient_checkpointing=true"
Figures = dict[str, Any]


def _optimizer(name: str, *changes: str) -> tuple[str, ...]:
    # With peft's own layers, so that a single thing differs from plain torch.
    usual = () if changes else ("train.fused_adapters=false",)
    return (f"method.optimizer={name}", f"method.optimizer_without_cuda={name}", *usual, *changes)


@dataclass(frozen=True)
class Option:
    """An option to measure: changed settings, or another training program.

    Attributes:
        changes: Overrides of settings.
        program: Module that trains.
        devices: Devices that it supports.
    """

    changes: tuple[str, ...] = ()
    program: str = TRAIN
    devices: tuple[str, ...] = ("cpu", "cuda")


OPTIONS: dict[str, Option] = {
    PLAIN: Option(_optimizer(PLAIN)),
    "fused_adapters": Option(_optimizer(PLAIN, FUSED)),
    "dropout": Option((*_optimizer(PLAIN), DROPOUT)),
    "dropout_fused": Option((*_optimizer(PLAIN, FUSED), DROPOUT)),
    "checkpointing_fused": Option((*_optimizer(PLAIN, FUSED), CHECKPOINTING)),
    "adamw_torch_fused": Option(_optimizer("adamw_torch_fused")),
    "adamw_8bit": Option(_optimizer("adamw_8bit"), devices=("cuda",)),
    "paged_adamw": Option(_optimizer("paged_adamw"), devices=("cuda",)),
    "paged_adamw_8bit": Option(_optimizer("paged_adamw_8bit"), devices=("cuda",)),
    "liger": Option((*_optimizer(PLAIN), "train.kernels=liger"), devices=("cuda",)),
    "compile": Option(_optimizer(PLAIN), program="scripts.benchmarks.compiled_stage"),
}


def names_for(asked: Sequence[str], device: str) -> list[str]:
    """Return the options to measure, plain torch first: those requested, or all that the device supports.

    Raises:
        ConfigError: a requested option needs another device.
    """
    able = [name for name in OPTIONS if device in OPTIONS[name].devices and name != PLAIN]
    unable = [name for name in asked if name not in able]
    if unable:
        raise ConfigError(Fault("not-allowed", f"not on {device}", key="--try", got=unable[0], allowed=tuple(able)))
    return [PLAIN, *(asked or able)]


def options(asked: argparse.Namespace) -> int:
    """Make the input, run the rounds, print the table and save the figures; return the exit code."""
    names, started, jobs = names_for(asked.tried, asked.device), heading("options"), plan_jobs(asked)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=asked.scratch) as folder:
        work = Path(folder).resolve()
        make_work(jobs, asked, work)
        rows = [row for number in range(asked.rounds) for row in _round(number, jobs, names, asked, work)]
    summaries = summarize(rows)
    print(table(summaries))
    settings = {name: value for name, value in vars(asked).items() if not isinstance(value, Path)}
    keep(asked.out, {
        **started, "settings": settings, "own_pairs": asked.pairs is not None, "summaries": summaries, "rounds": rows,
    })  # fmt: skip
    return int(any("failed" in row for row in rows))


def _round(
    number: int, jobs: Sequence[Job], names: Sequence[str], asked: argparse.Namespace, work: Path
) -> Iterable[Figures]:
    """Train every job with every option once; the order rotates between rounds."""
    for job in jobs:
        # One question, since evaluation is not measured here.
        settings = replace(settings_of(job, asked, work), predict=False)
        begin = number % len(names)
        for name in [*names[begin:], *names[:begin]]:
            with tempfile.TemporaryDirectory(dir=work) as outputs:
                option = OPTIONS[name]
                figures = run_ours(
                    settings, Path(outputs), work / "ours.log", changes=option.changes, program=option.program
                )
            row = {"round": number + 1, "work": job.title(), "method": job.method, "option": name, **figures}
            print(json.dumps({key: row[key] for key in row if key != "versions"}), file=sys.stderr)
            yield row


def summarize(rows: Sequence[Figures]) -> list[Figures]:
    """Return one summary per work, method and option: median and spread of every figure over the rounds.

    `speedup` is the samples per second as a multiple of plain torch's in the same round.
    """
    kinds = dict.fromkeys((row["work"], row["method"], row["option"]) for row in rows)
    plain = {_place(row): row.get("train_samples_per_second") for row in rows if row["option"] == PLAIN}
    summaries = []
    for work, method, option in kinds:
        found = [row for row in rows if (row["work"], row["method"], row["option"]) == (work, method, option)]
        done = [row for row in found if "failed" not in row]
        figures = ("train_samples_per_second", "train_seconds", "mean_loss", "peak_rss_bytes", "peak_vram_bytes")
        ratios = [row["train_samples_per_second"] / base for row in done if (base := plain.get(_place(row)))]
        summaries.append({
            "work": work, "method": method, "option": option, "rounds": len(done),
            "failed": [row["failed"] for row in found if "failed" in row], "speedup": spread(ratios),
            **{name: spread(row.get(name) for row in done) for name in figures},
        })  # fmt: skip
    return summaries


def _place(row: Figures) -> tuple[Any, ...]:
    return (row["round"], row["work"], row["method"])


def table(summaries: Sequence[Figures]) -> str:
    """Format the summaries as a Markdown table."""

    def line(row: Figures) -> list[str]:
        memory = [row[name] and {key: value / GIB for key, value in row[name].items()}
                  for name in ("peak_rss_bytes", "peak_vram_bytes")]  # fmt: skip
        speed = "failed" if not row["rounds"] else shown(row["train_samples_per_second"])
        return [row["work"], row["method"], row["option"], speed, shown(row["speedup"]), shown(row["train_seconds"], 1),
                shown(row["mean_loss"], 3), *map(shown, memory)]  # fmt: skip

    return markdown(HEADER, map(line, summaries))
