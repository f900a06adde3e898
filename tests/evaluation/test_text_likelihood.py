"""The perplexity of running text, against transformers' own guide to it, and resumed after a stop."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.config.schema import EvaluateConfig, MethodConfig
from medqa_finetune.data.blocks import BlockEncoder
from medqa_finetune.data.examples import Encoded
from medqa_finetune.data.text import Text
from medqa_finetune.errors import ConfigError, DataError
from medqa_finetune.evaluation import text_likelihood as room
from medqa_finetune.evaluation.reference_likelihood import reference_likelihoods
from medqa_finetune.evaluation.score import score_rows
from medqa_finetune.evaluation.text_likelihood import measure_blocks
from medqa_finetune.evaluation.text_perplexity import score_blocks, text_signature
from medqa_finetune.model.load import Device, LoadedModel, load_model
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.schema import Evaluation, Record, Reused
from tests.faulty import only_fault
from tests.guide import perplexity_of_the_guide

LENGTH = 16
CONTENT = "\n\n".join([" = 感冒 = \n", "", " 感冒要多休息，多喝水。\n"] * 9)
SIGNATURE = text_signature(LENGTH, None, "\n\n")


@pytest.fixture(scope="module")
def loaded(micro_model: Path) -> LoadedModel:
    untuned = MethodConfig(name="none", trains="nothing")
    return load_model(micro_model, untuned, Device("cpu", "CPU", "fp32"), 0, chat=False)


@pytest.fixture(scope="module")
def blocks(loaded: LoadedModel) -> list[Encoded]:
    return list(BlockEncoder(loaded.tokenizer, LENGTH).encode(Text(CONTENT)))


@pytest.fixture
def evaluation(tmp_path: Path) -> EvaluationDir:
    return EvaluationDir(tmp_path)


def settings(batch_tokens: int = 3 * LENGTH) -> EvaluateConfig:
    return EvaluateConfig(batch_tokens=batch_tokens)


def perplexity(evaluation: EvaluationDir) -> float:
    return (
        score_blocks(evaluation.read_predictions(), SIGNATURE, evaluation.predictions_path)[0]
        .scores["perplexity"]
        .value
    )


@pytest.mark.parametrize("batch_tokens", [1, 3 * LENGTH, 10_000])
def test_it_is_that_of_transformers_guide(
    loaded: LoadedModel, blocks: list[Encoded], evaluation: EvaluationDir, micro_model: Path, batch_tokens: int
) -> None:
    measure_blocks(loaded.model, blocks, settings(batch_tokens), evaluation)
    assert perplexity(evaluation) == pytest.approx(perplexity_of_the_guide(micro_model, CONTENT, LENGTH), rel=1e-6)


@pytest.mark.parametrize("stride", [1, 5, 8, 15, 16])
def test_a_sliding_window_is_that_of_transformers_guide(
    loaded: LoadedModel, evaluation: EvaluationDir, micro_model: Path, stride: int
) -> None:
    measure_blocks(
        loaded.model, [*BlockEncoder(loaded.tokenizer, LENGTH, stride).encode(Text(CONTENT))], settings(), evaluation
    )
    expected = perplexity_of_the_guide(micro_model, CONTENT, LENGTH, stride=stride)
    assert perplexity(evaluation) == pytest.approx(expected, rel=1e-6)


def test_every_block_is_measured_once_and_costs_are_counted(
    loaded: LoadedModel, blocks: list[Encoded], evaluation: EvaluationDir
) -> None:
    cost = measure_blocks(loaded.model, blocks, settings(), evaluation)
    rows = evaluation.read_predictions()
    assert [row["id"] for row in rows] == [f"block-{number}" for number in range(len(blocks))]
    assert [row["tokens"] for row in rows] == [len(block.input_ids) - 1 for block in blocks]
    tokens = sum(len(block.input_ids) - 1 for block in blocks)
    assert cost["tokens_per_second"] * cost["seconds"] == pytest.approx(tokens)
    assert cost["samples_per_second"] * cost["seconds"] == pytest.approx(len(blocks))


def test_a_stopped_measurement_goes_on_and_ends_the_same(
    loaded: LoadedModel,
    blocks: list[Encoded],
    evaluation: EvaluationDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed = EvaluationDir(tmp_path / "undisturbed")
    undisturbed.path.mkdir()
    measure_blocks(loaded.model, blocks, settings(), undisturbed)
    measured: list[int] = []
    likelihoods = reference_likelihoods

    def stopping(model: Any, batch: list[Encoded], batch_tokens: int) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(len(batch))
        return likelihoods(model, batch, batch_tokens)

    with monkeypatch.context() as patch:
        patch.setattr(room, "reference_likelihoods", stopping)
        with pytest.raises(KeyboardInterrupt):
            measure_blocks(loaded.model, blocks, settings(), evaluation)
    assert len(evaluation.read_predictions()) == sum(measured) == 6
    measure_blocks(loaded.model, blocks, settings(), evaluation)
    assert evaluation.read_predictions() == undisturbed.read_predictions()


def test_only_what_no_other_evaluation_has_measured_is_measured(
    loaded: LoadedModel, blocks: list[Encoded], evaluation: EvaluationDir, tmp_path: Path
) -> None:
    other = EvaluationDir(tmp_path / "other")
    other.path.mkdir()
    measure_blocks(loaded.model, blocks, settings(), other)
    rows = other.read_predictions()
    evaluation.write(Evaluation("default", "i", "running", {}, reused=Reused("other", 4)))
    evaluation.append_predictions(rows[:4])
    cost = measure_blocks(loaded.model, blocks, settings(), evaluation)
    assert [row["id"] for row in evaluation.read_predictions()] == [row["id"] for row in rows]
    assert perplexity(evaluation) == pytest.approx(perplexity(other), rel=1e-6)
    assert cost["samples_per_second"] * cost["seconds"] == pytest.approx(len(rows) - 4)
    content = evaluation.predictions_path.read_bytes()
    measure_blocks(loaded.model, blocks, settings(), evaluation)
    assert evaluation.predictions_path.read_bytes() == content


def test_the_score_is_of_all_tokens_together(evaluation: EvaluationDir) -> None:
    rows = [{"id": "block-0", "nll": 6.0, "tokens": 3}, {"id": "block-1", "nll": 1.0, "tokens": 1}]
    record, items = score_blocks(rows, SIGNATURE, evaluation.predictions_path)
    assert record.n == 2
    assert record.scores["perplexity"].value == pytest.approx(math.exp(7 / 4))
    signature = r"perplexity|text:blocks|length:16|stride:16|joined:'\n\n'|mean:token"
    assert record.scores["perplexity"].signature == signature
    assert items == [
        {"id": "block-0", "perplexity": math.exp(2), "perplexity.nll": 6.0, "perplexity.tokens": 3},
        {"id": "block-1", "perplexity": math.exp(1), "perplexity.nll": 1.0, "perplexity.tokens": 1},
    ]
    nothing = (record.empty_rate, record.truncated_rate, record.timed_out_rate, record.repetition_rate)
    assert nothing == (None, None, None, None)


@pytest.mark.parametrize(
    "row", [{}, {"nll": 1.0}, {"nll": 1.0, "tokens": 0}, {"nll": math.nan, "tokens": 1}, {"nll": -1.0, "tokens": 1},
            {"nll": "1", "tokens": 1}, {"nll": 1.0, "tokens": True}],
)  # fmt: skip
def test_a_line_that_is_of_no_block_is_refused(row: dict[str, Any], evaluation: EvaluationDir) -> None:
    good = {"id": "block-0", "nll": 6.0, "tokens": 3}
    with pytest.raises(DataError) as caught:
        score_blocks([good, {"id": "block-1"} | row], SIGNATURE, evaluation.predictions_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key in ("nll", "tokens")) == ("out-of-range", True)
    assert (fault.file, fault.line_number) == (str(evaluation.predictions_path), 2)


def test_too_large_a_perplexity_is_no_number(evaluation: EvaluationDir) -> None:
    with pytest.raises(DataError) as caught:
        score_blocks([{"id": "block-0", "nll": 1e5, "tokens": 1}], SIGNATURE, evaluation.predictions_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("out-of-range", "nll", 1e5)


def record_of(**config: Any) -> Record:
    return Record(name="r", identity="", status="done", method="lora", data="all", model="m", seed=0, config=config)


def test_lines_are_scored_as_what_the_run_learnt(evaluation: EvaluationDir) -> None:
    text = record_of(corpus={"task": "text", "separator": "\n\n"}, train={"max_length": LENGTH})
    rows = [{"id": "block-0", "nll": 6.0, "tokens": 3}]
    found, _ = score_rows(rows, evaluation, text, ["rouge", "bleu", "perplexity"])
    assert {name: score.signature for name, score in found.scores.items()} == {"perplexity": SIGNATURE}
    # Without a name, its own.
    assert score_rows(rows, evaluation, text, [])[0] == found
    with pytest.raises(ConfigError) as caught:
        score_rows(rows, evaluation, text, ["rouge"])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "metrics", ["rouge"])
    assert fault.allowed == ("perplexity",)
    answers: list[dict[str, Any]] = [{"id": "a", "question": "问", "reference": "答", "prediction": "答"}]
    for config in ({}, {"corpus": {"task": "qa"}}):
        found, _ = score_rows(answers, evaluation, record_of(**config), ["rouge"])
        assert found.scores["rougeL"].value == pytest.approx(100)


def test_blocks_of_a_model_that_answers_nothing_need_no_chat_template(micro_model: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(micro_model, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    settings_path = folder / "tokenizer_config.json"
    kept = json.loads(settings_path.read_text("utf-8"))
    kept.pop("pad_token", None)
    settings_path.write_text(json.dumps(kept), "utf-8")
    loaded = load_model(folder, MethodConfig(name="lora"), Device("cpu", "CPU", "fp32"), 0, chat=False)
    assert loaded.tokenizer.chat_template is None
    assert loaded.tokenizer.pad_token_id is not None
    assert torch.is_tensor(loaded.model.get_input_embeddings().weight)
