"""Which tokens end an answer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from medqa_finetune.compat.peft import bare

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A model with or without adapters.
Model = Any


def stop_ids(model: Model, tokenizer: "PreTrainedTokenizerBase", end_id: int) -> tuple[int, ...]:
    """Return every token that ends an answer, ascending.

    These are the token that the chat template puts after an answer, which the model is trained to say; all end tokens
    of `generation_config.json`, where transformers' `generate` stops, or of `config.json` if that has none; and the
    tokenizer's own. They may all differ: Qwen2.5's base model stops at `<|endoftext|>`, and its template ends an answer
    with `<|im_end|>`; Llama 3 has three of them.

    Args:
        model: A model with or without adapters.
        tokenizer: Its tokenizer.
        end_id: The token that the template puts after an answer.
    """
    base = bare(model)
    config = base.config.get_text_config()
    declared = _ids_of(getattr(base, "generation_config", None)) or _ids_of(base.config) or _ids_of(config)
    found = {end_id, *declared, *_ids_of(tokenizer)}
    return tuple(sorted(found & {end_id, *range(int(base.get_input_embeddings().weight.shape[0]))}))


def end_answers(model: Model, tokenizer: "PreTrainedTokenizerBase", end_id: int) -> None:
    """Let transformers' `generate` stop at these tokens too; they are saved with the model.

    Args:
        model: A model with or without adapters; its generation settings are changed.
        tokenizer: As in `stop_ids`.
        end_id: As in `stop_ids`.
    """
    ids = stop_ids(model, tokenizer, end_id)
    bare(model).generation_config.eos_token_id = list(ids) if len(ids) > 1 else ids[0]


def _ids_of(source: Any) -> Iterable[int]:
    """Return the end tokens of a configuration or tokenizer: a number, a list of such, or none."""
    ids = getattr(source, "eos_token_id", None)
    listed = ids if isinstance(ids, list | tuple) else [ids]
    return [each for each in listed if isinstance(each, int)]
