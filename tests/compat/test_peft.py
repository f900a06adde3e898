"""What is used of peft beyond its promises is still there, and does what it is used for."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from medqa_finetune.compat import peft as compat

SIZES: dict[str, Any] = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                         "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip


@pytest.fixture
def base() -> Any:
    return Qwen2ForCausalLM(Qwen2Config(**SIZES))


@pytest.fixture
def adapted(base: Any) -> Any:
    return get_peft_model(base, LoraConfig(r=3, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


def test_the_bare_model_is_the_one_below_the_adapters(adapted: Any) -> None:
    below = compat.bare(adapted)
    assert type(below) is Qwen2ForCausalLM
    assert compat.bare(below) is below


def test_adapters_are_known_by_their_settings(base: Any, adapted: Any) -> None:
    assert {name: each.r for name, each in compat.adapters(adapted).items()} == {"default": 3}


def test_a_model_without_adapters_has_none(base: Any) -> None:
    assert compat.adapters(base) == {}


def test_an_adapter_of_transformers_own_counts(base: Any) -> None:
    try:
        base.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    except ValueError as error:
        pytest.skip(f"transformers and peft as installed do not go together here: {error}")
    assert [each.r for each in compat.adapters(base).values()] == [2]


@pytest.mark.parametrize("leaving", ["merge_and_unload", "unload"])
def test_an_unloaded_adapter_leaves_nothing_on_the_model(adapted: Any, leaving: str) -> None:
    plain = getattr(adapted, leaving)()
    assert type(plain) is Qwen2ForCausalLM
    assert compat.adapters(plain) == {}
    assert not any("lora" in name for name, _ in plain.named_parameters())


def test_settings_of_an_adapter_are_known_by_name() -> None:
    assert {"r", "lora_alpha", "lora_dropout", "target_modules", "use_dora", "use_rslora"} <= set(
        compat.known_settings()
    )


def test_target_modules_stay_in_one_order(adapted: Any) -> None:
    settings: Any = compat.adapters(adapted)["default"]
    compat.sort_targets(settings)
    assert settings.to_dict()["target_modules"] == ["q_proj", "v_proj"]


def test_modules_with_adapters_are_known(base: Any, adapted: Any) -> None:
    layer = compat.bare(adapted).model.layers[0]
    assert compat.has_adapter(layer.self_attn.q_proj)
    assert not compat.has_adapter(layer.mlp.up_proj)


def test_names_that_peft_takes_for_experts_are_known(base: Any) -> None:
    """If none is any more, adapters of dense layers can be modules everywhere, and the refusal can go."""
    experts: dict[str, Any] = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16, "head_dim": 8}
    mixture = Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **experts))
    names = ["self_attn.q_proj", "mlp.gate_proj", "shared_experts.down_proj"]
    assert compat.taken_for_experts(mixture, names) == names[1:]
    assert compat.taken_for_experts(base, names) == []


def test_adapters_take_their_input_as_it_is_inside_the_block(adapted: Any) -> None:
    layer = adapted.get_base_model().model.layers[0].self_attn.q_proj
    seen: list[Any] = []
    layer.lora_A["default"].register_forward_pre_hook(lambda part, given: seen.append(given[0].dtype))
    half = torch.ones(1, 16, dtype=torch.bfloat16)
    for active in (True, False):
        with compat.own_input_precision(adapted, active=active), torch.autocast("cpu", torch.bfloat16):
            layer(half)
    assert seen == [torch.bfloat16, torch.float32]
