"""Which matrices are meant: by the names alone, and as transformers itself says of its models."""

from typing import Any

import pytest
import torch
import transformers

from medqa_finetune.architecture.size import layer_number, size_of_shapes
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.shared.targets import choose_linear, in_attention
from medqa_finetune.model.parameters import adapted_modules, count_parameters
from tests.faulty import only_fault

SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
# As many kinds of names as transformers has: self_attn, attn, self_attention, attention; fused or not; mlp or bare.
KINDS: dict[str, dict[str, Any]] = {
    "Qwen2": SMALL | {"intermediate_size": 96}, "Llama": SMALL | {"intermediate_size": 96},
    "Phi": SMALL | {"intermediate_size": 96}, "Mistral": SMALL | {"intermediate_size": 96},
    "Phi3": SMALL | {"intermediate_size": 96, "pad_token_id": 0}, "GPTNeoX": SMALL | {"intermediate_size": 96},
    "Bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100},
    "Falcon": SMALL, "GPT2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100},
    "OPT": SMALL | {"ffn_dim": 96, "word_embed_proj_dim": 32},
}  # fmt: skip


def model_of(kind: str) -> Any:
    """Return a small model of a kind, without memory for its weights."""
    stem = {"GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM")
    with torch.device("meta"):
        return getattr(transformers, stem)(getattr(transformers, f"{kind}Config")(**KINDS[kind]))


def linear_below(model: torch.nn.Module, wanted: type[torch.nn.Module]) -> set[str]:
    """Return the linear layers inside modules of a class."""
    kinds = (torch.nn.Linear, transformers.pytorch_utils.Conv1D)
    return {
        f"{name}.{inner}"
        for name, part in model.named_modules() if isinstance(part, wanted)
        for inner, each in part.named_modules() if isinstance(each, kinds)
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_what_transformers_calls_so(kind: str) -> None:
    """Against the class whose attention weights transformers would hand out."""
    model = model_of(kind)
    module = __import__(type(model).__module__, fromlist=["x"])
    (attention,) = (
        each for name, each in vars(module).items()
        if isinstance(each, type) and name == f"{kind}Attention" and issubclass(each, torch.nn.Module)
    )  # fmt: skip
    adapted = model_method(MethodConfig(name="lora", target_modules="attention")).apply(model)
    found = {name.removesuffix(".lora_A") for name, _ in adapted.named_modules() if name.endswith(".lora_A")}
    assert found == {f"base_model.model.{name}" for name in linear_below(model_of(kind), attention)}
    assert found


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_are_everything_between_embedding_and_head(kind: str) -> None:
    def adapted(group: str) -> set[str]:
        model = model_method(MethodConfig(name="lora", target_modules=group)).apply(model_of(kind))
        return {name for name, _ in model.named_modules() if name.endswith(".lora_A")}

    beyond = adapted("all_linear") - adapted("attention_mlp")
    assert adapted("attention") < adapted("attention_mlp")
    # OPT alone has linear layers between its embedding and its layers.
    assert {name.split(".")[-2] for name in beyond} == ({"project_in", "project_out"} if kind == "OPT" else set())


@pytest.mark.parametrize("group", ["attention", "attention_mlp", "all_linear"])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", ["Qwen2", "Llama", "Phi"])
def test_weights_are_counted_by_name_as_peft_counts_them(group: str, dora: bool, kind: str) -> None:
    model = model_of(kind)
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    size = size_of_shapes(shapes, model.config.to_dict(), 0)
    assert size is not None
    method = MethodConfig(name="lora", rank=3, target_modules=group, dora=dora)
    model = model_method(method).apply(model)
    assert model_method(method).trainable_parameters(size) == count_parameters(model, trainable_only=True)
    assert adapted_modules(model) == sorted(adapted_modules(model))


def test_names_are_recorded_by_two_parts() -> None:
    model = model_method(MethodConfig(name="lora", target_modules="attention")).apply(model_of("GPT2"))
    assert adapted_modules(model) == ["attn.c_attn", "attn.c_proj"]


def test_a_model_without_attention_is_refused() -> None:
    with torch.device("meta"):
        model = transformers.MambaForCausalLM(transformers.MambaConfig(**(SMALL | {"num_hidden_layers": 1})))
    with pytest.raises(ModelError) as caught:
        model_method(MethodConfig(name="lora", target_modules="attention")).apply(model)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("no-such-module", "method.target_modules", "attention")
    assert "in_proj" in fault.allowed


def test_the_rule_itself() -> None:
    names = ["model.layers.0.self_attn.q_proj", "model.layers.10.mlp.up_proj", "model.project_in"]
    assert [in_attention(name) for name in names] == [True, False, False]
    assert [layer_number(name) for name in names] == [0, 10, None]
    assert choose_linear(names, "attention_mlp") == names[:2]
    assert choose_linear(names, "all_linear") == names
    # Not by its own name: a linear layer called `attn_gate` of an MLP is none of the attention.
    assert not in_attention("layers.0.mlp.attn_gate")
