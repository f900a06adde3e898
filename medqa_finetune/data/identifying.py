"""What identifies an example: the text by which examples are the same, divided over the sets, and compared.

By default that is the first question. Where many dialogues begin alike (a greeting, a constant instruction, one
question about the case in the system prompt), it is what tells them apart: the system prompt, or the next question.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medqa_finetune.data.examples import Example
from medqa_finetune.data.splits import Keys, Rows, key_of, normalised_question

logger = logging.getLogger(__name__)

AUTO = "auto"
# An opening is common if at least so many things follow it, each of them in fewer places than the opening, and no fewer
# than this share of all examples: a question that is merely asked often still identifies its dialogues.
LEAST_FOLLOWERS = 6
FOLLOWER_SHARE = 0.01
# Words around so many of a sample of different texts, and of this length, are a constant instruction.
LEAST_FRAMED = 10
FRAMED_SHARE = 0.1
FRAME_CHARS = 20
# How much longer than what they frame such words are, for texts to look alike by them.
FRAME_PER_REST = 2

NONE = 0
FIRST, SYSTEM = 0, -1


def compared_text(example: Example, identified_by: str) -> str:
    """Return the normalised text by which an example is the same as another, before looking at the others."""
    if identified_by == "last_question":
        return normalised_question(example.question)
    if identified_by == "system" and example.system is not None:
        return normalised_question(example.system)
    if identified_by == "prompt":
        before = [] if example.system is None else [example.system]
        before += [text for turn in example.history for text in turn]
        return "\n".join(map(normalised_question, [*before, example.question]))
    return normalised_question(example.opening)


def followers(example: Example) -> tuple[str | None, str | None]:
    """Return what may tell an example from others with the same opening: system prompt, and second question."""
    second = [*example.history[1:], (example.question, "")][0][0] if example.history else None
    return example.system, second


@dataclass
class Identities:
    """What identifies each example of a corpus.

    Attributes:
        keys: Hash of each example's text.
        place: Which text it is: `FIRST`, `SYSTEM`, or the number of the question, from 1 for the second.
        training_alone: Whether an example has nothing of its own beyond a common opening, so that it is never tested.
        openings: Hashes of common openings, with the number of examples that begin so.
    """

    keys: Keys
    place: npt.NDArray[np.int32]
    training_alone: npt.NDArray[np.bool_]
    openings: Counter[int] = field(default_factory=Counter)


class OpeningKeys(NamedTuple):
    """Hashes of the texts of each example, `NONE` where there is none.

    Attributes:
        first: Of the first question.
        system: Of the system prompt.
        second: Of the second question.
        answer: Of the answer.
    """

    first: Keys
    system: Keys
    second: Keys
    answer: Keys


class Openings:
    """Finds openings that many examples share, and goes on to what follows them.

    Args:
        texts: Hashes of the texts of each example.
        examples: Returns examples of the rows, in their order.
        seed: Seed of the hashes.
    """

    def __init__(self, texts: OpeningKeys, examples: Callable[[Rows], Iterator[Example]], seed: int) -> None:
        keys = texts.first
        self._keys, self._systems, self._seconds = keys.copy(), texts.system.copy(), texts.second.copy()
        self._answers = texts.answer
        self._examples, self._seed = examples, seed
        # Which text an example goes by now, and the last question before or at it.
        self._place = np.zeros(len(keys), np.int32)
        self._turn = np.zeros(len(keys), np.int32)
        self._alone = np.zeros(len(keys), np.bool_)
        self._least = max(LEAST_FOLLOWERS, int(FOLLOWER_SHARE * len(keys)))
        # Key of a common text, to whether the system prompt follows it.
        self._common: dict[int, bool] = {}
        self._openings = Counter[int]()

    def resolve(self) -> Identities:
        """Return what identifies each example."""
        while fresh := self._fresh():
            self._common |= fresh
            common = np.fromiter(fresh, np.uint64, len(fresh))
            rows: Rows = np.flatnonzero(np.isin(self._keys, common) & ~self._alone)
            if not self._openings:
                self._openings.update(self._keys[rows].tolist())
            for row, example in zip(rows.tolist(), self._examples(rows), strict=True):
                self._go_on(row, example)
        return Identities(self._keys, self._place, self._alone, self._openings)

    def _fresh(self) -> dict[int, bool]:
        by_system, by_turn = self._followers(self._systems), self._followers(self._seconds) | self._later()
        # The time of day in the system prompt makes no other question: the answers must differ too.
        answers = self._followers(self._answers, rarer_only=False) if by_system else {}
        by_system = {key: min(n, answers[key]) for key, n in by_system.items()}
        return {
            key: by_system.get(key, 0) >= by_turn.get(key, 0)
            for key in by_system | by_turn
            if max(by_system.get(key, 0), by_turn.get(key, 0)) >= self._least
        }

    def _later(self) -> dict[int, int]:
        """Return in how many ways dialogues end whose next question is nearly constant too."""
        there = (self._seconds != NONE) & ~self._alone
        keys, n_rows = np.unique(self._keys[there], return_counts=True)
        few = self._followers(self._seconds, rarer_only=False)
        found = {}
        for key in (int(key) for key in keys[n_rows >= self._least] if few[int(key)] < self._least):
            rows = np.flatnonzero(there & (self._keys == key))
            examples = zip(rows.tolist(), self._examples(rows), strict=True)
            tails = {tuple(asked for asked, _ in each.turns[self._turn[row] + 1 :]) for row, each in examples}
            beginnings = {tail[:n] for tail in tails for n in range(len(tail))}
            found[key] = len(tails - beginnings)
        return found

    def _followers(self, following: Keys, *, rarer_only: bool = True) -> dict[int, int]:
        """Return how many things follow each text; or only those that are rarer: follow fewer texts than follow it."""
        there = (following != NONE) & ~self._alone
        if not there.any():
            return {}
        pairs = np.unique(np.stack([self._keys[there], following[there]], axis=1), axis=0)
        texts, of_text, n_followers = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
        _, of_follower, n_texts = np.unique(pairs[:, 1], return_inverse=True, return_counts=True)
        counted = n_texts[of_follower] < n_followers[of_text] if rarer_only else np.ones(len(pairs), np.bool_)
        counts = np.bincount(of_text[counted], minlength=len(texts))
        return {int(text): int(n) for text, n in zip(texts, counts, strict=True) if n}

    def _go_on(self, row: int, example: Example) -> None:
        """Let an example go by its first text that is not common; if there is none, it is for training alone."""
        questions = [asked for asked, _ in example.turns]
        place, key = int(self._place[row]), int(self._keys[row])
        turn, had_system = int(self._turn[row]), self._systems[row] == NONE
        while (by_system := self._common.get(key)) is not None:
            if by_system and not had_system:
                place, had_system, text = SYSTEM, True, example.system or ""
            elif turn + 1 < len(questions):
                turn += 1
                place, text = turn, questions[turn]
            else:
                self._alone[row] = True
                break
            key = key_of(normalised_question(text), self._seed)
        self._place[row], self._keys[row] = place, key
        self._turn[row] = turn
        if had_system:
            self._systems[row] = NONE
        more = turn + 1 < len(questions)
        self._seconds[row] = key_of(normalised_question(questions[turn + 1]), self._seed) if more else NONE


def text_at(example: Example, place: int) -> str:
    """Return the normalised text of an example at a place of `Identities`."""
    text = example.system or "" if place == SYSTEM else example.turns[place][0]
    return normalised_question(text)


@dataclass(frozen=True)
class Frames:
    """Constant instructions in front of and behind what is asked.

    Attributes:
        before: Beginnings, longest first.
        behind: Endings, longest first.
    """

    before: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.before or self.behind)

    def without(self, text: str) -> str:
        """Return a text without them; the whole text if nothing else is in it."""
        bare = text
        for words in self.before:
            if bare.startswith(words):
                bare = bare[len(words) :]
                break
        for words in self.behind:
            if bare.endswith(words):
                bare = bare[: -len(words)]
                break
        return bare or text


def frames_of(texts: Sequence[str]) -> Frames:
    """Return the constant instructions among texts: long beginnings and endings that a tenth of the different share."""
    distinct = sorted(set(texts))
    before = _shared_beginnings(distinct)
    behind = _shared_beginnings([text[::-1] for text in distinct])
    frames = Frames(before, tuple(words[::-1] for words in behind))
    bare = [(len(text), len(frames.without(text))) for text in distinct]
    framed = [(whole - rest, rest) for whole, rest in bare if rest < whole]
    # Around long texts, as "which is the most likely?" behind a case, they make nothing look alike.
    matters = framed and median(words for words, _ in framed) >= FRAME_PER_REST * median(rest for _, rest in framed)
    return frames if matters else Frames()


def _shared_beginnings(texts: list[str]) -> tuple[str, ...]:
    least = max(LEAST_FRAMED, int(FRAMED_SHARE * len(texts)))
    found: list[str] = []
    waiting = [(0, texts)]
    while waiting:
        length, group = waiting.pop()
        following: dict[str, list[str]] = {}
        for text in group:
            if len(text) > length:
                following.setdefault(text[length], []).append(text)
        shared = [each for each in following.values() if len(each) >= least]
        # Some end here or go on in their own way; too few to matter must not make a frame each.
        others = len(group) - sum(map(len, shared))
        if length >= FRAME_CHARS and (not shared or 10 * others >= least):
            found.append(group[0][:length])
        waiting += [(length + 1, each) for each in shared]
    return tuple(sorted(found, key=lambda words: (-len(words), words)))


def say_alike(corpus: str, counts: Mapping[str, int]) -> None:
    """Log where examples go by something other than their whole first question.

    Args:
        corpus: Name of the corpus.
        counts: Counts of the preparation.
    """
    if n := counts.get("examples_that_begin_alike"):
        alone = counts.get("examples_for_training_alone", 0)
        logger.info(
            "%s: %s examples begin like many others, and go by what follows%s (corpus.identified_by=first_question "
            "takes all that begin alike for one question)",
            corpus,
            f"{n:,}",
            f"; {alone:,} have nothing else, and are never held out" if alone else "",
        )
    if n := counts.get("constant_instructions"):
        said = "%s: constant words around many questions are not compared (%s beginnings and endings)"
        logger.info(said, corpus, f"{n:,}")
