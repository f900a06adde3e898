"""The loss of dialogues: plain torch's cross-entropy with labels that are put together by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import Example
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.model.attention import attention_per_pair
from medqa_finetune.model.load import Device, load_model
from medqa_finetune.training.batches import Collator, concatenate, pad_right
from medqa_finetune.training.loss import AnswerLoss
from tests.training.trial import make_config, train

PAIRS = [
    Example(
        "a", "三天了。", "去看医生。", "你是医生。", (("头痛怎么办？", "多休息。"), ("还是痛。", "多喝水，多休息。"))
    ),
    Example("b", "发烧怎么办？", "量体温。"),
    Example("c", "咳嗽呢？", "多喝水。", None, (("感冒了。", "多休息，多喝水。"),)),
]


def by_hand(tokenizer: Any, example: Example) -> tuple[list[int], list[int]]:
    """Ids and labels of ChatML, turn by turn, without our encoder."""
    ids: list[int] = []
    labels: list[int] = []

    def add(text: str, *, learnt: bool) -> None:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids.extend(tokens)
        labels.extend(tokens if learnt else [-100] * len(tokens))

    if example.system is not None:
        add(f"<|im_start|>system\n{example.system}<|im_end|>\n", learnt=False)
    for question, answer in [*example.history, (example.question, example.answer)]:
        add(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", learnt=False)
        add(f"{answer}<|im_end|>", learnt=True)
        add("\n", learnt=False)
    return ids, labels


def plain_loss(model: Any, tokenizer: Any) -> torch.Tensor:
    """The summed loss of all dialogues, one after the other, and whole logits."""
    total = torch.tensor(0.0)
    for example in PAIRS:
        ids, labels = by_hand(tokenizer, example)
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(labels[1:]), reduction="sum")
    return total


def items_of(tokenizer: Any) -> list[Any]:
    return list(EncodedSet(Encoder(tokenizer, 512).encode(PAIRS)))


@pytest.mark.parametrize("packing", [True, False])
def test_it_is_that_of_labels_put_together_by_hand(micro_model: Path, packing: bool) -> None:
    loaded = load_model(micro_model, MethodConfig(name="all", trains="all"), Device("cpu", "CPU", "fp32"), seed=0)
    model, tokenizer = loaded.model, loaded.tokenizer
    expected = plain_loss(model, tokenizer)
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    items = items_of(tokenizer)
    if packing:
        with attention_per_pair(model):
            found = AnswerLoss(model)(model, concatenate(items))
            gradients = torch.autograd.grad(found, list(model.parameters()))
    else:
        found = AnswerLoss(model)(model, pad_right(items, int(tokenizer.pad_token_id or 0)))
        gradients = torch.autograd.grad(found, list(model.parameters()))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, plain in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-4)


def test_the_tokens_learnt_are_those_of_every_answer(micro_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    work = Collator(3, 512, packing=True, pad=0)(items_of(tokenizer))["work"]
    assert work.answer_tokens == sum(label != -100 for example in PAIRS for label in by_hand(tokenizer, example)[1])


@pytest.mark.slow
def test_a_model_learns_the_answers_of_all_turns(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.training.trial.PAIRS", PAIRS * 8)
    trial = train(micro_model, tmp_path, make_config(epochs=6, learning_rate=2e-2))
    untuned = load_model(micro_model, MethodConfig(name="none", trains="nothing"), trial.loaded.device, 0)
    before = plain_loss(untuned.model, untuned.tokenizer)
    after = plain_loss(trial.loaded.model.train(False), trial.loaded.tokenizer)
    assert after < 0.97 * before
    each = sum(label != -100 for example in PAIRS for label in by_hand(trial.loaded.tokenizer, example)[1])
    assert trial.record.answer_tokens == 6 * 8 * each
