"""Generates synthetic folders of finished runs: real texts with real scores, without a model.

Every question has a bank of predictions, from nearly right to mostly wrong, scored once. A run samples from the bank,
favouring right ones according to its quality. A thousand runs with a thousand predictions each take about a minute, and
their scores are consistent with their predictions.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medqa_finetune.config.identity import DEFAULT_EVALUATION, default_settings, evaluation_identity
from medqa_finetune.evaluation.metric_registry import find_metric
from medqa_finetune.evaluation.predictions import Prediction, to_row
from medqa_finetune.evaluation.score import item_scores, score_predictions
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import (
    DataManifest,
    Environment,
    Evaluation,
    EvaluationRecord,
    Parameters,
    Record,
    SetManifest,
    TrainRecord,
)

CHARACTERS = "头痛发热咳嗽腹泻药物治疗建议休息多喝水检查血压糖尿病患者注意饮食清淡医院就诊观察症状缓解"
LENGTH = 100
# Share of wrong characters, by index in the bank.
WRONG = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)
METRICS = ["rouge", "bleu", "perplexity"]
BATCH, EPOCHS = 16, 1.0
SECTIONS = ("method", "data", "corpus", "train", "evaluate")


@dataclass(frozen=True)
class MadeRun:
    """Properties of a synthetic run.

    Attributes:
        method: `lora`, `qlora`, …; `none` trains nothing.
        size: Number of training examples.
        seed: Training seed.
        quality: In standard deviations of the bank's logits; about 0.1 moves ROUGE-L by a point.
        rank: A setting below `method`.
    """

    method: str
    size: int
    seed: int = 0
    quality: float = 0.0
    rank: int = 16

    @property
    def name(self) -> str:
        """Folder name, as for a real run."""
        if self.method == "none":
            return "none"
        name = f"{self.method}_{self.data}"
        name += f"__method.rank={self.rank}" if self.rank != 16 else ""
        return name + (f"__seed={self.seed}" if self.seed else "")

    @property
    def data(self) -> str:
        """Name in the config group `data`."""
        return f"{self.size // 1000}k"


class AnswerBank:
    """Scored predictions for n questions."""

    def __init__(self, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        letters = np.array(list(CHARACTERS))
        right = rng.choice(letters, (n, LENGTH))
        self.answers: list[list[Prediction]] = []
        for wrong in WRONG:
            said = np.where(rng.random(right.shape) < wrong, rng.choice(letters, right.shape), right)
            nll = rng.gamma(4, 25 * (1 + wrong), n)
            texts = [("".join(reference), "".join(answer)) for reference, answer in zip(right, said, strict=True)]
            self.answers.append(
                [
                    Prediction(
                        f"q{number:06d}", f"第 {number} 问", (reference,), answer, False, False, LENGTH,
                        reference_nll=float(nll[number]), reference_tokens=LENGTH,
                    )
                    for number, (reference, answer) in enumerate(texts)
                ]
            )  # fmt: skip
        self.rows = [score_predictions(each, METRICS)[1] for each in self.answers]

    def choose(self, run: MadeRun) -> list[int]:
        """Return the bank index of each of a run's predictions; reproducible by the run's name."""
        # Difficulty of a question is shared by all runs, with a little noise per run.
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(run.name.encode()).digest()[:8]))
        n = len(self.rows[0])
        hard = np.random.default_rng(1).normal(size=n)
        level = hard - run.quality + 0.5 * rng.normal(size=n)
        edges = np.linspace(-1.5, 1.5, len(WRONG) - 1)
        return [int(place) for place in np.searchsorted(edges, level)]


def write_run(root: Path, run: MadeRun, bank: AnswerBank) -> RunDir:
    """Write a run's folder: record, predictions, per-question scores."""
    folder = RunDir(root / run.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    chosen = bank.choose(run)
    answers = [bank.answers[place][number] for number, place in enumerate(chosen)]
    rows = [bank.rows[place][number] for number, place in enumerate(chosen)]
    evaluation = EvaluationDir(folder.evaluations_path / DEFAULT_EVALUATION)
    evaluation.path.mkdir(parents=True, exist_ok=True)
    evaluation.append_predictions([to_row(answer) for answer in answers])
    digest = hashlib.sha256(evaluation.predictions_path.read_bytes()).hexdigest()
    evaluation.write_item_scores(item_scores(rows, digest))
    # From the bank's scores, since scoring a thousand runs would take ten minutes.
    scores = {name: score for metric in METRICS for name, score in find_metric(metric).corpus(answers, rows).items()}
    record = folder.write(record_of(run, EvaluationRecord(len(answers), scores)))
    identity = evaluation_identity(record.config)
    settings = record.config["evaluate"]
    evaluation.write(Evaluation(DEFAULT_EVALUATION, identity, "done", settings, result=record.evaluation))
    return folder


def record_of(run: MadeRun, evaluation: EvaluationRecord) -> Record:
    """Return the record of a done run."""
    trains, steps = run.method != "none", -(-run.size // BATCH)
    seconds = run.size / (5.0 if run.method == "lora" else 3.2)
    train = TrainRecord(
        samples=run.size, tokens=run.size * 150, answer_tokens=run.size * 110, steps=steps, epochs=EPOCHS,
        seconds=seconds, optimizer="adamw_torch", batch_size=BATCH, batch_tokens=BATCH * 150.0, micro_batch=4,
        peak_vram_bytes=int((9.3 if run.method == "lora" else 5.1) * 2**30), peak_rss_bytes=3 * 2**30,
    )  # fmt: skip
    settings: dict[str, Any] = {
        "seed": run.seed,
        "method": {"name": run.method, "trains": "adapter" if trains else "nothing", "rank": run.rank},
        "data": {"name": run.data, "train_size": run.size, "effective_train_size": run.size},
        "corpus": {"name": "made up", "sha256": "c" * 64},
        "train": {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": 2e-4},
        "evaluate": {"metrics": METRICS, "max_new_tokens": 512},
        "precision": "fp16",
    }
    # Of the size of a real record.
    settings |= {section: {**default_settings(section), **settings[section]} for section in SECTIONS}
    return Record(
        name=run.name, identity=hashlib.sha256(run.name.encode()).hexdigest()[:16], status="done", method=run.method,
        data=run.data, model="made-up", seed=run.seed, config=settings,
        data_manifest=DataManifest(
            "c" * 64, SetManifest(run.size, f"{run.size:064d}"), SetManifest(1000, "b" * 64),
            SetManifest(evaluation.n, "1f2e" * 16),
        ),
        parameters=Parameters(3_000_000_000, 30_000_000 if trains else 0), train=train if trains else None,
        evaluation=evaluation, environment=Environment({"python": "3.11"}, "made up", "fp16", None, ["made", "up"]),
    )  # fmt: skip


def six(seeds: int = 1) -> list[MadeRun]:
    """Return the untuned base and the six cells of two methods and three sizes."""
    cells = [
        MadeRun(method, size, seed, quality=0.25 + 0.05 * place + (0.02 if method == "lora" else 0.0))
        for method in ("lora", "qlora")
        for place, size in enumerate((20_000, 50_000, 100_000))
        for seed in range(seeds)
    ]
    return [MadeRun("none", 20_000), *cells]


def many(count: int) -> list[MadeRun]:
    """Return `count` cells of two methods, twenty sizes and as many ranks as needed."""
    return [
        MadeRun(
            ("lora", "qlora")[number % 2],
            5_000 * (1 + number // 2 % 20),
            0,
            0.01 * (number // 2 % 20),
            number // 40 + 1,
        )
        for number in range(count)
    ]
