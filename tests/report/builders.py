"""Records of made-up runs, as training would leave them."""

from pathlib import Path
from typing import Any

import pandas as pd

from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.record.schema import (
    DataManifest,
    Environment,
    EvaluationRecord,
    Failure,
    Parameters,
    Record,
    Score,
    SetManifest,
    TrainRecord,
)
from medqa_finetune.report.grouping import Group, groups_of
from medqa_finetune.report.load import load_runs
from medqa_finetune.report.runs import Run
from medqa_finetune.report.table import results_table

ROUGE_SIGNATURE = "rougeL|nrefs:1|tokens:chars|case:mixed|f1|mean:items|refs:best|empty:0"
BLEU_SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:2.6.0"
SIZES = {"20k": 20000, "50k": 50000, "100k": 100000}


def evaluation(rouge: float, bleu: float, n: int = 1000) -> EvaluationRecord:
    scores = {"rougeL": Score(rouge, ROUGE_SIGNATURE), "bleu": Score(bleu, BLEU_SIGNATURE)}
    scores["perplexity"] = Score(9.5, "perplexity|reference:first|tokens:answer+end|mean:token")
    return EvaluationRecord(n=n, scores=scores, seconds=50.0, samples_per_second=20.0, empty_rate=0.01)


def train(seconds: float, vram: int | None) -> TrainRecord:
    return TrainRecord(
        samples=20000, tokens=4_000_000, answer_tokens=3_000_000, steps=1250, epochs=1.0, seconds=seconds,
        optimizer="adamw_torch", samples_per_second=20000 / seconds, tokens_per_second=4e6 / seconds,
        model_flops_utilization=0.45, peak_vram_bytes=vram, peak_rss_bytes=3 * 2**30,
    )  # fmt: skip


def record(method: str = "lora", data: str = "20k", seed: int = 0, **changes: Any) -> Record:
    """A done run; a keyword replaces a field of the record."""
    size = SIZES[data]
    trains = "nothing" if method == "none" else "adapter"
    place = list(SIZES).index(data)
    rouge = 24 + 1.6 * place + (0.35 if method == "lora" else 0) + 0.15 * seed
    fields: dict[str, Any] = {
        "name": method if method == "none" else f"{method}_{data}" + (f"__seed={seed}" if seed else ""),
        "identity": f"{method}-{data}-{seed}",
        "status": "done",
        "method": method,
        "data": data,
        "model": "qwen2.5-3b",
        "seed": seed,
        "config": {
            "method": {"name": method, "trains": trains},
            "data": {"name": data, "train_size": size, "scale": 1.0},
            "corpus": {"name": "huatuo26m_lite"},
            "evaluate": {"metrics": ["rouge", "bleu", "perplexity"], "max_samples": None},
        },
        "data_manifest": DataManifest(
            "c" * 64, SetManifest(size, "a" * 64), SetManifest(1000, "b" * 64), SetManifest(1000, "1f2e" * 16)
        ),
        "parameters": Parameters(3_000_000_000, 0 if method == "none" else 30_000_000),
        "train": None if method == "none" else train(size / (5 if method == "lora" else 3.2), vram=_vram(method)),
        "evaluation": evaluation(18.1, 2.2) if method == "none" else evaluation(rouge, 4 + 0.4 * place),
        "environment": Environment({"python": "3.11"}, "NVIDIA T4", "fp16", None, ["train"]),
    }
    return Record(**fields | changes)


def _vram(method: str) -> int:
    return int((9.3 if method == "lora" else 5.1) * 2**30)


def failed(method: str, data: str, **changes: Any) -> Record:
    """A run that ran out of memory before anything was measured."""
    failure = Failure("OutOfMemoryError", "CUDA out of memory at step 12")
    empty: dict[str, Any] = {
        "status": "failed",
        "failure": failure,
        "train": None,
        "evaluation": None,
        "parameters": None,
    }
    return record(method, data, **empty | changes)


def runs_of(root: Path, *records: Record) -> list[Run]:
    """Write records directly below a folder, and read the runs there, at any depth."""
    return load_runs(find_runs(write(root, *records)), root)


def group_of(root: Path, *records: Record) -> Group:
    """The only group of these runs."""
    (group,) = groups_of(runs_of(root, *records))
    return group


def table_of(root: Path, *records: Record) -> pd.DataFrame:
    return results_table(runs_of(root, *records))


def write(root: Path, *records: Record) -> Path:
    for each in records:
        RunDir(root / each.name).write(each)
    return root


def matrix() -> list[Record]:
    """The six cells and the untuned base."""
    return [record("none"), *(record(method, data) for method in ("lora", "qlora") for data in SIZES)]
