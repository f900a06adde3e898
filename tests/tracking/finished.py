"""Finished runs of a matrix, with settings as a command composes them, and made-up results."""

import dataclasses
from pathlib import Path
from typing import Any

from medqa_finetune.config.identity import Fingerprints, settings_of
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import EvaluationRecord, Score
from tests.config.builders import VALID, changed
from tests.evaluations import default_of, write_default
from tests.report import builders

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"trains": "adapter"},
    "qlora": {"trains": "adapter", "quantization": "nf4", "double_quantization": True},
    "none": {"trains": "nothing"},
    "retrieval": {"trains": "lookup"},
}
SIZES = {"20k": 20000, "50k": 50000, "100k": 100000}


def finished(outputs: Path, method: str, data: str, seed: int = 0, *, study: str = "demo", **result: Any) -> RunDir:
    """Write a finished run with its default evaluation; a keyword replaces a field of its result."""
    kinds = {f"method__{key}": value for key, value in METHODS[method].items()}
    config = changed(
        VALID, method__name=method, data__name=data, data__train_size=SIZES[data], seed=seed, study=study, **kinds
    )
    record = builders.record(method if method in ("lora", "none") else "qlora", data, seed)
    if method == "retrieval":
        record = dataclasses.replace(record, train=None, parameters=None, environment=None)
    run = RunDir(outputs / study / record.name.replace("qlora", method))
    scored = dataclasses.replace(record.evaluation or EvaluationRecord(0, {}), **result)
    record = record.updated(
        method=method,
        config=settings_of(config, Fingerprints("c" * 64, "f" * 64)),
        evaluation=scored,
        evaluation_name="default",
        started="2026-11-30T08:00:00+00:00",
    )
    run.write(record)
    folder = write_default(run, record)
    folder.update(started="2026-11-30T09:00:00+00:00")
    return run


def rescored(run: RunDir, name: str, rouge: float, **settings: Any) -> None:
    """Give a finished run another evaluation."""
    evaluation = default_of(run).read()
    assert evaluation is not None
    assert evaluation.result is not None
    scores = {**evaluation.result.scores, "rougeL": Score(rouge, builders.ROUGE_SIGNATURE)}
    other = EvaluationDir(run.evaluations_path / name)
    other.path.mkdir()
    other.write(
        evaluation.updated(
            name=name,
            identity=name,
            started="2026-11-30T10:00:00+00:00",
            settings={**evaluation.settings, **settings},
            result=dataclasses.replace(evaluation.result, scores=scores),
        )
    )
