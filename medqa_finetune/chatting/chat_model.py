"""A model that answers in a chat, token by token, by greedy decoding or sampling."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from medqa_finetune.chatting.sources import Source
from medqa_finetune.compat.key_value_cache import keeps_keys_and_values
from medqa_finetune.compat.peft import bare
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import Example
from medqa_finetune.errors import NO_VALUE, DataError, Fault, ModelError
from medqa_finetune.evaluation.decode import Ending, Model, most_likely, no_cache, stream_tokens
from medqa_finetune.evaluation.generate import stops_of
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.answering import answering_form, answering_model
from medqa_finetune.model.fp32_blocks import compute_in_fp32
from medqa_finetune.model.load import choose_device, load_base, load_tokenizer, set_threads
from medqa_finetune.precision import dtype_of

DEFAULT_NEW_TOKENS = 512
# For models whose configuration gives no context length.
DEFAULT_CONTEXT_LENGTH = 4096
# Tokenizers decode the bytes of an incomplete character to this.
UNFINISHED = "\ufffd"


@dataclass(frozen=True)
class Sampling:
    """How the tokens of an answer are chosen.

    Attributes:
        temperature: 0 decodes greedily, as the evaluation does; otherwise tokens are sampled from the softmax of the
            logits divided by it.
        top_p: Samples from the most likely tokens whose probabilities add up to this, in (0, 1] (Holtzman et al. 2019,
            arXiv:1904.09751).
        max_new_tokens: Most tokens of an answer.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = DEFAULT_NEW_TOKENS


@dataclass(frozen=True)
class Turn:
    """One question and its answer; `stopped` is true if the user stopped the answer."""

    question: str
    answer: str
    stopped: bool = False


@dataclass(frozen=True)
class Prompt:
    """Token ids of a conversation up to the start of the answer, and a note on what was left out, if anything."""

    ids: list[int]
    note: str | None = None


class ChatModel:
    """A loaded model with its tokenizer.

    Args:
        name: Label of the model in the output.
        model: The model; it is set to evaluation mode.
        encoder: Encoder with the model's tokenizer; truncates a first question as the evaluation does.
        max_new_tokens: Default limit of an answer.
    """

    def __init__(self, name: str, model: Model, encoder: Encoder, max_new_tokens: int) -> None:
        self.name = name
        self.model = model.eval()
        self.encoder = encoder
        self.max_new_tokens = max_new_tokens
        self._context_length = context_length(model)

    def prompt(self, system: str, turns: Sequence[Turn], question: str, max_new_tokens: int) -> Prompt:
        """Return the prompt of a conversation's next answer.

        A single question is rendered as in the evaluation. If a conversation exceeds the context length, its oldest
        turns are left out.

        Raises:
            DataError: the question alone is too long.
            ModelError: the chat template does not accept this conversation.
        """
        if not system and not turns:
            ids = self.encoder.dialogue(None, (), question)
            cut = ids != self._whole("", (), question)
            if len(ids) + max_new_tokens <= self._context_length:
                return Prompt(ids, f"the question is cut to {len(ids)} tokens, as in the evaluation" if cut else None)
        for skipped in range(len(turns) + 1):
            ids = self._whole(system, turns[skipped:], question)
            if len(ids) + max_new_tokens <= self._context_length:
                return Prompt(ids, f"the oldest {skipped} of {len(turns)} turns no longer fit" if skipped else None)
        problem = (
            f"the question takes {len(ids)} tokens and its answer may take {max_new_tokens}, which exceeds the model's "
            f"context length of {self._context_length}"
        )
        raise DataError(Fault("too-long", problem, hint="Shorten the question, or lower max_new_tokens."))

    def stream(self, prompt: Prompt, sampling: Sampling, generator: torch.Generator) -> Generator[str, None, None]:
        """Yield the growing answer to a prompt, each time the whole text so far; nothing for an empty answer.

        With greedy decoding, the last text equals the evaluation's prediction, after its thought if there is one.
        """
        tokenizer = self.encoder.tokenizer
        ending = Ending(stops_of(self.model, self.encoder), int(tokenizer.pad_token_id), sampling.max_new_tokens)
        ids: list[int] = []
        shown = text = ""
        for token in stream_tokens(self.model, prompt.ids, ending, _token_chooser(sampling, generator)):
            if token in ending.stop_ids:
                break
            ids.append(token)
            text = str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
            if text != shown and not text.endswith(UNFINISHED):
                shown = text
                yield text
        if text != shown:
            yield text

    def _whole(self, system: str, turns: Sequence[Turn], question: str) -> list[int]:
        history = tuple((turn.question, turn.answer) for turn in turns)
        try:
            return self.encoder.whole_prompts([Example("of a chat", question, "", system or None, history)])[0]
        except ModelError as error:
            problem = f"{error.faults[0].problem}, so {self.name} cannot answer in this conversation"
            raise ModelError(Fault("template-refuses", problem)) from None


def _token_chooser(sampling: Sampling, generator: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function from logits, shape (1, vocabulary), to the id of the next token, shape (1,)."""
    if sampling.temperature == 0:
        return most_likely
    warpers = [TemperatureLogitsWarper(float(sampling.temperature)), TopPLogitsWarper(float(sampling.top_p))]
    unused = torch.empty(1, 0, dtype=torch.long)

    def sample(logits: torch.Tensor) -> torch.Tensor:
        scores = logits.float().cpu()
        for warper in warpers:
            scores = warper(unused, scores)
        return torch.multinomial(scores.softmax(-1), 1, generator=generator)[:, 0].to(logits.device)

    return sample


def load_source(source: Source, threads: int | None = None) -> ChatModel:
    """Load a model with its tokenizer and adapter.

    Raises:
        ModelError: a file is damaged, or adapter, tokenizer and base do not match.
    """
    set_threads(threads)
    try:
        tokenizer = load_tokenizer(source.tokenizer, source.template)
    except ModelError as error:
        raise ModelError(*map(_chat_fault, error.faults)) from None
    device = choose_device(source.precision)
    model = load_base(source.model, source.method, device, tokenizer)
    if device.precision == "fp16":
        compute_in_fp32(model, source.fp32_blocks, dtype_of(device.precision))
    if source.adapter is None:
        model = answering_form(model, device)
    else:
        model = answering_model(model_method(source.method).attach(model, source.adapter), source.method, device)
    _check_cache(model)
    encoder = Encoder(tokenizer, source.max_length or context_length(model), source.form)
    return ChatModel(source.name, model, encoder, source.max_new_tokens or default_new_tokens(model))


def _chat_fault(fault: Fault) -> Fault:
    """Return a tokenizer's fault without its hint at `model.chat_template`, a setting of the training alone."""
    if fault.code != "template-missing":
        return fault
    return fault.but(key=None, got=NO_VALUE, allowed=(), hint="Give an instruction-tuned (chat) model.")


def chat_model_of(model: Model, tokenizer: Any) -> ChatModel:
    """Return a chat model around a model in memory, which is set to evaluation mode.

    Raises:
        ModelError: it has no key-value cache, or its chat template cannot be used.
    """
    _check_cache(model)
    return ChatModel(
        str(model.config.model_type), model, Encoder(tokenizer, context_length(model)), default_new_tokens(model)
    )


def _check_cache(model: Model) -> None:
    if not keeps_keys_and_values(bare(model)):
        raise no_cache(model)


def default_new_tokens(model: Model) -> int:
    """Return the default limit of an answer in tokens, which is at most half the context length."""
    return min(DEFAULT_NEW_TOKENS, context_length(model) // 2)


def context_length(model: Model) -> int:
    """Return the context length in tokens; `DEFAULT_CONTEXT_LENGTH` where the configuration gives none."""
    return int(getattr(model.config, "max_position_embeddings", None) or DEFAULT_CONTEXT_LENGTH)
