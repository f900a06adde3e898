"""Models small enough for tests."""

from pathlib import Path
from typing import Any

# Width 64, two layers, four heads that share two of keys.
SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}"
)
FAMILIES = ("qwen2", "phi", "llama", "pruned")
# Per layer, what `prune` leaves of the four heads, the two key heads, and the width of the MLP.
HEADS, KEY_HEADS, INTERMEDIATE = [2, 4], [1, 2], [96, 72]


def write_micro_model(folder: Path, family: str = "qwen2") -> Path:
    """Write a random model of 100,000 parameters and a tokenizer into a folder, and return it.

    `qwen2` and `llama` have ChatML templates; `phi` has neither a template nor a pad token, as Phi-2 has not.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM, Qwen2Config, Qwen2ForCausalLM

    tokenizer = make_tokenizer(chat=family != "phi")
    ids: dict[str, Any] = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    rows = len(tokenizer) + 8 * (family == "phi")
    torch.manual_seed(0)
    model: Any
    if family == "phi":
        model = PhiForCausalLM(PhiConfig(vocab_size=rows, **SIZES, **ids))
    elif family == "llama":
        model = LlamaForCausalLM(LlamaConfig(vocab_size=rows, **SIZES, **ids))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=rows, tie_word_embeddings=True, **SIZES, **ids))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if family == "pruned":
        prune(folder)
    return folder


def make_tokenizer(*, chat: bool) -> Any:
    """Return a byte-level tokenizer of 300 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["感冒要多休息，多喝水。", "发烧怎么办？"], trainer)
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"} if chat else {"eos_token": "<|endoftext|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **special)  # type: ignore[no-untyped-call]
    if chat:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def prune(folder: Path) -> None:
    """Remove heads and neurons per layer down to `HEADS`; config.json stays unchanged."""
    from safetensors.torch import load_file, save_file

    width = SIZES["hidden_size"] // SIZES["num_attention_heads"]
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if ".layers." not in name or "layernorm" in name:
            continue
        layer, part = int(name.split(".")[2]), name.split(".")[4]
        by_part = {
            "q_proj": HEADS[layer] * width, "o_proj": HEADS[layer] * width, "k_proj": KEY_HEADS[layer] * width,
            "v_proj": KEY_HEADS[layer] * width,
        }  # fmt: skip
        kept = by_part.get(part, INTERMEDIATE[layer])
        weights[name] = (weight[:, :kept] if part in ("o_proj", "down_proj") else weight[:kept]).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
