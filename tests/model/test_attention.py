"""Attention per pair gives what each pair alone would give."""

from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.model.attention import NAME, attention_per_pair
from medqa_finetune.model.load import choose_device, load_model

LENGTHS = [5, 1, 9, 3]


@pytest.fixture(scope="module")
def model(micro_model: Path) -> Any:
    model: Any = load_model(micro_model, MethodConfig(name="lora"), choose_device("fp32"), seed=0).model
    return model.eval()


def row() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 200, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(1))
    places = torch.tensor([[place for length in LENGTHS for place in range(length)]])
    return {"input_ids": ids, "position_ids": places}


def one_by_one(model: Any) -> torch.Tensor:
    """The logits of each pair in a row of its own, with transformers' own attention: the independent answer."""
    parts = torch.split(row()["input_ids"], LENGTHS, dim=1)
    return torch.cat([model(input_ids=part, use_cache=False).logits for part in parts], dim=1)


@torch.no_grad()
def test_a_pair_in_a_row_gets_the_logits_it_gets_alone(model: Any) -> None:
    with attention_per_pair(model):
        together = model(**row(), pair_lengths=LENGTHS, use_cache=False).logits
    torch.testing.assert_close(together, one_by_one(model), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_no_pair_sees_another(model: Any) -> None:
    changed = row()
    changed["input_ids"][0, : LENGTHS[0]] += 1
    with attention_per_pair(model):
        before = model(**row(), pair_lengths=LENGTHS, use_cache=False).logits
        after = model(**changed, pair_lengths=LENGTHS, use_cache=False).logits
    first = LENGTHS[0]
    assert not torch.equal(before[:, :first], after[:, :first])
    assert torch.equal(before[:, first:], after[:, first:])


def test_gradients_equal_those_of_pairs_alone(model: Any) -> None:
    adapter = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with attention_per_pair(model):
        loss = model(**row(), pair_lengths=LENGTHS, use_cache=False).logits.square().sum()
    together = torch.autograd.grad(loss, adapter)
    alone = torch.autograd.grad(one_by_one(model).square().sum(), adapter)
    for got, wanted in zip(together, alone, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_the_models_own_attention_is_back_afterwards(model: Any) -> None:
    before = model.config._attn_implementation

    def fail() -> None:
        with attention_per_pair(model):
            assert model.config._attn_implementation == NAME
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert model.config._attn_implementation == before


@torch.no_grad()
def test_an_architecture_that_takes_no_other_attention_keeps_its_own(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(model.get_base_model()), "_can_set_attn_implementation", lambda self: False)
    with attention_per_pair(model):
        together = model(**row(), use_cache=False).logits
    torch.testing.assert_close(together, one_by_one(model), rtol=1e-5, atol=1e-6)
