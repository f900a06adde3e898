"""Encodes examples as token ids and labels, with the chat template of the model's own tokenizer.

A dialogue is rendered and tokenized as a whole, as the model has seen it; the answers' tokens are found by their
characters. The loss is computed on the answers alone, each with its end token: one answer, or that of every turn of a
dialogue. Training and evaluation both encode here, so evaluation prompts equal training prompts, but for questions that
take more than `QUESTION_SHARE` of `max_length`: how long the answer will be is known in training alone.
"""

import json
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, cast

from medqa_finetune.config.chat_form import PLAIN_FORM, ChatForm
from medqa_finetune.data.examples import Encoded, EncodingCounts, Example, Span, Turn
from medqa_finetune.data.layout import OTHER_TEMPLATE, Rendered
from medqa_finetune.data.marks import common_length
from medqa_finetune.data.template import ChatTemplate
from medqa_finetune.data.thoughts import GeneratedAnswer
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.record.files import sha256_of_text

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase


logger = logging.getLogger(__name__)

EXAMPLES_PER_CALL = 1000
# Examples whose ids are compared with those of the tokenizer's own `apply_chat_template`.
COMPARED_EXAMPLES = 32
# Increase with every change that alters the ids of given examples: it is part of the cache key.
ENCODING_VERSION = 2
# Maximum share of max_length for the prompt; the rest is for the answer, so that every example has labels.
QUESTION_SHARE = 0.75
# Beginnings of answers by which `Encoder` tries whether the tokenizer keeps prompt and answer apart.
BEGINNINGS = ("头", "A", "1", "(")

Ids = list[int]


class Encoder:
    """Encodes questions and examples for one tokenizer.

    A dialogue longer than `max_length` loses its earliest turns until it fits. If the last turn alone does not fit, the
    end of its question is cut so that the prompt takes `QUESTION_SHARE` of `max_length` (first the system prompt, to
    half of that), and the end of its answer so that the rest fits.

    Args:
        tokenizer: A tokenizer whose chat template ends an answer with a special token.
        max_length: Maximum tokens of an example.
        form: Whether answers think, and the date that a template shows.

    Attributes:
        end_ids: What ends an answer; the last id is that of the end token.

    Raises:
        ModelError: the chat template cannot render a question with its answer, or leaves no room for them.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int, form: ChatForm = PLAIN_FORM) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._template = ChatTemplate(tokenizer, form)
        self._compared = 0
        self._separate_prompts()
        (trial,) = self._tokenized([Example("of a trial", "问", "答")])
        self.end_ids = trial.ids[trial.place_of(trial.rendered.contents[-1][1]) :]
        overhead = len(self._ids([self._template.prompt(Example("of a trial", "", ""))])[0])
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

    @property
    def thinks(self) -> bool:
        """Whether answers begin with a thought."""
        return self._template.thinks

    def check_dialogues(self, *, system: bool, history: bool) -> None:
        """Check that the template can render the system prompts or histories of the examples.

        Raises:
            ModelError: it does not accept a system prompt, or earlier turns.
        """
        self._template.check(system=system, turns=3 if history else 1)

    def encode(self, examples: Iterable[Example]) -> Iterable[Encoded]:
        """Yield each example encoded, in order; at the end, log how many were cut or otherwise changed.

        Raises:
            ModelError: the template cannot render one, or its ids differ from those of the tokenizer's own encoding.
        """
        examples, counts = iter(examples), EncodingCounts()
        while chunk := list(islice(examples, EXAMPLES_PER_CALL)):
            for tokenized in self._tokenized(chunk):
                if self._compared < COMPARED_EXAMPLES:
                    self.compare(tokenized)
                    self._compared += 1
                item = self._whole(tokenized)
                if len(item.input_ids) > self.max_length:
                    item = self._cut(tokenized, item)
                counts += item.counts
                yield item
        self.report(counts)

    def report(self, counts: EncodingCounts) -> None:
        """Log how many examples were cut or otherwise changed, if any were."""
        of_all = f"{counts.examples:,}"
        if counts.cut:
            logger.warning(
                "%s of %s examples (%.1f %%) are longer than train.max_length=%s and are cut.",
                f"{counts.cut:,}",
                of_all,
                100 * counts.cut / counts.examples,
                self.max_length,
            )
        if counts.untrained:
            logger.warning(
                "%s earlier answers of %s examples are not trained on: the template renders them otherwise when a turn "
                "follows.",
                f"{counts.untrained:,}",
                of_all,
            )
        if counts.marks:
            logger.warning(
                "%s marks of %s examples are control tokens of this model; spaces inside make them plain text.",
                f"{counts.marks:,}",
                of_all,
            )
        if counts.thoughts:
            logger.warning(
                "the thoughts in answers of %s examples are left out (%s answers); model.thinking=keep trains them.",
                of_all,
                f"{counts.thoughts:,}",
            )

    @cached_property
    def fingerprint(self) -> str | None:
        """A hash of everything that determines the ids of an example; None for a tokenizer without a text form."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        versions = [ENCODING_VERSION, version("transformers"), version("tokenizers")]
        parts = [*versions, self.max_length, self._template.fingerprint, backend.to_str()]
        return sha256_of_text(json.dumps(parts))

    def dialogue(self, system: str | None, history: Sequence[Turn], question: str) -> Ids:
        """Return the ids of the prompt for a question: at most `QUESTION_SHARE` of `max_length`."""
        return self.prompts([Example("", question, "", system, tuple(history))])[0]

    def prompts(self, examples: Sequence[Example]) -> list[Ids]:
        """Return the ids of each example's prompt, up to its last answer: at most `QUESTION_SHARE` of `max_length`."""
        return [ids for ids, _ in self.fitted_prompts(examples)]

    def fitted_prompts(self, examples: Sequence[Example]) -> list[tuple[Ids, bool]]:
        """Return `prompts`, each with whether it is cut."""
        limit = int(self.max_length * QUESTION_SHARE)
        whole = zip(examples, self.whole_prompts(examples), strict=True)
        return [(ids, False) if len(ids) <= limit else (self._fitted(example), True) for example, ids in whole]

    def whole_prompts(self, examples: Sequence[Example]) -> list[Ids]:
        """Return the ids of each example's prompt, however long it is.

        Raises:
            ModelError: the template cannot render one.
        """
        return self._before_answers([self._template.prompt(example) for example in examples])

    def _before_answers(self, prompts: Sequence[str]) -> list[Ids]:
        """Return the ids that prompts have when an answer follows.

        At the end of a text some tokenizers join what they keep apart elsewhere (GPT-2's two line breaks).
        """
        texts = [prompt + BEGINNINGS[0] for prompt in prompts]
        encoding = self._call(texts)
        ends = [self._places_of(encoding, row, text)(len(text) - 1) for row, text in enumerate(texts)]
        return [list(ids)[:end] for ids, end in zip(encoding["input_ids"], ends, strict=True)]

    def answer_of(self, tokens: Sequence[int]) -> GeneratedAnswer:
        """Return what a model has answered: the text that follows its thought, if it wrote one.

        Args:
            tokens: The generated ids, with or without an end token.
        """
        ids, (opening, closing) = list(tokens), self._template.thought_marks
        raw = self._decoded(ids, special=True)
        begun, closed = opening.match(raw), closing.search(raw)
        if closed is None:
            text = self._decoded(ids)
            return GeneratedAnswer(text) if begun is None else GeneratedAnswer("", text, unclosed=True)
        # The number of tokens that hold the closing mark.
        end = bisect_left(range(len(ids)), True, key=lambda n: self._closes(ids[: n + 1])) + 1
        thought = raw[begun.end() if begun else 0 : closed.start()]
        return GeneratedAnswer(self._decoded(ids[end:]), thought.strip())

    def _closes(self, ids: Ids) -> bool:
        return self._template.thought_marks[1].search(self._decoded(ids, special=True)) is not None

    def _decoded(self, ids: Ids, *, special: bool = False) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=not special)).strip()

    def compare(self, tokenized: "_Tokenized") -> None:
        """Check an encoded dialogue against the tokenizer's own encoding.

        The ids must be those of `apply_chat_template(…, tokenize=True)`, the prompt's those of the prompt alone, and
        where the template marks what an assistant generates (`{% generation %}`), only such tokens may be trained.

        Raises:
            ModelError: they differ.
        """
        ids, own = tokenized.ids, self._template.own_ids(tokenized.example)
        begin = tokenized.spans[-1][0]
        (prompt,) = self._before_answers([tokenized.rendered.prompt])
        is_own = tokenized.rendered.is_own and tokenized.is_whole
        generated = self._template.generated(tokenized.example) if is_own else None
        if is_own and ids[: len(own)] != own[: len(ids)]:
            raise self._differing("apply_chat_template gives other tokens", ids, own)
        if ids[:begin] != prompt:
            raise self._differing("the tokens of the prompt are others when the answer follows", ids[:begin], prompt)
        if generated is not None:
            trained = {place for begin, end in tokenized.trained for place in range(begin, end)}
            stray = sorted(place for place in trained if place < len(own) and not generated[place])
            if stray:
                shown = [own[place] for place in stray]
                raise self._differing("the template does not mark these tokens as generated", shown, [])

    def _differing(self, what: str, ours: Ids, theirs: Ids) -> ModelError:
        texts = [str(self.tokenizer.decode(ids)) for ids in (ours, theirs)]
        same = common_length(*texts)
        shown = " and ".join(repr(text[max(0, same - 20) : same + 60]) for text in texts if text)
        return ModelError(
            Fault("template-unfit", f"the chat template cannot be trained on: {what} ({shown})", hint=OTHER_TEMPLATE)
        )

    def _separate_prompts(self) -> None:
        """Leave spaces at a prompt's end to the answer if the tokenizer joins them with its first characters."""
        for self._template.keeps_spaces in (True, False):
            trials = [*self._tokenized([Example("of a trial", "问", f"{begin}答") for begin in BEGINNINGS])]
            prompts = [each.ids[: each.spans[-1][0]] for each in trials]
            if all(prompt == prompts[0] for prompt in prompts):
                return
            self._template.forget()
        raise self._differing("the tokens of the prompt depend on the answer", prompts[0], prompts[1])

    def _tokenized(self, examples: Sequence[Example]) -> Iterable["_Tokenized"]:
        """Yield the examples rendered and tokenized, all in one call of the tokenizer."""
        rendered = [self._template.render(example) for example in examples]
        encoding = self._call([each.text for each in rendered])
        for row, (example, each) in enumerate(zip(examples, rendered, strict=True)):
            tokenized = _Tokenized(
                example, each, list(encoding["input_ids"][row]), self._places_of(encoding, row, each.text)
            )
            if _joins(encoding, row, tokenized):
                tokenized = self._separated(tokenized)
            self._check_contents(tokenized)
            yield tokenized

    def _separated(self, tokenized: "_Tokenized") -> "_Tokenized":
        """Return a dialogue whose last answer is tokenized apart from its prompt.

        For an answer whose first characters the tokenizer joins with the prompt's end: the model is asked with the
        prompt as it is before any other answer.
        """
        rendered = tokenized.rendered
        begin = rendered.answers[-1][0]
        (prompt,), answer = self._before_answers([rendered.prompt]), self._call([rendered.text[begin:]])
        before, after = tokenized.place_of, self._places_of(answer, 0, rendered.text[begin:])

        def place(character: int) -> int:
            return before(character) if character < begin else len(prompt) + after(character - begin)

        return _Tokenized(tokenized.example, rendered, prompt + list(answer["input_ids"][0]), place, is_whole=False)

    def _places_of(self, encoding: "BatchEncoding", row: int, text: str) -> Callable[[int], int]:
        """Return a function from a character of a text to the index of the token that begins there, or holds it."""
        ids = encoding["input_ids"][row]
        if not encoding.is_fast:
            return lambda character: common_length(ids, self._ids([text[:character]])[0])

        def place(character: int) -> int:
            # White space may belong to no token.
            found = (encoding.char_to_token(row, at) for at in range(character, len(text)))
            return next((int(token) for token in found if token is not None), len(ids))

        return place

    def _check_contents(self, tokenized: "_Tokenized") -> None:
        """Check that no content gives a control token, as one may that a tokenizer normalizes.

        Raises:
            ModelError: one does.
        """
        for begin, end in tokenized.rendered.contents:
            ids = tokenized.ids[tokenized.place_of(begin) : tokenized.place_of(end)]
            if not self._control_ids.isdisjoint(ids):
                content = tokenized.rendered.text[begin:end][:80]
                problem = f"example {tokenized.example.id[:60]} holds a control token of this model: {content!r}"
                raise ModelError(Fault("control-token", problem, hint="Remove it from the data."))

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        added = self.tokenizer.added_tokens_decoder.items()
        return frozenset(token for token, text in added if self._template.marks.fullmatch(str(text)))

    def _whole(self, tokenized: "_Tokenized") -> Encoded:
        """Return a dialogue of any length as one item."""
        rendered, spans = tokenized.rendered, tokenized.spans
        return Encoded(
            tokenized.ids,
            spans[-1][0],
            cut=False,
            earlier=tuple(tokenized.trained[:-1]),
            untrained=len(spans) - len(tokenized.trained),
            marks=rendered.marks,
            thoughts=rendered.dropped_thoughts,
        )

    def _cut(self, tokenized: "_Tokenized", whole: Encoded) -> Encoded:
        example = self._without_earliest(tokenized, self.max_length)
        (shorter,) = self._tokenized([example])
        item = self._whole(shorter)
        if len(item.input_ids) > self.max_length:
            prompt, target = self._fitted(example), item.input_ids[item.answer_start :]
            item = replace(item, input_ids=(prompt + target)[: self.max_length], answer_start=len(prompt), earlier=())
        return replace(item, cut=True, marks=whole.marks, thoughts=whole.thoughts)

    def _fitted(self, example: Example) -> Ids:
        """Return the prompt of a dialogue, cut to its share of `max_length`."""
        limit = int(self.max_length * QUESTION_SHARE)
        (tokenized,) = self._tokenized([replace(example, answer="")])
        example = self._without_earliest(tokenized, limit, asked=True)
        (ids,) = self.whole_prompts([example])
        return ids if len(ids) <= limit else self._shortened(example, limit)

    def _without_earliest(self, tokenized: "_Tokenized", limit: int, *, asked: bool = False) -> Example:
        """Drop the fewest earliest turns that leave at most `limit` tokens; the last turn always stays.

        Args:
            tokenized: The dialogue.
            limit: Maximum tokens, including the end after the last answer.
            asked: Whether the tokens are those of the prompt alone.
        """
        example, questions = tokenized.example, tokenized.rendered.questions
        size = tokenized.spans[-1][0] if asked else len(tokenized.ids)
        # Lower bounds of the number of tokens without the first turns: the text before the first remaining question
        # changes, since the system prompt moves there.
        left = [size - (tokenized.place_of(questions[turns][0]) if turns else 0) for turns in range(len(questions))]
        first = next((turns for turns, least in enumerate(left) if least <= limit), len(example.history))
        shorter = example
        for turns in range(first, len(example.history) + 1) if first else ():
            shorter = replace(example, history=example.history[turns:])
            ids = self.whole_prompts([shorter])[0] if asked else next(iter(self._tokenized([shorter]))).ids
            if len(ids) <= limit:
                break
        return shorter

    def _shortened(self, example: Example, limit: int) -> Ids:
        """Encode a question cut at its end, so that the prompt takes at most `limit` tokens."""

        def prompt(question: str, system: str | None) -> str:
            return self._template.prompt(Example(example.id, question, "", system))

        system = example.system
        if system is not None:
            system = self._beginning(system, limit // 2, lambda text: prompt("", text)) or None
        question = self._beginning(example.question, limit, lambda text: prompt(text, system))
        return self._ids([prompt(question, system)])[0]

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

    def _ids(self, texts: Sequence[str]) -> list[Ids]:
        return list(self._call(texts)["input_ids"])

    def _call(self, texts: Sequence[str]) -> "BatchEncoding":
        # Long texts are cut and counted above; the tokenizer's own warning would be noise.
        options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
        return cast("BatchEncoding", self.tokenizer(list(texts), **options))


@dataclass(frozen=True)
class _Tokenized:
    """A dialogue as token ids.

    Attributes:
        place_of: Gives the index of the token that begins at a character of the text, or holds it.
        is_whole: Whether the text is tokenized as a whole.
    """

    example: Example
    rendered: Rendered
    ids: Ids
    place_of: Callable[[int], int]
    is_whole: bool = True

    @cached_property
    def spans(self) -> list[Span]:
        """The tokens of each answer, with its end."""
        return [(self.place_of(begin), self.place_of(end)) for begin, end in self.rendered.answers]

    @property
    def trained(self) -> list[Span]:
        """The tokens of each answer that is trained on; the last one always is."""
        return [span for span, trained in zip(self.spans, self.rendered.trained, strict=True) if trained]


def _joins(encoding: "BatchEncoding", row: int, tokenized: _Tokenized) -> bool:
    """Whether a token holds the end of the prompt and the beginning of the last answer."""
    if not encoding.is_fast:
        return False
    begin, (place, _) = tokenized.rendered.answers[-1][0], tokenized.spans[-1]
    if place >= len(tokenized.ids):
        return False
    characters = encoding.token_to_chars(row, place)
    # Bytes of one character have its place; white space before a word may count to it.
    return (
        characters is not None and characters.start < begin and bool(tokenized.rendered.text[characters.start].strip())
    )
