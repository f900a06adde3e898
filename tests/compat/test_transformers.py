"""What is used of transformers beyond its promises is still there, and does what it is used for."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    TrainingArguments,
    XLNetConfig,
)

from medqa_finetune.compat import transformers as compat
from tests.compat.small import SMALL, skeleton
from tests.evaluation.tiny import VOCABULARY, tiny_model


@pytest.mark.parametrize("architecture", ["llama", "phi", "qwen2"])
def test_attention_layers_know_width_and_groups_of_heads(architecture: str) -> None:
    model = tiny_model(architecture)
    attention = model.model.layers[0].self_attn
    assert compat.head_width(attention) == 8
    ids = torch.tensor([[5, 6, 7]])
    with compat.attention_by(model, "eager"):
        before = model(input_ids=ids).logits
        compat.share_keys(attention, 2)
        torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=0, atol=0)
        compat.share_keys(attention, 3)
        with pytest.raises(RuntimeError):
            model(input_ids=ids)


def test_torch_attention_is_that_of_torch() -> None:
    query, key, value = torch.randn(3, 1, 2, 5, 8)
    module: Any = torch.nn.Module()
    found, weights = compat.torch_attention()(module, query, key, value, None, 0.0, 0.5, is_causal=True)
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.5)
    torch.testing.assert_close(found, wanted.transpose(1, 2))
    assert weights is None


def test_another_attention_is_taken_and_given_back(model: Any) -> None:
    assert compat.takes_attention(model)
    before = model.config._attn_implementation
    with compat.attention_by(model, "eager"):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == before


def test_an_architecture_with_attention_of_its_own_takes_no_other() -> None:
    assert not compat.takes_attention(skeleton(XLNetConfig(vocab_size=64, d_model=32, n_layer=1, n_head=2, d_inner=32)))


def test_quantized_weights_are_known_and_made_plain(
    micro_model: Path, caplog: pytest.LogCaptureFixture, model: Any
) -> None:
    four: Any = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)  # type: ignore[no-untyped-call]
    eight: Any = BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    held = [AutoModelForCausalLM.from_pretrained(micro_model, quantization_config=each) for each in (four, eight)]
    assert [compat.is_quantized(each) for each in (*held, model)] == [True, True, False]
    assert [compat.is_eight_bit(each) for each in (*held, model)] == [False, True, False]
    with caplog.at_level(logging.WARNING):
        plain = compat.dequantize(held[0])
    assert not compat.is_quantized(plain)
    assert {weight.dtype for weight in plain.parameters()} == {torch.float32}
    assert [record.getMessage() for record in caplog.records if record.name.startswith("transformers")] == []


def test_tied_weights_are_named_with_what_they_are_tied_to(model: Any) -> None:
    assert compat.tied_weights(model) == {"lm_head.weight": "model.embed_tokens.weight"}
    assert compat.tied_weights(Qwen2ForCausalLM(Qwen2Config(**SMALL, tie_word_embeddings=False))) == {}


def test_gpt2_keeps_its_matrices_in_layers_that_are_told_apart() -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2))
    assert any(isinstance(part, compat.Conv1D) for part in gpt2.modules())


def test_optimizers_are_known_by_name(tmp_path: Path) -> None:
    assert {"adamw_torch", "adamw_torch_fused", "paged_adamw_8bit"} <= set(compat.optimizer_names())
    arguments = TrainingArguments(output_dir=str(tmp_path), optim="adamw_torch_fused", use_cpu=True)
    assert compat.optimizer_name(arguments) == "adamw_torch_fused"


def test_trainer_is_kept_to_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    monkeypatch.setattr(arguments, "_n_gpu", 4)
    assert arguments.n_gpu == 4
    compat.use_one_gpu(arguments)
    assert arguments.n_gpu == 1


@pytest.mark.parametrize("on", [True, False])
def test_gradient_checkpointing_is_switched_by_arguments(
    on: bool, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **compat.checkpointing_options(on))
    name = next(name for name in compat.CHECKPOINTING if hasattr(arguments, name))
    assert getattr(arguments, name) is on
    assert getattr(arguments, f"{name}_kwargs") == {"use_reentrant": False}
    assert [str(each.message) for each in recwarn if "checkpointing" in str(each.message)] == []


def test_gradient_checkpointing_is_switched_on_a_model(model: Any) -> None:
    layer = model.base_model.layers[0]
    assert not layer.gradient_checkpointing
    with compat.gradient_checkpointing(model):
        assert layer.gradient_checkpointing
    assert not layer.gradient_checkpointing


def test_vocabularies_are_as_wide_as_heads() -> None:
    model = tiny_model("qwen2")
    assert model.base_model is model.model
    assert model.get_output_embeddings().weight.shape[0] == VOCABULARY


def test_attention_of_a_models_own_file_is_found(model: Any) -> None:
    layer = model.model.layers[0].self_attn
    assert compat.attention_name(model) == "sdpa"
    attend = compat.eager_attention(layer)
    assert attend is not None
    states = [torch.randn(1, heads, 3, 8) for heads in (4, 2, 2)]
    mask = torch.full((3, 3), torch.finfo(torch.float32).min).triu(1)[None, None]
    found, _ = attend(layer, *states, mask, scaling=layer.scaling, dropout=0.0)
    wanted, _ = compat.torch_attention()(layer, *states, None, scaling=layer.scaling, is_causal=True)
    torch.testing.assert_close(found, wanted)
    assert compat.eager_attention(torch.nn.Linear(1, 1)) is None


def test_ties_that_are_forgotten_are_not_saved(model: Any, tmp_path: Path) -> None:
    assert compat.tied_weights(model)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() + 1)
    compat.forget_ties(model)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not again.config.tie_word_embeddings
    torch.testing.assert_close(again.lm_head.weight, again.model.embed_tokens.weight + 1)
