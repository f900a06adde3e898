"""A small Qwen2, and models without weights."""

from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

SMALL: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip


def skeleton(config: Any) -> Any:
    with torch.device("meta"):
        return cast(Any, AutoModelForCausalLM).from_config(config)


def small_qwen2() -> Any:
    torch.manual_seed(0)
    made: Any = Qwen2ForCausalLM(Qwen2Config(**SMALL, tie_word_embeddings=True))
    return made.eval()
