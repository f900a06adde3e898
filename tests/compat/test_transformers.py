"""What is used of transformers beyond its promises is still there, and does what it is used for."""

import logging
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    FalconMambaConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    OpenAIGPTConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    TrainingArguments,
    XLNetConfig,
)
from transformers.cache_utils import DynamicLayer
from transformers.utils.generic import ModelOutput

from medqa_finetune.compat import transformers as compat
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from tests.evaluation.tiny import ARCHITECTURES, VOCABULARY, tiny_model

SMALL: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
# Recurrent states, a memory of its own, none at all.
WITHOUT_KEYS_AND_VALUES = {
    "mamba": MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4),
    "falcon_mamba": FalconMambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4),
    "xlnet": XLNetConfig(vocab_size=64, d_model=32, n_layer=1, n_head=2, d_inner=32),
    "openai-gpt": OpenAIGPTConfig(vocab_size=64, n_embd=32, n_layer=1, n_head=2),
}


def skeleton(config: Any) -> Any:
    with torch.device("meta"):
        return cast(Any, AutoModelForCausalLM).from_config(config)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    made: Any = Qwen2ForCausalLM(Qwen2Config(**SMALL, tie_word_embeddings=True))
    return made.eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_keeps_keys_and_values(architecture: str) -> None:
    assert compat.keeps_keys_and_values(skeleton(tiny_model(architecture).config))


@pytest.mark.parametrize("architecture", WITHOUT_KEYS_AND_VALUES)
def test_other_architectures_keep_none(architecture: str) -> None:
    assert not compat.keeps_keys_and_values(skeleton(WITHOUT_KEYS_AND_VALUES[architecture]))


def test_a_cache_left_empty_is_none(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = type(model).forward

    def without(self: Any, cache: Any = None, past_key_values: Any = None, **options: Any) -> Any:
        return forward(self, **options)

    monkeypatch.setattr(type(model), "forward", without)
    assert not compat.keeps_keys_and_values(model)


def test_a_model_that_refuses_our_kind_of_cache_keeps_none(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As MiniMax does, whose cache is of its own class."""

    def refusing(self: Any, input_ids: Any, cache: Any = None, past_key_values: Any = None, **options: Any) -> Any:
        raise ValueError("uses a cache of its own")

    monkeypatch.setattr(type(model), "forward", refusing)
    assert not compat.keeps_keys_and_values(model)


def test_experts_chosen_by_values_do_not_hinder_the_judgement() -> None:
    config = AutoConfig.for_model("mixtral", **SMALL, num_local_experts=2, num_experts_per_tok=1)
    assert compat.keeps_keys_and_values(skeleton(config))


def test_the_trial_leaves_the_mode_of_a_model_alone(model: Any) -> None:
    assert compat.keeps_keys_and_values(model.train())
    assert model.training


@pytest.mark.parametrize("argument", compat.CACHE_ARGUMENTS)
def test_a_cache_is_given_by_the_name_that_forward_has(argument: str) -> None:
    class Model:
        config = Qwen2Config(**SMALL)

        def forward(self, input_ids: Any, **options: Any) -> None: ...

    parameters = {"self": Any, argument: Any}
    namespace: dict[str, Any] = {}
    exec(f"def forward({', '.join(parameters)}): ...", namespace)  # noqa: S102 (a signature under either name)
    Model.forward = namespace["forward"]  # type: ignore[method-assign]
    cache = compat.new_cache(Model(), 4)
    assert cache is not None
    assert list(cache.as_argument()) == [argument]


def test_a_cache_under_an_unknown_name_is_found(model: Any) -> None:
    """As after 5.24, should a release rename it once more."""
    name = next(name for name in compat.CACHE_ARGUMENTS if name in compat.forward_arguments(model))
    base: Any = Qwen2ForCausalLM
    output_class: Any = ModelOutput

    class Renamed(base):  # type: ignore[misc]
        def forward(self, input_ids: Any = None, kv_store: Any = None, **options: Any) -> Any:
            output = super().forward(input_ids=input_ids, **{name: kv_store}, **options)
            return output_class(logits=output.logits, kv_store=output[name])

        __call__ = forward

    renamed: Any = Renamed(model.config)
    renamed.load_state_dict(model.state_dict())
    renamed.eval()
    assert compat.cache_argument(renamed) == "kv_store"
    assert compat.keeps_keys_and_values(renamed)
    ending = Ending(stop_ids=(), pad_id=0, max_new_tokens=4)
    prompts = [[1, 2, 3], [4]]
    assert decode_greedily(renamed, prompts, ending) == decode_greedily(model, prompts, ending)


def test_forward_names_its_cache_as_known(model: Any) -> None:
    assert set(compat.CACHE_ARGUMENTS) & set(compat.forward_arguments(model))
    assert {"position_ids", "input_ids"} <= set(compat.forward_arguments(model))


def test_no_deprecated_name_is_used_for_the_cache(model: Any, recwarn: pytest.WarningsRecorder) -> None:
    cache = compat.new_cache(model, 4)
    assert cache is not None
    model(input_ids=torch.tensor([[1, 2]]), use_cache=True, **cache.as_argument())
    assert [str(each.message) for each in recwarn if issubclass(each.category, FutureWarning)] == []


def test_a_roomy_layer_equals_the_layer_of_transformers() -> None:
    torch.manual_seed(1)
    roomy, own = compat.RoomyLayer(8), DynamicLayer()  # type: ignore[no-untyped-call]
    for tokens in (3, 1, 1):
        keys, values = torch.randn(2, 2, 4, tokens, 8)
        for got, wanted in zip(roomy.update(keys, values), own.update(keys, values), strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert roomy.get_seq_length() == own.get_seq_length() == 5
    rows = torch.tensor([1])
    roomy.reorder_cache(rows)
    own.reorder_cache(rows)  # type: ignore[arg-type]
    torch.testing.assert_close(roomy.keys, own.keys, rtol=0, atol=0)


def test_full_attention_gets_the_room_and_windows_keep_their_layers() -> None:
    cache = compat.new_cache(tiny_model("gemma2"), 8)
    assert cache is not None
    kinds = [type(layer).__name__ for layer in cache.cache.layers]
    assert kinds == ["DynamicSlidingWindowLayer", "RoomyLayer"]


def test_a_cache_counts_tokens_and_keeps_rows(model: Any) -> None:
    cache = compat.new_cache(model, 4)
    assert cache is not None
    assert cache.tokens() == 0
    model(input_ids=torch.tensor([[1, 2, 3], [4, 5, 6]]), use_cache=True, **cache.as_argument())
    assert cache.tokens() == 3
    cache.keep(torch.tensor([1]))
    first: Any = cache.cache.layers[0]
    assert first.keys.shape[0] == 1


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
    assert not compat.takes_attention(skeleton(WITHOUT_KEYS_AND_VALUES["xlnet"]))


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
