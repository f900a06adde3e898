from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.evaluation.batch_size import settle_batches
from medqa_finetune.model.auto_batch import batch_tokens_in
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.schema import Evaluation

# Two layers; keys and values of 8 numbers each; the second layer's matrices take and give 10 + 40 numbers.
SIZE = ModelSize(
    parameters=1000, matrices={"layers.0.k_proj": (8, 10), "layers.1.k_proj": (8, 10), "layers.1.up_proj": (22, 10)},
    embeddings=frozenset(), layers=2, attention_width=10, vocabulary=100, hidden=10, other_bytes=0,
)  # fmt: skip
TOKEN = 2 * (2 * 16 + 50)


def model_on(device: str) -> Any:
    return SimpleNamespace(device=torch.device(device), dtype=torch.float16)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2_000_000, 9_000_000))


def test_numbers_are_kept() -> None:
    settings = EvaluateConfig(batch_tokens=7)
    assert settle_batches(settings, model_on("cpu"), SIZE) is settings


def test_free_memory_is_filled(free: None) -> None:
    settled = settle_batches(EvaluateConfig(batch_tokens="auto", batch_size=4), model_on("cuda"), SIZE)
    assert settled.batch_tokens == int((0.9 * 2_000_000 - 4 * 100 * 8) / TOKEN)


@pytest.mark.parametrize(("device", "size"), [("cpu", SIZE), ("cuda", None)])
def test_elsewhere_a_batch_has_the_usual_size(device: str, size: ModelSize | None, free: None) -> None:
    assert settle_batches(EvaluateConfig(batch_tokens="auto"), model_on(device), size).batch_tokens == 16384


def test_there_is_room_for_one_token() -> None:
    assert batch_tokens_in(0, SIZE, 2, 256) == 1


def test_a_restart_divides_questions_as_before(tmp_path: Path, free: None, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = EvaluationDir(tmp_path)
    evaluation.write(Evaluation("default", "identity", "running", {}))
    first = settle_batches(EvaluateConfig(batch_tokens="auto"), model_on("cuda"), SIZE, evaluation)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1_000_000, 9_000_000))
    again = settle_batches(EvaluateConfig(batch_tokens="auto"), model_on("cuda"), SIZE, evaluation)
    own = evaluation.read()
    assert own is not None
    assert first == again
    assert own.batch_tokens == first.batch_tokens
