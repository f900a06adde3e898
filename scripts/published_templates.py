"""Chat templates of published models, as the wheel of TRL carries them, with tokenizers small enough for tests.

A template is tried with two kinds of tokenizers, byte-level (Qwen, Llama 3) and with `▁` for a space and in front of a
text (Llama 2, Mistral, Gemma), which hold the marks that the template writes as added tokens.
"""

import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KINDS = ("byte-level", "▁")
BEGIN, END = "<s>", "</s>"
# What templates write as control tokens. Thoughts are added tokens without being special, as in Qwen3.
MARK = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|<(?:start_of_turn|end_of_turn|end_of_utterance|start_of_image)>"
    r"|<\|(?:turn|channel|think)>|<(?:turn|channel)\|>|<\|[A-Z_]+\|>|\[/?INST\]|\[gMASK\]|<sop>"
)
THOUGHTS = ("<think>", "</think>")
TEXTS = [
    "感冒要多休息，多喝水。",
    "发烧怎么办？",
    "system user assistant model The answer is 1 2 3.",
    "- 休息\n  - 睡眠\n\n",
]


def published_templates() -> dict[str, Path]:
    """Return the files of TRL's wheel by name; empty where it is not installed."""
    found = find_spec("trl")
    if found is None or found.origin is None:
        return {}
    return {path.stem: path for path in sorted((Path(found.origin).parent / "chat_templates").glob("*.jinja"))}


def tokenizer_for(template: str, kind: str) -> "PreTrainedTokenizerFast":
    """Return a tokenizer of a kind with a template, and with its marks as added tokens."""
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    names: dict[str, Any] = {"bos_token": BEGIN, "eos_token": END, "pad_token": END}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_trained(kind), **names)  # type: ignore[no-untyped-call]
    tokenizer.add_tokens(
        [AddedToken(mark, special=True, normalized=False) for mark in sorted(set(MARK.findall(template)))]
    )
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in THOUGHTS if mark in template])
    tokenizer.chat_template = template
    return tokenizer


@cache
def _serialized(kind: str) -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    byte_level = kind == "byte-level"
    bpe = Tokenizer(models.BPE(byte_fallback=not byte_level))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if byte_level else pre_tokenizers.Metaspace()
    bpe.decoder = (
        decoders.ByteLevel()
        if byte_level
        else decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁", " ")])
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else ["▁"]
    bytes_ = [] if byte_level else [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=[BEGIN, END, *bytes_], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXTS, trainer)
    content = json.loads(bpe.to_str())
    # Bytes are ordinary tokens.
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in (BEGIN, END)]
    return json.dumps(content)


def _trained(kind: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(_serialized(kind))
