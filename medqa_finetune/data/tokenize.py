"""From a pair to token ids and labels, through the chat template of the model's own tokenizer.

The loss is taken on the answers, each with the token that ends it, on nothing else: on one answer as a rule, on that of
every turn in a dialogue. Training and evaluation both encode here, so a model is asked exactly as it was trained.
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
# Raise it with every change that alters the ids of the same pairs.
ENCODING_VERSION = 1
# A question may take this share of max_length; the rest is kept for the answer, so that no pair is without labels.
QUESTION_SHARE = 0.75

Ids = list[int]


class Encoder:
    """Turns questions and pairs into token ids for one tokenizer.

    What is longer than `max_length` loses its earliest turns until it fits. Where the last turn alone does not, its
    question is cut at the end to a share of the room (the system prompt before it, where that takes half of the share),
    and the answer at the end of the room.

    Args:
        tokenizer: With a chat template; the template's answer must end in a special token.
        max_length: Tokens per pair at most.

    Raises:
        ModelError: the chat template cannot be used for a question and an answer.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._template = ChatTemplate(tokenizer)
        self.end_ids = self._find_end()
        overhead = len(self._ids([self._template.prompt("")])[0])
        if overhead + len(self.end_ids) >= max_length * QUESTION_SHARE:
            least = int((overhead + 16) / QUESTION_SHARE)
            raise ModelError(Fault(
                "out-of-range", f"must be an integer ≥ {least}: the chat template alone takes {overhead} tokens",
                key="train.max_length", got=max_length, hint=f"Give train.max_length={least} or more.",
            ))  # fmt: skip

    def check_dialogues(self, *, system: bool, history: bool) -> None:
        """Refuse a template that cannot be used for what the pairs hold beside question and answer.

        Raises:
            ModelError: it does not take a system prompt, or not every turn has its place.
        """
        trial = Example(
            "of a trial", "问", "答", "你是医生。" if system else None, (("问", "答"),) * 2 if history else ()
        )
        self._joined(self._ids(self._template.parts(trial)))

    def encode(self, pairs: Iterable[Example]) -> Iterable[Encoded]:
        """Yield each pair encoded, in order; at the end, say how many were cut."""
        pairs, n, cut = iter(pairs), 0, 0
        while chunk := list(islice(pairs, EXAMPLES_PER_CALL)):
            for item in self._encode_chunk(chunk):
                n, cut = n + 1, cut + item.cut
                yield item
        self.tell_cut(cut, n)

    def tell_cut(self, cut: int, n: int) -> None:
        """Say how many of `n` pairs were cut, if any were."""
        if cut:
            logger.warning(
                "%s of %s pairs are longer than train.max_length=%s and are cut.",
                f"{cut:,}", f"{n:,}", self.max_length,
            )  # fmt: skip

    @cached_property
    def fingerprint(self) -> str | None:
        """A hash of all that decides the ids of a pair; None for a tokenizer that cannot be written as a text."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        parts = [ENCODING_VERSION, version("transformers"), version("tokenizers"), self.max_length]
        return sha256_of_text(json.dumps([*parts, str(self.tokenizer.chat_template), backend.to_str()]))

    def dialogue(self, system: str | None, history: Sequence[Turn], question: str) -> Ids:
        """Return the ids of a dialogue up to where the answer to `question` begins, with room left for an answer."""
        return self.prompts([Example("", question, "", system, tuple(history))])[0]

    def prompts(self, pairs: Sequence[Example]) -> list[Ids]:
        """Return the ids of each pair up to where its last answer begins, with room left for an answer."""
        texts = [self._template.parts(pair)[:-1] for pair in pairs]
        return [self._fitted(pair, parts) for pair, parts in zip(pairs, self._ids_of(texts), strict=True)]

    def _encode_chunk(self, pairs: Sequence[Example]) -> Iterable[Encoded]:
        texts = [self._template.parts(pair) for pair in pairs]
        for pair, parts in zip(pairs, self._ids_of(texts), strict=True):
            whole = self._joined(parts)
            yield whole if len(whole.input_ids) <= self.max_length else self._cut(pair, parts)

    def _joined(self, parts: Sequence[Ids]) -> Encoded:
        """Return the parts of a dialogue, each answer with the end behind it, as one item."""
        ids: Ids = []
        spans: list[Span] = []
        for before, answer in zip(parts[::2], parts[1::2], strict=True):
            if spans and before[: len(self.end_ids)] != self.end_ids:
                raise ModelError(Fault(
                    "template-unfit",
                    "the chat template ends the answer of an earlier turn in another way than the last one, so that it "
                    "cannot be trained on",
                    hint=PLAIN_TEMPLATE,
                ))  # fmt: skip
            begin = len(ids) + len(before)
            ids = ids + before + answer
            spans.append((begin, len(ids) + len(self.end_ids)))
        return Encoded(ids + self.end_ids, spans[-1][0], cut=False, earlier=tuple(spans[:-1]))

    def _cut(self, pair: Example, parts: list[Ids]) -> Encoded:
        pair, parts = self._without_earliest(pair, parts, self.max_length)
        item = self._joined(parts)
        if len(item.input_ids) > self.max_length:
            prompt, target = self._fitted(pair, parts[:-1]), parts[-1] + self.end_ids
            item = Encoded((prompt + target)[: self.max_length], len(prompt), cut=True)
        return replace(item, cut=True)

    def _fitted(self, pair: Example, parts: list[Ids]) -> Ids:
        """Return the prompt that the parts make up, cut where it takes more than its share of `max_length`."""
        limit = int(self.max_length * QUESTION_SHARE)
        pair, parts = self._without_earliest(pair, parts, limit)
        prompt = [token for part in parts for token in part]
        return prompt if len(prompt) <= limit else self._shortened(pair, limit)

    def _without_earliest(self, pair: Example, parts: list[Ids], limit: int) -> tuple[Example, list[Ids]]:
        """Drop as few of the earliest turns as it takes to stay within `limit` tokens; the last turn stays anyway.

        Args:
            pair: The dialogue.
            parts: What it is made of, with or without the last answer.
            limit: Tokens, the end behind the last answer included.
        """
        with_answer = len(parts) % 2 == 0
        sums = [0, *accumulate(map(len, parts))]
        end = len(self.end_ids) if with_answer else 0
        # At least that much is left without so many turns. What stands before the first question that is kept is other
        # than before: the system prompt comes there.
        left = [sums[-1] + end - (sums[2 * turns + 1] if turns else 0) for turns in range(len(pair.history) + 1)]
        first = next((turns for turns, size in enumerate(left) if size <= limit), len(pair.history))
        shorter = pair
        for turns in range(first, len(pair.history) + 1) if first else ():
            shorter = replace(pair, history=pair.history[turns:])
            parts = self._ids(self._template.parts(shorter)[: None if with_answer else -1])
            if sum(map(len, parts)) + end <= limit:
                break
        return shorter, parts

    def _shortened(self, pair: Example, limit: int) -> Ids:
        """Encode a question cut at its end, so that the prompt takes at most `limit` tokens."""
        system = pair.system
        if system is not None:
            system = self._beginning(system, limit // 2, lambda text: self._template.prompt("", text)) or None
        question = self._beginning(pair.question, limit, lambda text: self._template.prompt(text, system))
        return self._ids([self._template.prompt(question, system)])[0]

    def _beginning(self, text: str, limit: int, render: Callable[[str], str]) -> str:
        """Return as much of a text as can be rendered in `limit` tokens; nothing where that alone takes more."""
        tokens = self._ids([text])[0]
        keep = limit - len(self._ids([render("")])[0])
        while keep > 0:
            # Cutting inside a character and decoding can give more tokens than were kept, hence the loop.
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
        # Long texts are cut by us and counted; the tokenizer's own warning about them would be noise.
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return list(encoded["input_ids"])

    def _find_end(self) -> Ids:
        """Return the ids that end an answer: what the template puts between the answer and its first special token."""
        ids = self._ids([self._template.ending()])[0]
        special = set(self.tokenizer.all_special_ids)
        for position, token in enumerate(ids):
            if token in special:
                return ids[: position + 1]
        raise ModelError(Fault(
            "template-unfit",
            "the chat template ends an answer without a special token, so the model could not learn to stop",
            hint="Use a model with another template.",
        ))  # fmt: skip


PAIR = "a question and an answer"
PLAIN_TEMPLATE = "Use corpora of single questions, or a model with a plain template."


class ChatTemplate:
    """Renders dialogues by the template of a model's own tokenizer.

    Where no system prompt is given, none is named: templates that have a default one (Qwen2.5's) then take it.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    def prompt(self, question: str, system: str | None = None, history: Sequence[Turn] = ()) -> str:
        """Return the text up to where the answer to `question` begins.

        Raises:
            ModelError: the template does not take a system prompt, or no history.
        """
        messages = [] if system is None else [{"role": "system", "content": system}]
        for asked, said in history:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        messages.append({"role": "user", "content": question})
        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # Jinja's own kinds, and whatever a template raises
            beside = [name for name, given in (("a system prompt", system), ("earlier turns", history)) if given]
            what = f"a question with {' and '.join(beside)}" if beside else PAIR
            raise ModelError(_failing(what, error)) from None

    def parts(self, pair: Example) -> list[str]:
        """Return what stands before the first answer, that answer, what stands before the next one, and so on.

        Raises:
            ModelError: the template changes what came before when a turn is added, so that no answer has a place.
        """
        parts: list[str] = []
        done = ""
        for place, (question, answer) in enumerate(pair.turns):
            prompt = self.prompt(question, pair.system, pair.history[:place])
            if not prompt.startswith(done):
                raise ModelError(Fault(
                    "template-unfit",
                    f"the chat template changes earlier turns of pair {pair.id[:60]} when one is added, so that their "
                    "answers cannot be trained on",
                    hint=PLAIN_TEMPLATE,
                ))  # fmt: skip
            parts += [prompt[len(done) :], answer]
            done = prompt + answer
        return parts

    def ending(self) -> str:
        """Return what is put behind an answer.

        Raises:
            ModelError: the template fails on one, or does not put it right behind the generation prompt.
        """
        question, answer = "问", "答"
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        prompt = self.prompt(question)
        try:
            text = str(self._tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception as error:  # as above
            raise ModelError(_failing(PAIR, error)) from None
        if not text.startswith(prompt + answer):
            raise ModelError(Fault(
                "template-unfit",
                "the chat template does not put the answer right behind the generation prompt: it cannot be trained on",
                hint="Use a model with another template.",
            ))  # fmt: skip
        return text[len(prompt + answer) :]


def _failing(what: str, error: Exception) -> Fault:
    hint = "Use a model with another template." if what == PAIR else PLAIN_TEMPLATE
    return Fault("template-fails", f"the chat template fails on {what} ({error})", hint=hint)
