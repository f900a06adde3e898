"""Attention per pair gives what each pair alone would give."""

import inspect
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.attention.varlen as torch_varlen
from transformers import AutoConfig, AutoModelForCausalLM

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.model import attention
from medqa_finetune.model.attention import HAS_VARLEN, NAME, attention_per_pair
from medqa_finetune.model.load import choose_device, load_model
from tests.faulty import only_fault

LENGTHS = [5, 1, 9, 3]


@pytest.fixture(scope="module")
def model(micro_model: Path) -> Any:
    model: Any = load_model(micro_model, MethodConfig(name="lora"), choose_device("fp32"), seed=0).model
    return model.eval()


BOUNDS: dict[str, Any] = {"pair_lengths": LENGTHS, "pair_bounds": torch.tensor([0, 5, 6, 15, 18], dtype=torch.int32)}


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
        together = model(**row(), **BOUNDS, use_cache=False).logits
    torch.testing.assert_close(together, one_by_one(model), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_no_pair_sees_another(model: Any) -> None:
    changed = row()
    changed["input_ids"][0, : LENGTHS[0]] += 1
    with attention_per_pair(model):
        before = model(**row(), **BOUNDS, use_cache=False).logits
        after = model(**changed, **BOUNDS, use_cache=False).logits
    first = LENGTHS[0]
    assert not torch.equal(before[:, :first], after[:, :first])
    assert torch.equal(before[:, first:], after[:, first:])


def test_gradients_equal_those_of_pairs_alone(model: Any) -> None:
    adapter = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with attention_per_pair(model):
        loss = model(**row(), **BOUNDS, use_cache=False).logits.square().sum()
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


def test_an_architecture_that_takes_no_other_attention_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medqa_finetune.model.attention.takes_attention", lambda model: False)
    with pytest.raises(ModelError) as caught:
        attention_per_pair(model).__enter__()
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-supported", "train.packing", True)
    assert "Qwen2ForCausalLM" in fault.problem
    assert "train.packing=false" in fault.hint


def tiny(kind: str, **settings: Any) -> Any:
    """A model of another architecture, 200 tokens, two layers, random weights."""
    torch.manual_seed(0)
    common = {"vocab_size": 200, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = AutoConfig.for_model(kind, **(common | settings))
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(config).eval()
    with torch.no_grad():  # large enough that attention matters
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "embed" not in name:
                weight.mul_(8)
            elif "sinks" in name:
                weight.normal_()
    return model


HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
TURNS = ["sliding_attention", "full_attention"]
# Gemma 2 limits its scores, and gpt-oss has sinks, which torch's own attention has not.
WINDOWED: dict[str, dict[str, Any]] = {
    "mistral": HEADS | {"sliding_window": 3},
    "qwen2": HEADS | {"sliding_window": 3, "use_sliding_window": True, "layer_types": TURNS},
    "qwen3": HEADS | {"sliding_window": 3, "use_sliding_window": True, "layer_types": TURNS, "head_dim": 8},
    "phi3": HEADS | {"sliding_window": 3, "pad_token_id": 0},
    "gemma2": HEADS | {"sliding_window": 3, "layer_types": TURNS, "head_dim": 8, "attn_logit_softcapping": 0.1},
    "gemma3_text": HEADS | {"sliding_window": 3, "layer_types": TURNS, "head_dim": 8},
    "cohere2": HEADS | {"sliding_window": 3, "layer_types": TURNS, "pad_token_id": 0},
    "olmo3": HEADS | {"sliding_window": 3, "layer_types": TURNS},
    "gpt_oss": HEADS | {"sliding_window": 3, "layer_types": TURNS, "head_dim": 8, "num_local_experts": 4,
                        "num_experts_per_tok": 2, "pad_token_id": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("phi", {"num_attention_heads": 4, "partial_rotary_factor": 0.5}),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 2}),
        ("qwen3", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}),
        ("gpt_neox", {"num_attention_heads": 4}),
        ("mixtral", HEADS | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    ],
)
@torch.no_grad()
def test_other_architectures_can_be_packed(kind: str, settings: dict[str, Any]) -> None:
    other = tiny(kind, **settings)
    wanted = one_by_one(other)
    with attention_per_pair(other):
        together = other(**row(), **BOUNDS, use_cache=False).logits
    torch.testing.assert_close(together, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", WINDOWED)
@torch.no_grad()
def test_windows_limits_and_sinks_are_those_of_the_model(kind: str) -> None:
    """Examples of 5 and 9 tokens over windows of 3, in all layers or every second one."""
    other = tiny(kind, **WINDOWED[kind])
    wanted = one_by_one(other)
    with attention_per_pair(other, max_length=64):
        together = other(**row(), **BOUNDS, use_cache=False).logits
    torch.testing.assert_close(together, wanted, rtol=1e-4, atol=1e-5)
    # The window matters here: without it the logits are others.
    wide = tiny(kind, **(WINDOWED[kind] | {"sliding_window": 64}))
    assert (one_by_one(wide) - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["gemma2", "gpt_oss", "mistral"])
def test_gradients_through_windows_equal_those_of_pairs_alone(kind: str) -> None:
    other = tiny(kind, **WINDOWED[kind])
    weights = list(other.parameters())
    with attention_per_pair(other):
        loss = other(**row(), **BOUNDS, use_cache=False).logits.square().sum()
    together = torch.autograd.grad(loss, weights)
    alone = torch.autograd.grad(one_by_one(other).square().sum(), weights)
    for got, wanted in zip(together, alone, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item() + 1e-7)


def test_windows_that_only_masks_have_are_refused_for_longer_examples() -> None:
    chunks = {"attention_chunk_size": 16, "head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 64,
              "layer_types": ["chunked_attention", "full_attention"], "pad_token_id": 0}  # fmt: skip
    other = tiny("llama4_text", **(HEADS | chunks))
    with pytest.raises(ModelError) as caught:
        attention_per_pair(other, max_length=17).__enter__()
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-supported", "train.packing", True)
    assert "train.packing=false" in fault.hint
    assert "train.max_length=16" in fault.hint
    with attention_per_pair(other, max_length=16):
        pass


def test_a_model_that_carries_something_from_pair_to_pair_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    leaking = tiny("llama", num_attention_heads=4)
    norm = leaking.model.norm
    monkeypatch.setattr(norm, "forward", lambda states: states.cumsum(dim=1))  # as a recurrent layer would
    with pytest.raises(ModelError) as caught:
        attention_per_pair(leaking).__enter__()
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("not-supported", "train.packing")
    assert re.search(r"\d+%", fault.problem)


@pytest.mark.skipif(not HAS_VARLEN, reason="this torch has no such kernel; pairs are taken one by one")
def test_on_a_gpu_one_kernel_takes_all_pairs(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: the call is checked against what torch documents, and answered by a reference."""
    calls: list[dict[str, Any]] = []

    def reference(
        q: Any, k: Any, v: Any, bounds: Any, key_bounds: Any, longest: int, key_longest: int, **options: Any
    ) -> Any:
        inspect.signature(torch_varlen.varlen_attn).bind(q, k, v, bounds, key_bounds, longest, key_longest, **options)
        calls.append({"longest": longest, **options})
        attend: Any = torch.nn.functional.scaled_dot_product_attention
        behind = torch.arange(longest)[:, None] - torch.arange(longest)[None, :]
        left, right = options["window_size"]
        mask = (behind >= -right) & ((behind <= left) | (left < 0))
        parts = [
            attend(
                *(states[begin:end].transpose(0, 1)[None] for states in (q, k, v)),
                attn_mask=mask[: end - begin, : end - begin], scale=options["scale"], enable_gqa=options["enable_gqa"],
            )[0].transpose(0, 1)
            for begin, end in itertools.pairwise(bounds.tolist())
        ]  # fmt: skip
        return torch.cat(parts)

    monkeypatch.setattr(attention, "_can_flash", lambda query: True)
    monkeypatch.setattr(attention, "varlen_attn", reference)
    with torch.no_grad(), attention_per_pair(model):
        together = model(**row(), **BOUNDS, use_cache=False).logits
    torch.testing.assert_close(together, one_by_one(model), rtol=1e-5, atol=1e-6)
    assert calls[-1]["longest"] == max(LENGTHS)
    assert calls[-1]["window_size"] == (-1, 0)
    windowed = tiny("mistral", **WINDOWED["mistral"])
    with torch.no_grad(), attention_per_pair(windowed):
        together = windowed(**row(), **BOUNDS, use_cache=False).logits
    torch.testing.assert_close(together, one_by_one(windowed), rtol=1e-4, atol=1e-5)
    # A token attends to itself and to two before it.
    assert calls[-1]["window_size"] == (2, 0)
    # A kernel that counts otherwise is not used for windows.
    attention._flash_keeps_windows.cache_clear()
    calls.clear()
    shifted = lambda *given, window_size, **rest: reference(*given, window_size=(3, 0), **rest)  # noqa: E731
    monkeypatch.setattr(attention, "varlen_attn", shifted)
    with torch.no_grad(), attention_per_pair(windowed):
        together = windowed(**row(), **BOUNDS, use_cache=False).logits
    torch.testing.assert_close(together, one_by_one(windowed), rtol=1e-4, atol=1e-5)
    assert [call["longest"] for call in calls] == [9]
    attention._flash_keeps_windows.cache_clear()
