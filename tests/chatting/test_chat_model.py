"""A chat answers as the evaluation predicts, sampling is reproducible, and long conversations are cut."""

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.chatting.chat_model import ChatModel, Prompt, Sampling, Turn, chat_model_of, load_source
from medqa_finetune.chatting.sources import source_of_model, source_of_run
from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import Example
from medqa_finetune.errors import DataError, ModelError
from medqa_finetune.evaluation.generate import generate_predictions
from medqa_finetune.evaluation.predictions import read_predictions
from medqa_finetune.model.answering import answering_model
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from scripts.small_models import TEMPLATE
from tests.chatting.runs import another_model, config_of, trained, write_run
from tests.faulty import only_fault

QUESTIONS = ["感冒了怎么办？", "头痛", "孩子发烧三天了，" * 30 + "怎么办？"]
GREEDY = Sampling(max_new_tokens=12)


def answer(chat_model: ChatModel, prompt: Prompt, sampling: Sampling = GREEDY, seed: int = 0) -> str:
    texts = list(chat_model.stream(prompt, sampling, torch.Generator().manual_seed(seed)))
    return texts[-1] if texts else ""


@pytest.mark.parametrize(
    "method",
    [
        {},
        {"name": "full", "trains": "all"},
        {"name": "none", "trains": "nothing"},
        {"name": "qlora", "quantization": "nf4", "double_quantization": True},
    ],
    ids=lambda method: str(method.get("name", "lora")),
)
def test_greedy_answers_are_the_predictions_of_the_evaluation(
    method: dict[str, Any], micro_model: Path, tmp_path: Path
) -> None:
    """One question a batch, for a batch rounds otherwise than a single question does."""
    run = write_run(tmp_path / "run", micro_model, **method)
    config = config_of(micro_model, **method)
    loaded = trained(micro_model, config, seed=0)
    pairs = [Example(str(number), question, "休息。") for number, question in enumerate(QUESTIONS)]
    scratch = EvaluationDir(tmp_path)
    settings = EvaluateConfig(max_new_tokens=12, batch_size=1)
    encoder = Encoder(loaded.tokenizer, config.train.max_length)
    model = answering_model(loaded.model, config.method, loaded.device)
    generate_predictions(model, encoder, pairs, settings, scratch)
    predicted = {each.question: each.prediction for each in read_predictions(scratch.predictions_path)}
    chat_model = load_source(source_of_run(run.path))
    said = {question: answer(chat_model, chat_model.prompt("", [], question, 12)) for question in QUESTIONS}
    assert said == predicted
    assert all(said.values()) or method.get("trains") == "nothing"  # a random base ends every answer at once


def test_long_questions_are_truncated_with_a_note(chat_model: ChatModel) -> None:
    assert chat_model.prompt("", [], QUESTIONS[0], 12).note is None
    assert "cut to" in str(chat_model.prompt("", [], QUESTIONS[2], 12).note)


def test_conversations_use_the_models_template(chat_model: ChatModel) -> None:
    turns = [Turn("头痛", "休息。"), Turn("还痛", "就医。", stopped=True)]
    ids = chat_model.prompt("简短。", turns, "多久？", 12).ids
    text = chat_model.encoder.tokenizer.decode(ids)
    assert text == (
        "<|im_start|>system\n简短。<|im_end|>\n<|im_start|>user\n头痛<|im_end|>\n<|im_start|>assistant\n休息。<|im_end|>\n"
        "<|im_start|>user\n还痛<|im_end|>\n<|im_start|>assistant\n就医。<|im_end|>\n<|im_start|>user\n多久？<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_conversation_tokens_equal_those_of_transformers(chat_model: ChatModel) -> None:
    prompt = chat_model.prompt("简短。", [Turn("头痛", "休息。")], "多久？", 12)
    ids = torch.tensor([prompt.ids])
    generated = chat_model.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
        eos_token_id=chat_model.encoder.end_ids[-1], pad_token_id=chat_model.encoder.tokenizer.pad_token_id,
    )  # fmt: skip
    theirs = str(chat_model.encoder.tokenizer.decode(generated[0, len(prompt.ids) :], skip_special_tokens=True))
    assert answer(chat_model, prompt) == theirs.strip()


def test_answers_end_at_any_end_token(chat_model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = chat_model.prompt("", [], "头痛", 12)
    ids = torch.tensor([prompt.ids])
    asked: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "do_sample": False,
                             "pad_token_id": chat_model.encoder.tokenizer.pad_token_id}  # fmt: skip
    third = chat_model.model.generate(ids, **asked)[0, ids.shape[1] + 2].item()
    monkeypatch.setattr(chat_model.model.generation_config, "eos_token_id", [third, 299])
    tokens = chat_model.model.generate(ids, **asked)[0, ids.shape[1] :].tolist()
    assert tokens[-1] == third
    assert answer(chat_model, prompt) == str(chat_model.encoder.tokenizer.decode(tokens[:-1])).strip()


def test_an_answer_grows_by_whole_signs(chat_model: ChatModel) -> None:
    """The micro model's tokens are bytes, three to a Chinese sign."""
    texts = list(
        chat_model.stream(
            chat_model.prompt("", [], "头痛", 12), Sampling(1.0, 1.0, 64), torch.Generator().manual_seed(3)
        )
    )
    assert len(texts) > 3
    assert not any(text.endswith("\ufffd") for text in texts[:-1])
    assert all(len(longer) > len(shorter) for shorter, longer in pairwise(texts))


def test_sampling_is_reproducible(chat_model: ChatModel) -> None:
    prompt = chat_model.prompt("", [], "头痛", 12)
    warm = Sampling(temperature=1.0, max_new_tokens=24)
    drawn = [answer(chat_model, prompt, warm, seed) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize(
    "sampling", [Sampling(1e-6, 1.0, 12), Sampling(1.0, 1e-6, 12)], ids=["cold", "nothing but the top"]
)
def test_narrow_sampling_equals_greedy_decoding(sampling: Sampling, chat_model: ChatModel) -> None:
    prompt = chat_model.prompt("", [], "头痛", 12)
    assert answer(chat_model, prompt, sampling, 5) == answer(chat_model, prompt)


def test_oldest_turns_are_dropped_with_a_note(chat_model: ChatModel) -> None:
    turns = [Turn(f"第{number}个问题" * 6, "休息。" * 6) for number in range(8)]
    prompt = chat_model.prompt("简短。", turns, "多久？", 12)
    text = str(chat_model.encoder.tokenizer.decode(prompt.ids))
    assert len(prompt.ids) + 12 <= 512
    assert text.startswith("<|im_start|>system\n简短。")
    assert turns[-1].question in text
    assert turns[0].question not in text
    assert "of 8 turns no longer fit" in str(prompt.note)


def test_a_question_beyond_the_context_is_refused(chat_model: ChatModel) -> None:
    with pytest.raises(DataError) as caught:
        chat_model.prompt("简短。", [], "头痛" * 200, 12)
    fault = only_fault(caught)
    assert fault.code == "too-long"
    assert "512" in fault.problem
    assert "max_new_tokens" in fault.hint


def test_a_template_that_takes_no_instructions_is_named(chat_model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    monkeypatch.setattr(chat_model.encoder.tokenizer, "chat_template", template + TEMPLATE)
    model = chat_model_of(chat_model.model, chat_model.encoder.tokenizer)
    with pytest.raises(ModelError) as caught:
        model.prompt("简短。", [], "头痛", 12)
    assert only_fault(caught).code == "template-refuses"
    assert "no system role" in only_fault(caught).problem  # the template's own words


@pytest.mark.parametrize(
    "changes", [{"hidden_size": 32, "num_attention_heads": 2}, {"num_hidden_layers": 1}], ids=["width", "depth"]
)
def test_an_adapter_of_other_shape_is_refused(
    changes: dict[str, Any], adapter_run: RunDir, micro_model: Path, tmp_path: Path
) -> None:
    if "num_hidden_layers" in changes:
        changes = changes | {"layer_types": ["full_attention"]}
    other = another_model(micro_model, tmp_path / "other", **changes)
    adapter = Path(shutil.copytree(adapter_run.adapter_path, tmp_path / "sent"))
    source = source_of_model(str(other), str(adapter), any_base=True)
    with pytest.raises(ModelError) as caught:
        load_source(source)
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("weights-mismatch", str(adapter))


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_run_can_be_quantized(quantization: str, adapter_run: RunDir) -> None:
    chat_model = load_source(source_of_run(adapter_run.path).with_quantization(quantization))
    kinds = {type(parameter).__name__ for parameter in chat_model.model.parameters()}
    assert {"nf4": "Params4bit", "int8": "Int8Params"}[quantization] in kinds
    assert answer(chat_model, chat_model.prompt("", [], "头痛", 12))
