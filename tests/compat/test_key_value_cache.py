"""Caches of keys and values: which models keep them, under which name, and in which tensors."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    FalconMambaConfig,
    MambaConfig,
    OpenAIGPTConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    XLNetConfig,
)
from transformers.cache_utils import DynamicLayer
from transformers.utils.generic import ModelOutput

from medqa_finetune.compat import key_value_cache
from medqa_finetune.compat import transformers as compat
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from tests.compat.small import SMALL, skeleton
from tests.evaluation.tiny import ARCHITECTURES, tiny_model

# Recurrent states, a memory of its own, none at all.
WITHOUT_KEYS_AND_VALUES = {
    "mamba": MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4),
    "falcon_mamba": FalconMambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4),
    "xlnet": XLNetConfig(vocab_size=64, d_model=32, n_layer=1, n_head=2, d_inner=32),
    "openai-gpt": OpenAIGPTConfig(vocab_size=64, n_embd=32, n_layer=1, n_head=2),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_keeps_keys_and_values(architecture: str) -> None:
    assert key_value_cache.keeps_keys_and_values(skeleton(tiny_model(architecture).config))


@pytest.mark.parametrize("architecture", WITHOUT_KEYS_AND_VALUES)
def test_other_architectures_keep_none(architecture: str) -> None:
    assert not key_value_cache.keeps_keys_and_values(skeleton(WITHOUT_KEYS_AND_VALUES[architecture]))


def test_a_cache_left_empty_is_none(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = type(model).forward

    def without(self: Any, cache: Any = None, past_key_values: Any = None, **options: Any) -> Any:
        return forward(self, **options)

    monkeypatch.setattr(type(model), "forward", without)
    assert not key_value_cache.keeps_keys_and_values(model)


def test_a_model_that_refuses_our_kind_of_cache_keeps_none(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As MiniMax does, whose cache is of its own class."""

    def refusing(self: Any, input_ids: Any, cache: Any = None, past_key_values: Any = None, **options: Any) -> Any:
        raise ValueError("uses a cache of its own")

    monkeypatch.setattr(type(model), "forward", refusing)
    assert not key_value_cache.keeps_keys_and_values(model)


def test_experts_chosen_by_values_do_not_hinder_the_judgement() -> None:
    config = AutoConfig.for_model("mixtral", **SMALL, num_local_experts=2, num_experts_per_tok=1)
    assert key_value_cache.keeps_keys_and_values(skeleton(config))


def test_the_trial_leaves_the_mode_of_a_model_alone(model: Any) -> None:
    assert key_value_cache.keeps_keys_and_values(model.train())
    assert model.training


@pytest.mark.parametrize("argument", key_value_cache.CACHE_ARGUMENTS)
def test_a_cache_is_given_by_the_name_that_forward_has(argument: str) -> None:
    class Model:
        config = Qwen2Config(**SMALL)

        def forward(self, input_ids: Any, **options: Any) -> None: ...

    parameters = {"self": Any, argument: Any}
    namespace: dict[str, Any] = {}
    exec(f"def forward({', '.join(parameters)}): ...", namespace)  # noqa: S102 (a signature under either name)
    Model.forward = namespace["forward"]  # type: ignore[method-assign]
    cache = key_value_cache.new_cache(Model(), 4)
    assert cache is not None
    assert list(cache.as_argument()) == [argument]


def test_a_cache_under_an_unknown_name_is_found(model: Any) -> None:
    """As after 5.24, should a release rename it once more."""
    name = next(name for name in key_value_cache.CACHE_ARGUMENTS if name in compat.forward_arguments(model))
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
    assert key_value_cache.cache_argument(renamed) == "kv_store"
    assert key_value_cache.keeps_keys_and_values(renamed)
    ending = Ending(stop_ids=(), pad_id=0, max_new_tokens=4)
    prompts = [[1, 2, 3], [4]]
    assert decode_greedily(renamed, prompts, ending) == decode_greedily(model, prompts, ending)


def test_forward_names_its_cache_as_known(model: Any) -> None:
    assert set(key_value_cache.CACHE_ARGUMENTS) & set(compat.forward_arguments(model))
    assert {"position_ids", "input_ids"} <= set(compat.forward_arguments(model))


def test_no_deprecated_name_is_used_for_the_cache(model: Any, recwarn: pytest.WarningsRecorder) -> None:
    cache = key_value_cache.new_cache(model, 4)
    assert cache is not None
    model(input_ids=torch.tensor([[1, 2]]), use_cache=True, **cache.as_argument())
    assert [str(each.message) for each in recwarn if issubclass(each.category, FutureWarning)] == []


def test_a_roomy_layer_equals_the_layer_of_transformers() -> None:
    torch.manual_seed(1)
    roomy, own = key_value_cache.RoomyLayer(8), DynamicLayer()  # type: ignore[no-untyped-call]
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
    cache = key_value_cache.new_cache(tiny_model("gemma2"), 8)
    assert cache is not None
    kinds = [type(layer).__name__ for layer in cache.cache.layers]
    assert kinds == ["DynamicSlidingWindowLayer", "RoomyLayer"]


def test_a_cache_counts_tokens_and_keeps_rows(model: Any) -> None:
    cache = key_value_cache.new_cache(model, 4)
    assert cache is not None
    assert cache.tokens() == 0
    model(input_ids=torch.tensor([[1, 2, 3], [4, 5, 6]]), use_cache=True, **cache.as_argument())
    assert cache.tokens() == 3
    cache.keep(torch.tensor([1]))
    first: Any = cache.cache.layers[0]
    assert first.keys.shape[0] == 1


def test_groups_of_rows_fill_one_layer_and_leave_padding_finite() -> None:
    torch.manual_seed(2)
    layer = key_value_cache.RoomyLayer(6)
    first, second = torch.randn(2, 2, 2, 4, 8), torch.randn(2, 1, 2, 3, 8)
    for rows, ahead, states in ((slice(0, 2), 0, first), (slice(2, 3), 1, second)):
        layer.begin_group(rows, ahead, 3)
        assert layer.get_seq_length() == 0
        keys, values = layer.update(states[0], states[1])
        assert keys.shape == states[0].shape == values.shape
    layer.end_groups(4)
    assert layer.keys is not None
    assert layer.keys.shape == (3, 2, 4, 8)
    assert bool((layer.keys[2, :, 0] == 0).all())
    torch.testing.assert_close(layer.keys[:2], first[0], rtol=0, atol=0)
    torch.testing.assert_close(layer.keys[2:, :, 1:], second[0], rtol=0, atol=0)
    keys, _ = layer.update(*torch.randn(2, 3, 2, 1, 8))
    assert keys.shape == (3, 2, 5, 8)
