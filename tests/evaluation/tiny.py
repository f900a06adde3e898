"""Tiny random models of several architectures whose predictions differ between prompts."""

from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 97
PAD = 0

COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": PAD,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip

# Gemma 2 and Mistral have sliding windows shorter than the prompts; Gemma 2 caps its logits, Granite and Cohere scale
# theirs; Qwen3-Next has recurrent layers in addition to attention; Bloom has no position ids.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "llama": {},
    "gemma": {"head_dim": 8},
    "phi": {"partial_rotary_factor": 0.5},
    "mistral": {"sliding_window": 6},
    "gemma2": {
        "head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0,
        "query_pre_attn_scalar": 8,
    },
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
    "qwen3_next": {
        "layer_types": ["linear_attention", "full_attention"], "head_dim": 8, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    },
    "bloom": {"n_layer": 2, "n_head": 4},
}  # fmt: skip


def tiny_model(architecture: str, **changes: Any) -> Any:
    """Return a random model in evaluation mode, with weights large enough that predictions differ."""
    config = AutoConfig.for_model(architecture, **(COMMON | ARCHITECTURES[architecture] | changes))
    torch.manual_seed(3)
    model = cast(Any, AutoModelForCausalLM).from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.mul_(12)
    return model.eval()
