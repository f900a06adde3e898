"""What is relied on of Liger beyond its documented interface. No kernel runs here, so no GPU is needed."""

from importlib.util import find_spec
from typing import Any

import pytest
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2 import modeling_qwen2

from medqa_finetune.compat import liger
from scripts.small_models import SIZES

pytestmark = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("liger_kernel", "triton")),
    reason="liger-kernel and triton are not installed",
)


@pytest.fixture
def model() -> Any:
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=300, **SIZES))


def spaces_of(model: Any) -> list[dict[str, Any]]:
    return [dict(vars(modeling_qwen2)), *(dict(vars(part)) for part in model.modules())]


def with_liger_forward(model: Any) -> list[str]:
    return [
        name
        for name, part in model.named_modules()
        if "forward" in vars(part) and "liger" in vars(part)["forward"].__func__.__module__
    ]


def test_families_are_named_as_in_a_config() -> None:
    assert {"qwen2", "qwen3", "llama", "mistral"} <= liger.families()
    assert "phi" not in liger.families()


def test_applied_replaces_norms_mlps_and_rotary_embeddings_and_no_loss(model: Any) -> None:
    rotary = modeling_qwen2.apply_rotary_pos_emb
    with liger.applied(model) as any_kernels:
        assert any_kernels
        layers = [f"model.layers.{layer}" for layer in range(2)]
        parts = ("input_layernorm", "post_attention_layernorm", "mlp")
        assert set(with_liger_forward(model)) == {f"{layer}.{part}" for layer in layers for part in parts} | {
            "model.norm"
        }
        assert modeling_qwen2.apply_rotary_pos_emb is not rotary


def test_applied_leaves_nothing_behind(model: Any) -> None:
    import liger_kernel.transformers.monkey_patch  # noqa: F401 (what its import alone changes is not ours)

    before = spaces_of(model)
    with liger.applied(model):
        assert spaces_of(model) != before
    assert spaces_of(model) == before
    assert with_liger_forward(model) == []


def test_applied_says_where_there_are_no_kernels(model: Any) -> None:
    model.config.model_type = "phi"
    with liger.applied(model) as any_kernels:
        assert not any_kernels
