"""From a pair to token ids and labels, through the chat template of the model's own tokenizer.

The loss is taken on the answer and the token that ends it, on nothing else. Training and evaluation both encode here,
so a model is asked exactly as it was trained.
"""

import json
import logging
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medqa_finetune.data.pairs import Pair
from medqa_finetune.errors import ModelError
from medqa_finetune.record.files import sha256_of_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

IGNORED = -100  # torch's cross-entropy leaves this label out
PAIRS_PER_CALL = 1000
# Raise it with every change that alters the ids of the same pairs.
ENCODING_VERSION = 1
# A question may take this share of max_length; the rest is kept for the answer, so that no pair is without labels.
QUESTION_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded pair.

    Attributes:
        input_ids: Prompt, answer and end token; at most max_length.
        answer_start: Index of the first answer token, at least 1.
        cut: Whether something was cut to fit max_length.
    """

    input_ids: list[int]
    answer_start: int
    cut: bool

    @property
    def labels(self) -> list[int]:
        """The ids where the loss is taken, `IGNORED` elsewhere; as long as `input_ids`."""
        return [IGNORED] * self.answer_start + self.input_ids[self.answer_start :]


class EncodedSet(Sequence[dict[str, list[int]]]):
    """Encoded pairs in three flat arrays, a few bytes per token however many pairs there are.

    Attributes:
        cut: Number of pairs cut at max_length.
        tokens: Number of tokens of all pairs.
    """

    def __init__(self, encoded: Iterable[Encoded]) -> None:
        ids, ends, starts, cut = array("i"), array("q"), array("i"), 0
        for item in encoded:
            ids.extend(item.input_ids)
            ends.append(len(ids))
            starts.append(item.answer_start)
            cut += item.cut
        self._fill(np.frombuffer(ids, np.int32), np.frombuffer(ends, np.int64), np.frombuffer(starts, np.int32), cut)

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "EncodedSet":
        """Return the set that `arrays()` was taken of."""
        fresh = cls.__new__(cls)
        fresh._fill(arrays["ids"], arrays["ends"], arrays["starts"], int(arrays["cut"]))
        return fresh

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what makes up the set: `ids` of all pairs, where each pair `ends`, `starts` of answers, and `cut`."""
        return {"ids": self._ids, "ends": self._ends, "starts": self._starts, "cut": np.asarray(self.cut)}

    def _fill(
        self, ids: npt.NDArray[np.int32], ends: npt.NDArray[np.int64], starts: npt.NDArray[np.int32], cut: int
    ) -> None:
        self._ids, self._ends, self._starts, self.cut = ids, ends, starts, cut
        self.tokens = len(ids)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: Any) -> Any:
        """Return `{"input_ids", "labels"}` of one pair; -1 is the last one, as in a list."""
        begin, end = self._bounds(index)
        ids = self._ids[begin:end].tolist()
        return {"input_ids": ids, "labels": Encoded(ids, int(self._starts[index]), cut=False).labels}

    def length(self, index: int) -> int:
        """Return the number of tokens of one pair."""
        begin, end = self._bounds(index)
        return end - begin

    def _bounds(self, index: int) -> tuple[int, int]:
        end = int(self._ends[index])
        is_first = index in (0, -len(self))
        return (0 if is_first else int(self._ends[index - 1])), end


class Encoder:
    """Turns questions and pairs into token ids for one tokenizer.

    Args:
        tokenizer: With a chat template; the template's answer must end in a special token.
        max_length: Tokens per pair at most.

    Raises:
        ModelError: the chat template cannot be used for a question and an answer.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.end_ids = self._find_end()
        overhead = len(self._ids([self._prompt("")])[0])
        if overhead + len(self.end_ids) >= max_length * QUESTION_SHARE:
            raise ModelError(
                f"train.max_length={max_length}: the chat template alone takes {overhead} tokens; "
                f"at least {int((overhead + 16) / QUESTION_SHARE)} is wanted."
            )

    def encode(self, pairs: Iterable[Pair]) -> Iterable[Encoded]:
        """Yield each pair encoded, in order; at the end, say how many were cut."""
        pairs, n, cut = iter(pairs), 0, 0
        while chunk := list(islice(pairs, PAIRS_PER_CALL)):
            for item in self._encode_chunk(chunk):
                n, cut = n + 1, cut + item.cut
                yield item
        self.tell_cut(cut, n)

    def tell_cut(self, cut: int, n: int) -> None:
        """Say how many of `n` pairs were cut, if any were."""
        if cut:
            logger.warning(
                "%s of %s pairs are longer than train.max_length=%s and are cut at the end.",
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

    def prompts(self, questions: Sequence[str]) -> list[list[int]]:
        """Return the ids of each question up to where the answer begins, with room left for an answer."""
        return [self._fitted(question, ids) for question, ids in zip(questions, self._whole(questions), strict=True)]

    def _encode_chunk(self, pairs: Sequence[Pair]) -> Iterable[Encoded]:
        whole = self._whole([pair.question for pair in pairs])
        answers = self._ids([pair.answer for pair in pairs])
        for pair, prompt, answer in zip(pairs, whole, answers, strict=True):
            target = answer + self.end_ids
            cut = len(prompt) + len(target) > self.max_length
            kept = self._fitted(pair.question, prompt) if cut else prompt
            yield Encoded((kept + target)[: self.max_length], len(kept), cut)

    def _whole(self, questions: Sequence[str]) -> list[list[int]]:
        return self._ids([self._prompt(question) for question in questions])

    def _fitted(self, question: str, prompt: list[int]) -> list[int]:
        """Return the prompt, its question cut where it takes more than its share of `max_length`."""
        limit = int(self.max_length * QUESTION_SHARE)
        return prompt if len(prompt) <= limit else self._shortened(question, limit)

    def _shortened(self, question: str, limit: int) -> list[int]:
        """Encode a question cut at its end, so that the prompt takes at most `limit` tokens."""
        tokens = self._ids([question])[0]
        keep = limit - len(self._ids([self._prompt("")])[0])
        while True:
            # Cutting inside a character and decoding can give more tokens than were kept, hence the loop.
            prompt = self._ids([self._prompt(str(self.tokenizer.decode(tokens[:keep])).rstrip("\ufffd"))])[0]
            if len(prompt) <= limit:
                return prompt
            keep = max(0, keep - (len(prompt) - limit))

    def _prompt(self, question: str) -> str:
        message = [{"role": "user", "content": question}]
        return str(self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        # Long texts are cut by us and counted; the tokenizer's own warning about them would be noise.
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        return list(encoded["input_ids"])

    def _find_end(self) -> list[int]:
        """Return the ids that end an answer: what the template puts between the answer and its first special token."""
        question, answer = "问", "答"
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        try:
            text = str(self.tokenizer.apply_chat_template(messages, tokenize=False))
            prompt = self._prompt(question)
        except Exception as error:  # Jinja's own kinds, and whatever a template raises
            raise ModelError(f"the chat template fails on a question and an answer ({error}).") from None
        if not text.startswith(prompt + answer):
            raise ModelError(
                "the chat template does not put the answer right behind the generation prompt; it cannot be trained on."
            )
        ids = self._ids([text[len(prompt + answer) :]])[0]
        special = set(self.tokenizer.all_special_ids)
        for position, token in enumerate(ids):
            if token in special:
                return ids[: position + 1]
        raise ModelError(
            "the chat template ends an answer without a special token, so the model could not learn to stop."
        )
