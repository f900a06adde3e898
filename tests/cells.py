"""Builds cells without Hydra, a model or a corpus, for tests of run folders."""

import dataclasses
from pathlib import Path
from typing import Any

from medqa_finetune.cell import Cell, place_cell
from medqa_finetune.config.identity import Fingerprints
from medqa_finetune.config.schema import Config
from medqa_finetune.record.environment import describe_environment
from medqa_finetune.record.schema import EvaluationRecord, Score, TrainRecord
from medqa_finetune.run_state.claim import Claim, claimed
from tests.config.builders import VALID, changed

FINGERPRINTS = Fingerprints("c" * 64, "m" * 64)
HERE = describe_environment("CPU", "fp32")
TRAIN = TrainRecord(samples=20, tokens=200, answer_tokens=99, steps=3, epochs=1.0, seconds=1.0, optimizer="adamw_torch")


def cell_in(outputs: Path, config: Config = VALID, **values: Any) -> Cell:
    """Return a cell whose run folder is `outputs/lora_20k`; `evaluate__max_samples=9` sets `evaluate.max_samples`."""
    config = changed(config, outputs=str(outputs), **values)
    return place_cell(config, Path("model"), FINGERPRINTS, "lora_20k", dataclasses.asdict(VALID.evaluate))


def result(bleu: float = 5.0, n: int = 3) -> EvaluationRecord:
    """Return a plausible evaluation record of `n` questions."""
    return EvaluationRecord(n=n, scores={"bleu": Score(bleu, "s")}, seconds=1.0)


def train(claim: Claim, weights: bytes = b"weights") -> None:
    """Write to the run folder what training writes."""
    claim.begin_training()
    claim.cell.run.adapter_path.mkdir(exist_ok=True)
    (claim.cell.run.adapter_path / "adapter_model.safetensors").write_bytes(weights)
    claim.end_training(TRAIN, environment=HERE)


def answer(claim: Claim, ids: str = "abc") -> None:
    """Write a prediction for every question that has no reused one."""
    claim.begin_predictions(HERE, list(ids))
    folder = claim.cell.evaluation
    known = {row["id"] for row in folder.read_predictions()}
    folder.append_predictions([{"id": each, "prediction": "多休息。"} for each in ids if each not in known])


def evaluate(cell: Cell, ids: str = "abc", bleu: float = 5.0) -> None:
    """Go through all stages of an experiment; train only if there are no weights yet."""
    with claimed(cell) as claim:
        if claim.record.is_trained:
            claim.begin_evaluation()
        else:
            train(claim)
        answer(claim, ids)
        claim.finish(result(bleu, len(ids)))
