"""Compares our training and generation with peers: the same work in turns, medians of several rounds."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_finetune.errors import ConfigError, Fault
from scripts.benchmarks.ours import run_ours
from scripts.benchmarks.processes import ROOT, last_line, run_module
from scripts.benchmarks.results import GIB, heading, keep, markdown, shown, spread
from scripts.benchmarks.settings import Settings, write_settings

OURS = "medqa_finetune"
PEERS = {"trl": "run_trl", "llamafactory": "run_llamafactory"}
# Real examples have about this many tokens; of longer ones fewer are made, so that rounds take equally long.
TOKENS_OF_REAL = 150
LEAST_STEPS = 4
HEADER = ("work", "method", "by", "train samples/s", "ours is", "mean loss", "peak RSS, GiB", "peak VRAM, GiB",
          "predict samples/s", "of matrix rate")  # fmt: skip
Figures = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One benchmark job: `batch` examples per step, as long as in the data or of `tokens` tokens, with one method."""

    tokens: int | None
    method: str
    batch: int

    def title(self) -> str:
        """Name of the job in the table."""
        return f"batch {self.batch}, {'real lengths' if self.tokens is None else f'{self.tokens} tokens'}"


def plan_jobs(options: argparse.Namespace) -> list[Job]:
    """Return the jobs; for qlora also a single example of 512 tokens per step, for the minimum memory."""
    jobs = [Job(tokens, method, options.batch) for tokens in (None, *options.tokens) for method in options.methods]
    return jobs + ([Job(512, "qlora", 1)] if "qlora" in options.methods else [])


def settings_of(job: Job, options: argparse.Namespace, work: Path) -> Settings:
    """Return what is run for a job."""
    rows = options.rows if job.tokens is None else options.rows * TOKENS_OF_REAL // job.tokens
    micro_batch = min(job.batch, options.micro_batch or job.batch)
    return Settings(
        model=str(work / "model"),
        data=str(work / f"{job.tokens or 'real'}-{job.batch}"),
        method=job.method,
        device=options.device,
        rows=max(LEAST_STEPS, rows // job.batch) * job.batch,
        eval_rows=options.eval_rows if job.tokens is None else 1,
        predict=job.tokens is None,
        batch=job.batch,
        micro_batch=micro_batch,
        max_length=job.tokens or 1024,
        gradient_checkpointing=options.gradient_checkpointing or job.batch == 1,
        max_new_tokens=options.max_new_tokens,
        own_defaults=options.own_defaults,
    )


def make_work(jobs: Sequence[Job], options: argparse.Namespace, work: Path) -> None:
    """Make the model and the data of every job, in separate processes to free their memory.

    Raises:
        ConfigError: it failed; says why.
    """
    pairs = [] if options.pairs is None else ["--pairs", str(options.pairs)]
    tokenizer = [] if options.tokenizer is None else ["--tokenizer", str(options.tokenizer)]
    _make("model", work / "model", [*pairs, *tokenizer, "--architecture", options.model])
    for settings, job in {(s := settings_of(job, options, work)).data: (s, job) for job in jobs}.values():
        sizes = ["--train", str(settings.rows), "--eval", str(settings.eval_rows), "--longest", str(options.longest)]
        lengths = [] if job.tokens is None else ["--tokens", str(job.tokens), "--tokenizer", settings.model]
        _make("data", Path(settings.data), [*pairs, *sizes, *lengths])


def _make(what: str, folder: Path, arguments: list[str]) -> None:
    print(f"making {folder.name} …", file=sys.stderr)
    done = run_module("scripts.benchmarks.make_work", [what, str(folder), *arguments])
    if done.returncode != 0:
        raise ConfigError(Fault("process-failed", f"the work could not be made: {last_line(done.stderr)}"))


def find_peers(pythons: dict[str, Path | None]) -> dict[str, tuple[Path, str]]:
    """Return the peers that can be run, each with its Python and version; say why the others are left out."""
    found = {}
    for name, python in pythons.items():
        reason = f"no --{name} PYTHON was given"
        if python is not None:
            code = f"import importlib.metadata as m; print(m.version({name!r}))"
            try:
                asked = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
                reason = f"{python} has no {name}"
            except OSError as error:
                reason = f"{python}: {error.strerror}"
            else:
                if asked.returncode == 0:
                    # Not resolved: a link in a virtual environment is what makes it one.
                    found[name] = (python.absolute(), asked.stdout.strip())
                    continue
        print(f"{name} is left out: {reason}")
    return found


def run_peer(name: str, python: Path, settings: Settings, work: Path) -> Figures:
    """Run a peer in its own environment; return the figures, or `{"failed": reason}`."""
    path = work / "settings.json"
    write_settings(path, settings)
    hidden = {} if settings.device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [str(python), "-m", f"scripts.benchmarks.{PEERS[name]}", str(path)],
        cwd=settings.data, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"} | hidden,
    )  # fmt: skip
    (work / f"{name}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        return {"failed": f"exit code {done.returncode}: {last_line(done.stderr)[:300]}"}
    answer: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def run_rounds(
    jobs: Sequence[Job], peers: dict[str, tuple[Path, str]], options: argparse.Namespace, work: Path
) -> list[Figures]:
    """Run every job with every program, round by round; the order rotates between rounds."""
    rows = []
    for number in range(options.rounds):
        for job in jobs:
            settings = settings_of(job, options, work)
            names = [OURS, *peers]
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if name == OURS:
                    with tempfile.TemporaryDirectory(dir=work) as outputs:
                        figures = run_ours(settings, Path(outputs), work / "ours.log")
                else:
                    figures = run_peer(name, peers[name][0], settings, work)
                row = {"round": number + 1, "work": job.title(), "method": job.method, "by": name, **figures}
                print(json.dumps({key: row[key] for key in row if key != "versions"}), file=sys.stderr)
                rows.append(row)
    return rows


def summarize(rows: Sequence[Figures], jobs: Sequence[Job]) -> list[Figures]:
    """Return one summary per job and runner: median and spread of every figure over the rounds."""
    summaries = []
    for job in jobs:
        of_job = [row for row in rows if (row["work"], row["method"]) == (job.title(), job.method)]
        mine = next((row for row in of_job if row["by"] == OURS and "failed" not in row), {})
        flops, rates = mine.get("flops_per_sample"), spread(row.get("matrix_flops_per_second") for row in of_job)
        for name in dict.fromkeys(row["by"] for row in of_job):
            done = [row for row in of_job if row["by"] == name and "failed" not in row]
            failed = [row["failed"] for row in of_job if row["by"] == name and "failed" in row]
            speeds = [row["train_samples_per_second"] for row in done]
            # All programs are credited with the same useful FLOPs, however they compute.
            shares = [speed * flops / rates["median"] for speed in speeds] if flops and rates else []
            names = ("mean_loss", "predict_samples_per_second", "peak_rss_bytes", "peak_vram_bytes")
            summaries.append({
                "work": job.title(), "method": job.method, "by": name, "rounds": len(done), "failed": failed,
                "train_samples_per_second": spread(speeds), "model_flops_utilization": spread(shares),
                **{figure: spread(row.get(figure) for row in done) for figure in names},
            })  # fmt: skip
    return summaries


def table(summaries: Sequence[Figures]) -> str:
    """Format the summaries as a Markdown table."""
    ours = {(row["work"], row["method"]): row["train_samples_per_second"] for row in summaries if row["by"] == OURS}

    def line(row: Figures) -> list[str]:
        mine, theirs = ours.get((row["work"], row["method"])), row["train_samples_per_second"]
        ratio = f"{mine['median'] / theirs['median']:.2f} ×" if mine and theirs and row["by"] != OURS else ""
        memory = [row[name] and {key: value / GIB for key, value in row[name].items()}
                  for name in ("peak_rss_bytes", "peak_vram_bytes")]  # fmt: skip
        return [row["work"], row["method"], row["by"], "failed" if not row["rounds"] else shown(theirs), ratio,
                shown(row["mean_loss"], 3), *map(shown, memory), shown(row["predict_samples_per_second"]),
                shown(row["model_flops_utilization"])]  # fmt: skip

    return markdown(HEADER, map(line, summaries))


def speed(options: argparse.Namespace) -> int:
    """Make the work, run the rounds, print the table and keep the figures; return the exit code."""
    peers = find_peers({"trl": options.trl, "llamafactory": options.llamafactory})
    jobs, started = plan_jobs(options), heading("speed")
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.scratch) as folder:
        work = Path(folder).resolve()
        make_work(jobs, options, work)
        rows = run_rounds(jobs, peers, options, work)
    summaries = summarize(rows, jobs)
    print(table(summaries))
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    places = ("run", "out", "scratch", "pairs", "tokenizer", "trl", "llamafactory")
    keep(options.out, {
        **started, "peers": {name: version for name, (_, version) in peers.items()},
        "settings": {name: value for name, value in asked.items() if name not in places},
        "own_pairs": options.pairs is not None, "summaries": summaries, "rounds": rows,
    })  # fmt: skip
    return int(any(row["by"] == OURS and "failed" in row for row in rows))
