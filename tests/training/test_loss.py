"""The loss on answers against whole logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.data.examples import IGNORED
from medqa_finetune.model.attention import attention_per_pair
from medqa_finetune.model.load import choose_device, load_model
from medqa_finetune.training import loss as loss_module
from medqa_finetune.training.batches import concatenate, pad_right
from medqa_finetune.training.head_loss import HeadLoss, is_fusible
from medqa_finetune.training.loss import AnswerLoss

ITEMS = [
    {"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3]},
    {"input_ids": [4, 5, 6, 7, 8], "labels": [IGNORED, IGNORED, IGNORED, 7, 8]},
    {"input_ids": [60, 61, 62, 63], "labels": [IGNORED, IGNORED, 62, 63]},
]


def reference(model: Any) -> torch.Tensor:
    """The sum over examples, each alone, from transformers' own loss."""
    losses = []
    for item in ITEMS:
        ids, labels = torch.tensor([item["input_ids"]]), torch.tensor([item["labels"]])
        losses.append(model(input_ids=ids, labels=labels).loss * int((labels[0, 1:] != IGNORED).sum()))
    return torch.stack(losses).sum()


@pytest.fixture
def model(micro_model: Path) -> Any:
    loaded = load_model(micro_model, MethodConfig(name="full", trains="all"), choose_device("fp32"), seed=0)
    model: Any = loaded.model
    return model.eval()


def gemma(dtype: torch.dtype) -> Any:
    """A model that caps its logits, with weights so large that the largest would be 1.5 times as large without."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "gemma2", vocab_size=200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=30.0, pad_token_id=0,
    )  # fmt: skip
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(60)
    return model.to(dtype).eval()


def gradient(loss: torch.Tensor, model: Any) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, [weight for weight in model.parameters() if weight.requires_grad]))


@pytest.mark.parametrize("chunk_bytes", [2**28, 2 * 4 * 512], ids=["at_once", "in_chunks"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen_head"])
def test_loss_and_gradients_are_those_of_whole_logits(
    model: Any, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, packed: bool, frozen: bool
) -> None:
    monkeypatch.setattr(loss_module, "LOGIT_BYTES_AT_ONCE", chunk_bytes)
    model.get_output_embeddings().requires_grad_(not frozen)
    wanted = reference(model)
    answer_loss = AnswerLoss(model)
    for _ in range(2):  # the first batch is also a trial
        if packed:
            with attention_per_pair(model):
                found = answer_loss(model, concatenate(ITEMS))
        else:
            found = answer_loss(model, pad_right(ITEMS, 0))
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
        for got, exact in zip(gradient(found, model), gradient(reference(model), model), strict=True):
            torch.testing.assert_close(got, exact, rtol=1e-4, atol=1e-6)


# There are six answer tokens. What is computed in chunks is computed again backwards.
@pytest.mark.parametrize(("rows_at_once", "expected"), [(0.5, [1] * 12), (2, [2] * 6), (4, [4, 2] * 2), (6, [6])])
def test_chunks_hold_no_more_logits_than_allowed(
    model: Any, monkeypatch: pytest.MonkeyPatch, rows_at_once: float, expected: list[int]
) -> None:
    vocabulary = model.config.vocab_size
    monkeypatch.setattr(loss_module, "LOGIT_BYTES_AT_ONCE", int(rows_at_once * 4 * vocabulary))
    rows: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda head, inputs, logits: rows.append(logits.shape[-2]))
    answer_loss = AnswerLoss(model)
    for _ in range(2):  # the first batch is also a trial
        rows.clear()
        gradient(answer_loss(model, pad_right(ITEMS, 0)), model)
    # The first is the model's own, of one position of each row of the batch.
    assert sorted(rows) == sorted([1, *expected])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)], ids=str
)
def test_a_model_that_caps_its_logits_is_asked_for_them(dtype: torch.dtype, tolerance: float) -> None:
    model = gemma(dtype)
    answer_loss = AnswerLoss(model)
    wanted = reference(model)
    for _ in range(2):
        torch.testing.assert_close(answer_loss(model, pad_right(ITEMS, 0)), wanted, rtol=tolerance, atol=0)


@pytest.mark.parametrize("caps", [False, True])
def test_no_keys_and_values_are_kept(model: Any, caps: bool) -> None:
    """Nothing is generated, so that they would only take memory."""
    model = gemma(torch.float32) if caps else model
    kept: list[Any] = []
    model.register_forward_hook(lambda model, inputs, output: kept.append(output.past_key_values))
    answer_loss = AnswerLoss(model)
    for _ in range(2):
        answer_loss(model, pad_right(ITEMS, 0))
    assert len(kept) == 2 + caps
    assert not any(kept)


def test_a_batch_that_is_not_finite_decides_nothing(model: Any) -> None:
    """NaN compares as unlike: the logits of whole batches would be taken from then on."""
    answer_loss, wanted = AnswerLoss(model), reference(model).item()
    weight = model.get_input_embeddings().weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(torch.nan)
        assert answer_loss(model, pad_right(ITEMS, 0)).isnan()
        weight.copy_(kept)
    rows: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda head, inputs, logits: rows.append(logits.shape[-2]))
    assert answer_loss(model, pad_right(ITEMS, 0)).item() == pytest.approx(wanted, rel=1e-6)
    # The model itself is asked for one position of each row.
    assert rows[0] == 1


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("bias", [False, True])
def test_frozen_head_has_the_same_loss_in_one_pass(dtype: torch.dtype | None, bias: bool) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 97, bias=bias).requires_grad_(False)
    states, targets = (3 * torch.randn(11, 16)).requires_grad_(), torch.randint(97, (11,))
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        assert is_fusible(head, states)
        wanted = torch.nn.functional.cross_entropy(head(states).float(), targets, reduction="sum") / 7
        found = HeadLoss.apply(states, targets, head, 4) / 7  # type: ignore[no-untyped-call]
        (exact,) = torch.autograd.grad(wanted, states)
        (gradient,) = torch.autograd.grad(found, states)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    tolerance = 1e-6 if dtype is None else 2e-2
    assert (gradient - exact).abs().max() <= tolerance * exact.abs().max()


def test_fp16_and_trained_heads_are_left_to_torch() -> None:
    head, states = torch.nn.Linear(4, 9), torch.randn(2, 4, requires_grad=True)
    assert not is_fusible(head, states)
    head.requires_grad_(False)
    with torch.autocast("cpu", torch.float16):
        assert not is_fusible(head, states)
