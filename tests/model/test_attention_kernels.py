"""Attention for GPUs without flash attention gives what torch's own gives."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from medqa_finetune.model import attention, attention_kernels
from medqa_finetune.model.attention_kernels import (
    EXPANDED_NAME,
    attend_expanded,
    attend_padded,
    expand_keys_where_needed,
    group_lengths,
    padding_of,
)
from tests.model.test_attention import HEADS, LENGTHS, tiny


class Layer(torch.nn.Module):
    """What attention functions ask of a layer."""

    num_key_value_groups = 3
    is_causal = True


def states(tokens: int, rows: int = 1, heads: int = 6, own: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, heads, tokens, 8), (rows, own, tokens, 8), (rows, own, tokens, 8)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def test_padded_examples_attend_as_they_do_alone() -> None:
    given = states(sum(LENGTHS))
    together = attend_padded(given, LENGTHS, scaling=None, dropout=0.0)
    parts = zip(*(torch.split(each, LENGTHS, dim=2) for each in given), strict=True)
    alone = torch.cat(
        [
            functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
            for q, k, v in parts
        ],
        dim=1,
    )
    torch.testing.assert_close(together, alone)
    weights = torch.randn(together.shape, generator=torch.Generator().manual_seed(1))
    for found, wanted in zip(
        torch.autograd.grad((together * weights).sum(), given),
        torch.autograd.grad((alone * weights).sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)


def test_every_token_has_a_place_and_little_is_padded() -> None:
    lengths = [50, 500, 480, 300, 260, 60, 1]
    padding = padding_of(lengths, torch.device("cpu"))
    assert torch.equal(padding.gather[padding.back], torch.arange(sum(lengths)))
    assert len(padding.gather) == sum(examples * longest for examples, longest in padding.groups)
    assert sorted(example for group in group_lengths(lengths) for example in group) == list(range(len(lengths)))
    assert len(padding.gather) * attention_kernels.PADDED_SHARE <= sum(lengths)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [1, 5])
def test_expanded_keys_give_what_shared_keys_give(tokens: int, masked: bool) -> None:
    query, key, value = states(5, rows=2)
    query = query[:, :, :tokens]
    mask = torch.ones(2, 1, tokens, 5, dtype=torch.bool) if masked else None
    if tokens > 1 and mask is not None:
        mask = mask.tril()
    options: dict[str, Any] = {"scaling": 0.3}
    found, _ = attend_expanded(Layer(), query, key, value, mask, **options)
    wanted, _ = attention.ATTEND(Layer(), query, key, value, mask, **options)
    torch.testing.assert_close(found, wanted)


@torch.no_grad()
def test_a_model_answers_alike_with_expanded_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("qwen2", **HEADS)
    ids = torch.tensor([[5, 60, 7, 8, 90], [1, 2, 3, 4, 5]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    wanted = [model(input_ids=ids).logits, model(input_ids=ids, attention_mask=mask).logits[:, 2:]]
    monkeypatch.setattr(attention_kernels, "needs_expanded_keys", lambda device: True)
    expand_keys_where_needed(model)
    assert model.config._attn_implementation == EXPANDED_NAME
    torch.testing.assert_close(model(input_ids=ids).logits, wanted[0])
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits[:, 2:], wanted[1])


def test_an_older_torch_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny("qwen2", **HEADS)
    monkeypatch.setattr(attention, "HAS_VARLEN", False)
    with attention.attention_per_pair(model):
        assert not caplog.records
    monkeypatch.setattr(attention, "has_flash", lambda device: True)
    with attention.attention_per_pair(model):
        assert [record.levelname for record in caplog.records] == ["WARNING"]
