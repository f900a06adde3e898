"""Fixtures of the tests of this folder."""

import pytest

from medqa_finetune.architecture.size import ModelSize
from tests.model.sizes import size_of, write_shapes


@pytest.fixture(scope="session")
def qwen_3b(tmp_path_factory: pytest.TempPathFactory) -> ModelSize:
    """Qwen2.5-3B-Instruct, by its published config.json."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (151936, 2048), "model.norm.weight": (2048,)}
    for layer in range(36):
        for name, shape in {
            "self_attn.q_proj.weight": (2048, 2048), "self_attn.q_proj.bias": (2048,),
            "self_attn.k_proj.weight": (256, 2048), "self_attn.k_proj.bias": (256,),
            "self_attn.v_proj.weight": (256, 2048), "self_attn.v_proj.bias": (256,),
            "self_attn.o_proj.weight": (2048, 2048), "mlp.gate_proj.weight": (11008, 2048),
            "mlp.up_proj.weight": (11008, 2048), "mlp.down_proj.weight": (2048, 11008),
            "input_layernorm.weight": (2048,), "post_attention_layernorm.weight": (2048,),
        }.items():  # fmt: skip
            shapes[f"model.layers.{layer}.{name}"] = shape
    config = {"vocab_size": 151936, "tie_word_embeddings": True, "num_attention_heads": 16}
    return size_of(write_shapes(tmp_path_factory.mktemp("qwen") / "3b", config, shapes))
