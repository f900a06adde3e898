"""A model that answers, word by word, greedily or by chance."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from medqa_finetune.chatting.sources import Source
from medqa_finetune.compat.failures import words_of
from medqa_finetune.compat.peft import bare
from medqa_finetune.compat.transformers import keeps_keys_and_values
from medqa_finetune.data.tokenize import Encoder
from medqa_finetune.errors import NO_VALUE, DataError, Fault, ModelError
from medqa_finetune.evaluation.decode import Ending, Model, most_likely, no_cache, stream_tokens
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.load import choose_device, load_base, load_tokenizer, set_threads

DEFAULT_NEW_TOKENS = 512
# Tokens that a model is taken to look back on if its configuration does not say.
DEFAULT_ROOM = 4096
# What a tokenizer shows of a character whose last bytes have not come yet.
UNFINISHED = "\ufffd"


@dataclass(frozen=True)
class Manner:
    """How answers are chosen.

    Attributes:
        temperature: 0 takes the most likely token, as the evaluation does; above, tokens are drawn, the more evenly the
            higher it is.
        top_p: Of these, the most likely ones that together have this probability, in (0, 1] (Holtzman et al. 2019,
            arXiv:1904.09751).
        max_new_tokens: Tokens per answer at most.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = DEFAULT_NEW_TOKENS


@dataclass(frozen=True)
class Turn:
    """One question and its answer; `stopped` says that the answer was broken off by the user."""

    question: str
    answer: str
    stopped: bool = False


@dataclass(frozen=True)
class Prompt:
    """Ids of a conversation up to where the answer begins, and what was left out of it, None for nothing."""

    ids: list[int]
    note: str | None = None


class Speaker:
    """A model that is ready to answer.

    Args:
        name: What it is called beside others.
        model: In evaluation mode.
        encoder: Of the model's tokenizer; cuts a first question as the evaluation does.
        max_new_tokens: Tokens per answer unless something else is asked for.
    """

    def __init__(self, name: str, model: Model, encoder: Encoder, max_new_tokens: int) -> None:
        self.name = name
        self.model = model.eval()
        self.encoder = encoder
        self.max_new_tokens = max_new_tokens
        self._room = room_of(model)

    def prompt(self, system: str, turns: Sequence[Turn], question: str, max_new_tokens: int) -> Prompt:
        """Return the prompt of a conversation's next answer.

        A lone question is asked as the evaluation asks it. Of a conversation that has outgrown the model's room, the
        oldest turns are left out.

        Raises:
            DataError: the question alone is too long.
            ModelError: the chat template takes no such conversation.
        """
        if not system and not turns:
            ids = self.encoder.dialogue(None, (), question)
            cut = ids != self._render([{"role": "user", "content": question}])
            if len(ids) + max_new_tokens <= self._room:
                return Prompt(ids, f"the question is cut to {len(ids)} tokens, as in the evaluation" if cut else None)
        for skipped in range(len(turns) + 1):
            ids = self._render(_messages(system, turns[skipped:], question))
            if len(ids) + max_new_tokens <= self._room:
                return Prompt(ids, f"the oldest {skipped} of {len(turns)} turns no longer fit" if skipped else None)
        problem = (
            f"the question takes {len(ids)} tokens and its answer may take {max_new_tokens}, and the model has room "
            f"for {self._room}"
        )
        raise DataError(Fault("too-long", problem, hint="Shorten the question, or lower max_new_tokens."))

    def stream(self, prompt: Prompt, manner: Manner, chance: torch.Generator) -> Generator[str, None, None]:
        """Yield the answer to a prompt as it grows: each time the whole text so far.

        The last one is what the evaluation would have written down. An answer of no characters yields nothing.
        """
        tokenizer = self.encoder.tokenizer
        ending = Ending(self.encoder.end_ids[-1], int(tokenizer.pad_token_id), manner.max_new_tokens)
        ids: list[int] = []
        said = text = ""
        for token in stream_tokens(self.model, prompt.ids, ending, _chooser(manner, chance)):
            ids.append(token)
            text = str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
            if text != said and not text.endswith(UNFINISHED):
                said = text
                yield text
        if text != said:
            yield text

    def _render(self, messages: list[dict[str, str]]) -> list[int]:
        tokenizer = self.encoder.tokenizer
        try:
            text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # Jinja's own kinds, and whatever a template raises
            problem = f"the chat template of {self.name} does not accept this conversation ({words_of(error)})"
            raise ModelError(Fault("template-refuses", problem)) from None
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _messages(system: str, turns: Sequence[Turn], question: str) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
    return [*messages, {"role": "user", "content": question}]


def _chooser(manner: Manner, chance: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what chooses a token, of shape (1,), by logits of shape (1, vocabulary)."""
    if manner.temperature == 0:
        return most_likely
    warpers = [TemperatureLogitsWarper(float(manner.temperature)), TopPLogitsWarper(float(manner.top_p))]
    unused = torch.empty(1, 0, dtype=torch.long)

    def draw(logits: torch.Tensor) -> torch.Tensor:
        scores = logits.float().cpu()
        for warper in warpers:
            scores = warper(unused, scores)
        return torch.multinomial(scores.softmax(-1), 1, generator=chance)[:, 0].to(logits.device)

    return draw


def open_source(source: Source, threads: int | None = None) -> Speaker:
    """Load a source.

    Raises:
        ModelError: something does not fit; says what.
    """
    set_threads(threads)
    try:
        tokenizer = load_tokenizer(source.tokenizer, source.template)
    except ModelError as error:
        raise ModelError(*map(_in_a_chat, error.faults)) from None
    model = load_base(source.model, source.method, choose_device(source.precision), tokenizer)
    if source.adapter is not None:
        method = model_method(source.method)
        model = method.for_inference(method.attach(model, source.adapter))
    _check_cache(model)
    encoder = Encoder(tokenizer, source.max_length or room_of(model))
    return Speaker(source.name, model, encoder, source.max_new_tokens or usual_length(model))


def _in_a_chat(fault: Fault) -> Fault:
    """Return a fault of a tokenizer without the remedy that a training alone has: `model.chat_template`."""
    if fault.code != "template-missing":
        return fault
    return fault.but(key=None, got=NO_VALUE, allowed=(), hint="Give an instruction-tuned (chat) model.")


def speaker_of(model: Model, tokenizer: Any) -> Speaker:
    """Return a model in memory as one that answers; it is put into evaluation mode.

    Raises:
        ModelError: it keeps no cache of keys and values, or its chat template cannot be used.
    """
    _check_cache(model)
    return Speaker(str(model.config.model_type), model, Encoder(tokenizer, room_of(model)), usual_length(model))


def _check_cache(model: Model) -> None:
    if not keeps_keys_and_values(bare(model)):
        raise no_cache(model)


def usual_length(model: Model) -> int:
    """Return how many tokens an answer may take where nobody has said: half the model's room at most."""
    return min(DEFAULT_NEW_TOKENS, room_of(model) // 2)


def room_of(model: Model) -> int:
    """Return how many tokens a model can look back on, as its configuration says."""
    return int(getattr(model.config, "max_position_embeddings", None) or DEFAULT_ROOM)
