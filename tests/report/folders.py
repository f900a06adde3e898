"""Whole folders of made-up runs: record, log of training, answers and their scores per question."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from medqa_finetune.record.files import sha256_of
from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.record.schema import Record
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.comparability import Axis
from medqa_finetune.report.grouping import groups_of
from medqa_finetune.report.html.write import write_report
from medqa_finetune.report.load import load_runs
from medqa_finetune.report.notes import TrainedOnce
from medqa_finetune.report.stats.intervals import CellScore, Comparison, Finding, Interval, SeedBasis, Settings
from medqa_finetune.report.verdict import (
    Advice,
    AdviceKind,
    Caution,
    Cost,
    Curve,
    Estimate,
    Fit,
    Front,
    Machine,
    ParetoPoint,
    Step,
    Unit,
    Verdict,
)
from tests.evaluations import default_of, write_default

SCRIPT = "</script><script>document.title = 'stolen'; console.error('ran')</script>"
# What a model may answer, to the harm of a page.
NASTY = (
    SCRIPT, "<img src=x onerror=\"document.title='stolen'\">", "<!-- <script> --> ]]>", "\u202eabc\u202c\u200b零宽",
    "", "   ", "\ud83d 半个字符", "\x00\x1b[31m", "无" * 30_000, "مرحبا بالعالم", "{{ 7 * 7 }} {% raw %}",
    "a\u0301" * 90,
)  # fmt: skip


def predictions(run: str, count: int, length: int = 20) -> list[dict[str, Any]]:
    """Answers of a made-up run; the first ones are `NASTY`, turned by the run."""
    turn = int(hashlib.sha256(run.encode()).hexdigest(), 16)
    rows = []
    for place in range(count):
        usual = f"{run} 建议多喝水，第{place}题。" + "好" * length
        rows.append({
            "id": f"q{place:05}",
            "question": f"第 {place} 题：头痛怎么办？",
            "reference": f"注意休息，不要熬夜（{place}）。",
            "prediction": NASTY[(place + turn) % len(NASTY)] if place < len(NASTY) else usual,
            "hit_limit": place % 7 == 0,
            "timed_out": False,
        })  # fmt: skip
    return rows


def fill(folder: RunDir, record: Record, count: int, length: int = 20) -> None:
    """Write the folder of one run."""
    folder.write(record)
    for step in (10, 20, 30):
        folder.log_metrics({"step": step, "loss": 5.0 / step, "learning_rate": 1e-3})
    folder.log_metrics({"step": 30, "eval_loss": 0.4})
    # As another program might have written them: JSON can hold half a character, which UTF-8 cannot.
    lines = [json.dumps(row) + "\n" for row in predictions(record.name, count, length)]
    evaluation = default_of(folder)
    evaluation.predictions_path.write_text("".join(lines), encoding="ascii")
    # Some number per question that differs from run to run; the page takes what stands in the file.
    seed = int(hashlib.sha256(record.name.encode()).hexdigest()[:8], 16)
    values = np.random.default_rng(seed).uniform(0, 100, count)
    ids = np.array([f"q{place:05}" for place in range(count)])
    evaluation.write_item_scores(ItemScores(sha256_of(evaluation.predictions_path), ids, {"rougeL": values}))
    write_default(folder, record)


def write_folders(root: Path, records: list[Record], count: int = 40, length: int = 20) -> None:
    """Write the folders of many runs directly below `root`."""
    for record in records:
        fill(RunDir(root / record.name), record, count, length)


def write_page(root: Path, what: Analysis) -> Path:
    """Write the page of the runs below `root`, and return its path."""
    runs = load_runs(find_runs(root), root)
    return write_report(runs, groups_of(runs), what, root / "summary")[0]


MARKUP = "<b>中文</b> & name"


def analysis(names: list[str]) -> Analysis:
    """Statistics of a kind over cells, with markup in the names that sentences hold."""
    interval = Interval(20.0, 30.0)
    scores = [CellScore(name, "rougeL", 25.0, interval, 40, 1, None) for name in names]
    comparisons = [
        Comparison(first, second, "rougeL", (Axis.DATA,), 1.5, Interval(0.2, 2.8), 0.1, Interval(0.0, 0.2), 0.01, 0.03,
                   Finding.DIFFERENT if place % 2 else Finding.NONE_SHOWN, seeds=SeedBasis.ONE)
        for place, (first, second) in enumerate((a, b) for at, a in enumerate(names) for b in names[at + 1 :])
    ]  # fmt: skip
    tuned = tuple(name for name in names if name.startswith("lora"))
    curve = ((20000.0, 24.0, 23.0, 25.0), (200000.0, 29.0, 27.0, 31.0))
    slope = {"offset": Estimate(20.0, interval), "per_doubling": Estimate(1.5, interval)}
    fit = Fit(MARKUP, "rougeL", tuned, (20000, 50000, 100000)[: len(tuned)], (24.0, 26.0, 28.0)[: len(tuned)],
              Curve.LOG_LINEAR, slope, curve)  # fmt: skip
    points = tuple(ParetoPoint(name, 1.0 + at, 24.0 + at, on_front=at != 1, share=0.8) for at, name in enumerate(tuned))
    step = Step(MARKUP, tuned[0], tuned[-1], ("20k", "100k"), "rougeL", 1.5, interval, 0.03, Finding.DIFFERENT,
                Machine.GPU, 2.0, None)  # fmt: skip
    advice = Advice(AdviceKind.BEST_OF_ALL, tuned[-1], "rougeL", tuned[-1], MARKUP, Estimate(1.5, interval))
    front = Front("rougeL", Cost.HOURS, Unit.GPU_HOURS, points, (MARKUP,))
    verdict = Verdict("study", "rougeL", (fit,), (front,), (step,), advice, Caution.SAFETY)
    return Analysis(Settings(), tuple(scores), (), tuple(comparisons), (verdict,), (TrainedOnce((MARKUP,)),))
