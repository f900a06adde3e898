"""Encodes examples as token ids and labels, with the chat template of the model's own tokenizer.

The loss is computed on the answers alone, each with its end token: one answer, or that of every turn of a dialogue.
Training and evaluation both encode here, so evaluation prompts equal training prompts.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from itertools import accumulate, islice
from typing import TYPE_CHECKING

from medqa_finetune.data.examples import Encoded, Example, Span, Turn
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.record.files import sha256_of_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


logger = logging.getLogger(__name__)

EXAMPLES_PER_CALL = 1000
# Increase with every change that alters the ids of given examples: it is part of the cache key.
ENCODING_VERSION = 1
# Maximum share of max_length for the prompt; the rest is for the answer, so that every example has labels.
QUESTION_SHARE = 0.75

Ids = list[int]


class Encoder:
    """Encodes questions and examples for one tokenizer.

    A dialogue longer than `max_length` loses its earliest turns until it fits. If the last turn alone does not fit, the
    end of its question is cut so that the prompt takes `QUESTION_SHARE` of `max_length` (first the system prompt, to
    half of that), and the end of its answer so that the rest fits.

    Args:
        tokenizer: A tokenizer whose chat template ends an answer with a special token.
        max_length: Maximum tokens of an example.

    Raises:
        ModelError: the chat template cannot render a question with its answer, or leaves no room for them.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._template = ChatTemplate(tokenizer)
        self.end_ids = self._find_end()
        overhead = len(self._ids([self._template.prompt("")])[0])
        if overhead + len(self.end_ids) >= max_length * QUESTION_SHARE:
            least = int((overhead + 16) / QUESTION_SHARE)
            raise ModelError(
                Fault(
                    "out-of-range",
                    f"must be an integer ≥ {least}: the chat template alone takes {overhead} tokens",
                    key="train.max_length",
                    got=max_length,
                    hint=f"Give train.max_length={least} or more.",
                )
            )

    def check_dialogues(self, *, system: bool, history: bool) -> None:
        """Check that the template can render the system prompts or histories of the examples.

        Raises:
            ModelError: it does not accept a system prompt, or changes earlier turns.
        """
        trial = Example(
            "of a trial", "问", "答", "你是医生。" if system else None, (("问", "答"),) * 2 if history else ()
        )
        self._joined(self._ids(self._template.parts(trial)))

    def encode(self, examples: Iterable[Example]) -> Iterable[Encoded]:
        """Yield each example encoded, in order; at the end, log how many were cut."""
        examples, n, cut = iter(examples), 0, 0
        while chunk := list(islice(examples, EXAMPLES_PER_CALL)):
            for item in self._encode_chunk(chunk):
                n, cut = n + 1, cut + item.cut
                yield item
        self.warn_of_cut(cut, n)

    def warn_of_cut(self, cut: int, n: int) -> None:
        """Log how many of `n` examples were cut, if any were."""
        if cut:
            logger.warning(
                "%s of %s examples (%.1f %%) are longer than train.max_length=%s and are cut.",
                f"{cut:,}",
                f"{n:,}",
                100 * cut / n,
                self.max_length,
            )

    @cached_property
    def fingerprint(self) -> str | None:
        """A hash of everything that determines the ids of an example; None for a tokenizer without a text form."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        parts = [ENCODING_VERSION, version("transformers"), version("tokenizers"), self.max_length]
        return sha256_of_text(json.dumps([*parts, str(self.tokenizer.chat_template), backend.to_str()]))

    def dialogue(self, system: str | None, history: Sequence[Turn], question: str) -> Ids:
        """Return the ids of the prompt for a question: at most `QUESTION_SHARE` of `max_length`."""
        return self.prompts([Example("", question, "", system, tuple(history))])[0]

    def prompts(self, examples: Sequence[Example]) -> list[Ids]:
        """Return the ids of each example's prompt, up to its last answer: at most `QUESTION_SHARE` of `max_length`."""
        texts = [self._template.parts(example)[:-1] for example in examples]
        return [self._fitted(example, parts) for example, parts in zip(examples, self._ids_of(texts), strict=True)]

    def whole_prompts(self, examples: Sequence[Example]) -> list[Ids]:
        """Return the ids of each example's prompt, however long it is."""
        texts = [self._template.parts(example)[:-1] for example in examples]
        return [[token for part in parts for token in part] for parts in self._ids_of(texts)]

    def _encode_chunk(self, examples: Sequence[Example]) -> Iterable[Encoded]:
        texts = [self._template.parts(example) for example in examples]
        for example, parts in zip(examples, self._ids_of(texts), strict=True):
            whole = self._joined(parts)
            yield whole if len(whole.input_ids) <= self.max_length else self._cut(example, parts)

    def _joined(self, parts: Sequence[Ids]) -> Encoded:
        """Return the parts of a dialogue as one item, each answer followed by the end."""
        ids: Ids = []
        spans: list[Span] = []
        for before, answer in zip(parts[::2], parts[1::2], strict=True):
            if spans and before[: len(self.end_ids)] != self.end_ids:
                raise ModelError(
                    Fault(
                        "template-unfit",
                        "the chat template ends the answer of an earlier turn differently from the last one, so it "
                        "cannot be trained on",
                        hint=PLAIN_TEMPLATE,
                    )
                )
            begin = len(ids) + len(before)
            ids = ids + before + answer
            spans.append((begin, len(ids) + len(self.end_ids)))
        return Encoded(ids + self.end_ids, spans[-1][0], cut=False, earlier=tuple(spans[:-1]))

    def _cut(self, example: Example, parts: list[Ids]) -> Encoded:
        example, parts = self._without_earliest(example, parts, self.max_length)
        item = self._joined(parts)
        if len(item.input_ids) > self.max_length:
            prompt, target = self._fitted(example, parts[:-1]), parts[-1] + self.end_ids
            item = Encoded((prompt + target)[: self.max_length], len(prompt), cut=True)
        return replace(item, cut=True)

    def _fitted(self, example: Example, parts: list[Ids]) -> Ids:
        """Return the prompt of the parts, cut if it is longer than its share of `max_length`."""
        limit = int(self.max_length * QUESTION_SHARE)
        example, parts = self._without_earliest(example, parts, limit)
        prompt = [token for part in parts for token in part]
        return prompt if len(prompt) <= limit else self._shortened(example, limit)

    def _without_earliest(self, example: Example, parts: list[Ids], limit: int) -> tuple[Example, list[Ids]]:
        """Drop the fewest earliest turns that leave at most `limit` tokens; the last turn always stays.

        Args:
            example: The dialogue.
            parts: Its parts, with or without the last answer.
            limit: Maximum tokens, including the end after the last answer.
        """
        with_answer = len(parts) % 2 == 0
        sums = [0, *accumulate(map(len, parts))]
        end = len(self.end_ids) if with_answer else 0
        # Lower bounds of the number of tokens without the first turns: the text before the first remaining question
        # changes, since the system prompt moves there.
        left = [sums[-1] + end - (sums[2 * turns + 1] if turns else 0) for turns in range(len(example.history) + 1)]
        first = next((turns for turns, size in enumerate(left) if size <= limit), len(example.history))
        shorter = example
        for turns in range(first, len(example.history) + 1) if first else ():
            shorter = replace(example, history=example.history[turns:])
            parts = self._ids(self._template.parts(shorter)[: None if with_answer else -1])
            if sum(map(len, parts)) + end <= limit:
                break
        return shorter, parts

    def _shortened(self, example: Example, limit: int) -> Ids:
        """Encode a question cut at its end, so that the prompt takes at most `limit` tokens."""
        system = example.system
        if system is not None:
            system = self._beginning(system, limit // 2, lambda text: self._template.prompt("", text)) or None
        question = self._beginning(example.question, limit, lambda text: self._template.prompt(text, system))
        return self._ids([self._template.prompt(question, system)])[0]

    def _beginning(self, text: str, limit: int, render: Callable[[str], str]) -> str:
        """Return the longest beginning of a text that renders to at most `limit` tokens; it may be empty."""
        tokens = self._ids([text])[0]
        keep = limit - len(self._ids([render("")])[0])
        while keep > 0:
            # A cut inside a character can give more tokens after decoding, so this repeats until it fits.
            shorter = text if keep >= len(tokens) else str(self.tokenizer.decode(tokens[:keep])).rstrip("\ufffd")
            excess = len(self._ids([render(shorter)])[0]) - limit
            if excess <= 0:
                return shorter
            keep = min(keep, len(tokens)) - excess
        return ""

    def _ids_of(self, texts: Sequence[Sequence[str]]) -> Iterable[list[Ids]]:
        """Tokenize lists of texts, all in one call."""
        ids = iter(self._ids([text for parts in texts for text in parts]))
        return (list(islice(ids, len(parts))) for parts in texts)

    def _ids(self, texts: Sequence[str]) -> list[Ids]:
        # Long texts are cut and counted above; the tokenizer's own warning would be noise.
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return list(encoded["input_ids"])

    def _find_end(self) -> Ids:
        """Return the ids that end an answer: up to the first special token that the template puts after it."""
        ids = self._ids([self._template.ending()])[0]
        special = set(self.tokenizer.all_special_ids)
        for position, token in enumerate(ids):
            if token in special:
                return ids[: position + 1]
        raise ModelError(
            Fault(
                "template-unfit",
                "the chat template ends an answer without a special token: the model could not learn to stop",
                hint="Use a model with another template.",
            )
        )


PAIR = "a question and an answer"
PLAIN_TEMPLATE = "Use corpora of single questions, or a model with a plain template."


class ChatTemplate:
    """Renders dialogues by the template of a model's own tokenizer.

    Without a system prompt none is passed: templates with a default one (Qwen2.5's) then use it.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    def prompt(self, question: str, system: str | None = None, history: Sequence[Turn] = ()) -> str:
        """Return the text before the answer to `question`.

        Raises:
            ModelError: the template fails, as some do on a system prompt or a history.
        """
        messages = [] if system is None else [{"role": "system", "content": system}]
        for earlier, answer in history:
            messages += [{"role": "user", "content": earlier}, {"role": "assistant", "content": answer}]
        messages.append({"role": "user", "content": question})
        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # Jinja's exceptions, and any that a template raises
            parts = [name for name, given in (("a system prompt", system), ("earlier turns", history)) if given]
            what = f"a question with {' and '.join(parts)}" if parts else PAIR
            raise ModelError(_failing(what, error)) from None

    def parts(self, example: Example) -> list[str]:
        """Return the text before the first answer, that answer, the text before the next one, and so on.

        Raises:
            ModelError: the template changes earlier turns when one is added.
        """
        parts: list[str] = []
        done = ""
        for place, (question, answer) in enumerate(example.turns):
            prompt = self.prompt(question, example.system, example.history[:place])
            if not prompt.startswith(done):
                raise ModelError(
                    Fault(
                        "template-unfit",
                        f"the chat template changes earlier turns of example {example.id[:60]} when one is added, so "
                        "their answers cannot be trained on",
                        hint=PLAIN_TEMPLATE,
                    )
                )
            parts += [prompt[len(done) :], answer]
            done = prompt + answer
        return parts

    def ending(self) -> str:
        """Return the text that the template puts after an answer.

        Raises:
            ModelError: the template fails, or does not put the answer right after the generation prompt.
        """
        question, answer = "问", "答"
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        prompt = self.prompt(question)
        try:
            text = str(self._tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception as error:  # as above
            raise ModelError(_failing(PAIR, error)) from None
        if not text.startswith(prompt + answer):
            raise ModelError(
                Fault(
                    "template-unfit",
                    "the chat template does not put the answer right after the generation prompt: it cannot be "
                    "trained on",
                    hint="Use a model with another template.",
                )
            )
        return text[len(prompt + answer) :]


def _failing(what: str, error: Exception) -> Fault:
    hint = "Use a model with another template." if what == PAIR else PLAIN_TEMPLATE
    return Fault("template-fails", f"the chat template fails on {what} ({error})", hint=hint)
