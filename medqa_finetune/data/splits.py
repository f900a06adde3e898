"""Divides a corpus into training pool, validation and test set by question: no question is in two sets.

The order of the questions comes from a keyed hash of each. It depends neither on the order of the corpus nor on the
training size, so smaller training sets are prefixes of larger ones and the held-out sets never change.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import rensa

from medqa_finetune.errors import DataError, Fault

NOT_WORD = re.compile(r"[\W_]+")
WHITESPACE = re.compile(r"\s+")
KEY_BYTES = 8
BLOCK_QUESTIONS = 4096

PERMUTATIONS = 128
# Minimum probability that two texts exactly at the threshold become candidates.
RECALL = 0.99
HASH_SEED = 1
GRAM = 3

Rows = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class SplitRules:
    """How a corpus is divided.

    Attributes:
        test_size: Test questions, at least 1.
        validation_size: Validation questions, at least 1.
        split_seed: Seed of the order of the questions.
        near_duplicate_threshold: Minimum Jaccard similarity of trigrams at which questions count as the same, in (0,
            1].
    """

    test_size: int
    validation_size: int
    split_seed: int
    near_duplicate_threshold: float


@dataclass(frozen=True)
class ExampleKeys:
    """Three 64-bit hashes of every example, in the corpus's order.

    A collision among a million questions has a probability of 3e-8 (n^2 / 2^65).

    Attributes:
        question: Of what identifies the example (`corpus.identified_by`), its question for most.
        example: Of all of it.
        answer: Of its answer.
        training_alone: Whether an example has nothing of its own to be identified by, so that it is never held out;
            None if all have.
    """

    question: Keys
    example: Keys
    answer: Keys
    training_alone: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Division:
    """Row numbers of each set, in order.

    Attributes:
        pool: All rows available for training; a training set is a prefix of it.
        counts: Examples, or questions, left out, by reason.
        test_answers_first_seen: For each test example whose answer occurs verbatim in the pool, its first index there.
    """

    test: Rows
    validation: Rows
    pool: Rows
    counts: Counter[str] = field(default_factory=Counter)
    test_answers_first_seen: list[int] = field(default_factory=list)


def normalised_question(question: str) -> str:
    """Return a question without case, spaces, punctuation and compatibility forms; equal ones count as the same."""
    text = unicodedata.normalize("NFKC", question).casefold()
    # A question of punctuation alone is compared by its punctuation.
    return NOT_WORD.sub("", text) or WHITESPACE.sub("", text) or question


def key_of(text: str, seed: int = 0) -> int:
    """Return a 64-bit keyed hash of a text, the same on every machine."""
    digest = hashlib.blake2b(text.encode(), digest_size=KEY_BYTES, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "big")


def trigrams(text: str) -> set[str]:
    """Return the set of a text's character trigrams; a text shorter than three characters is its own only one."""
    return {text[i : i + GRAM] for i in range(len(text) - GRAM + 1)} or {text}


def jaccard(a: set[str], b: set[str]) -> float:
    """Return the Jaccard similarity |a and b| / |a or b| of two sets that are not both empty, in [0, 1]."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def bands_for(threshold: float) -> int:
    """Return the number of bands, a power of 2, into which the 128 MinHash values are divided.

    Two texts of similarity t agree in one band of r values with probability t^r, so they become candidates with
    probability 1 - (1 - t^r)^b (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4.2). The result is the
    fewest bands, and so the fewest false candidates, that reach `RECALL` at the threshold: 32 at 0.8, with 0.9999999.
    """
    bands = 1
    while bands < PERMUTATIONS and 1 - (1 - threshold ** (PERMUTATIONS / bands)) ** bands < RECALL:
        bands *= 2
    return bands


class HeldOutIndex:
    """An index of held-out questions, to find near-duplicates of them: by MinHash, confirmed by counting.

    Args:
        questions: Held-out questions, normalised.
        threshold: Minimum Jaccard similarity of character trigrams at which two questions count as the same, in (0, 1].
    """

    def __init__(self, questions: Sequence[str], threshold: float) -> None:
        self._threshold = threshold
        self._grams = [trigrams(question) for question in questions]
        self._index = rensa.RMinHashLSH(threshold, PERMUTATIONS, bands_for(threshold))
        self._index.insert_many(self._sketches(self._grams))

    def near(self, questions: Sequence[str]) -> list[bool]:
        """Return for each question, normalised, whether it is a near-duplicate of a held-out one."""
        grams = [trigrams(question) for question in questions]
        candidates: list[list[int]] = self._index.query_all(self._sketches(grams))
        return [
            any(jaccard(mine, self._grams[held_out]) >= self._threshold for held_out in found)
            for mine, found in zip(grams, candidates, strict=True)
        ]

    @staticmethod
    def _sketches(grams: list[set[str]]) -> list[rensa.RMinHash]:
        sketches: list[rensa.RMinHash] = rensa.RMinHash.from_token_sets(grams, PERMUTATIONS, HASH_SEED)
        return sketches


class Questions:
    """The distinct questions in seeded order, each with its rows.

    Args:
        keys: Hashes of every example.
        texts: Returns the normalised questions of rows.
        rows: The rows that count, ascending; None for all.
    """

    def __init__(self, keys: ExampleKeys, texts: Callable[[Rows], Sequence[str]], rows: Rows | None = None) -> None:
        within = np.arange(len(keys.example)) if rows is None else rows
        kept = within[np.sort(np.unique(keys.example[within], return_index=True)[1])]
        self.duplicates = len(within) - len(kept)
        ordered = keys.question[kept]
        alone = np.zeros(len(kept), np.bool_) if keys.training_alone is None else keys.training_alone[kept]
        # Those for training alone come last, where nothing is held out.
        order = np.lexsort((kept, ordered, alone))
        self._rows: Rows = kept[order].astype(np.int64)
        self._starts: Rows = np.flatnonzero(np.diff(ordered[order], prepend=~ordered[order][:1])).astype(np.int64)
        self._ends: Rows = np.append(self._starts[1:], len(self._rows)).astype(np.int64)
        self._texts = texts
        self.n_testable = len(self._starts) - len(np.unique(ordered[alone]))
        self.keys: Keys = keys.question[self._rows[self._starts]]

    def __len__(self) -> int:
        return len(self._starts)

    def first_rows(self, questions: Rows) -> Rows:
        """Return each question's first example in the corpus's order."""
        return self._rows[self._starts[questions]]

    def all_rows(self, questions: Rows) -> Rows:
        """Return all examples of the questions, grouped by question."""
        starts = self._starts[questions]
        lengths = self._ends[questions] - starts
        # Row positions increase by 1 within a question, and jump to the start of the next one at its end.
        jumps = starts - (np.cumsum(lengths) - lengths)
        rows: Rows = self._rows[np.repeat(jumps, lengths) + np.arange(lengths.sum())]
        return rows

    def n_rows(self, questions: Rows) -> int:
        """Return the number of the questions' examples."""
        return int((self._ends[questions] - self._starts[questions]).sum())

    def near(self, questions: Rows, index: HeldOutIndex) -> npt.NDArray[np.bool_]:
        """Return for each question whether it is a near-duplicate of a held-out one, of shape (questions,)."""
        found = np.zeros(len(questions), dtype=np.bool_)
        for start in range(0, len(questions), BLOCK_QUESTIONS):
            block = slice(start, start + BLOCK_QUESTIONS)
            found[block] = index.near(self._texts(self.first_rows(questions[block])))
        return found

    def index(self, questions: Rows, threshold: float) -> HeldOutIndex:
        """Return an index of questions as held-out ones."""
        return HeldOutIndex(self._texts(self.first_rows(questions)), threshold)


def divide(keys: ExampleKeys, texts: Callable[[Rows], Sequence[str]], rules: SplitRules) -> Division:
    """Divide a corpus into test set, validation set and training pool.

    Args:
        keys: Hashes of every example; those of questions made with `rules.split_seed`.
        texts: Returns the normalised questions of rows.
        rules: Sizes, order and near-duplicate threshold.

    Raises:
        DataError: there are too few questions for the held-out sets and one for training.
    """
    questions, counts = Questions(keys, texts), Counter[str]()
    _check_enough(questions.n_testable, rules)
    test: Rows = np.arange(rules.test_size)
    near_test = questions.index(test, rules.near_duplicate_threshold)
    validation, end = _choose_validation(questions, near_test, rules)
    near_validation = questions.index(validation, rules.near_duplicate_threshold)
    rest: Rows = np.arange(end, len(questions))
    like_test = questions.near(rest, near_test)
    like_validation = ~like_test
    like_validation[like_validation] = questions.near(rest[like_validation], near_validation)
    pool = questions.all_rows(rest[~like_test & ~like_validation])

    counts["questions"] = len(questions)
    counts["exact_duplicates"] = questions.duplicates
    held_out = np.concatenate([test, validation])
    counts["other_answers_to_held_out_questions"] = questions.n_rows(held_out) - len(held_out)
    passed_over = np.setdiff1d(np.arange(rules.test_size, end), validation)
    counts["validation_questions_near_duplicates_of_test"] = len(passed_over)
    counts["validation_pairs_near_duplicates_of_test"] = questions.n_rows(passed_over)
    counts["training_questions_near_duplicates"] = int((like_test | like_validation).sum())
    counts["training_pairs_near_duplicates_of_test"] = questions.n_rows(rest[like_test])
    counts["training_pairs_near_duplicates_of_validation"] = questions.n_rows(rest[like_validation])
    counts["training_pool"] = len(pool)
    test_rows = questions.first_rows(test)
    seen = first_seen(keys.answer[test_rows], keys.answer[pool])
    counts["test_answers_seen_in_training_pool"] = len(seen)
    return Division(test_rows, questions.first_rows(validation), pool, counts, seen)


def _check_enough(n_questions: int, rules: SplitRules) -> None:
    held_out = rules.test_size + rules.validation_size
    if n_questions <= held_out:
        raise DataError(
            Fault(
                "corpus-too-small",
                f"with data.validation_size={rules.validation_size} (both scaled) {held_out:,} questions are held "
                f"out, but the corpus has {n_questions:,} distinct questions, and some must be left to train on; "
                "examples with the same first question count as one, unless many begin alike (corpus.identified_by)",
                key="data.test_size",
                got=rules.test_size,
                hint=f"{_smaller(n_questions)} Or give another corpus, or corpus.identified_by=prompt, which tells "
                "examples apart by everything before the answer.",
            )
        )


def _smaller(n_questions: int) -> str:
    """Return a hint with sizes that fit, a tenth of the questions each; empty where none do."""
    each = max(1, n_questions // 10)
    if n_questions < 3:
        return ""
    return f"Give data.test_size={each} data.validation_size={each}, and data.scale=1 where a profile scales them."


def _choose_validation(questions: Questions, near_test: HeldOutIndex, rules: SplitRules) -> tuple[Rows, int]:
    """Return the validation questions, and the first question after them: near-duplicates of a test one are skipped."""
    chosen: list[int] = []
    position = rules.test_size
    while len(chosen) < rules.validation_size:
        block: Rows = np.arange(position, min(position + rules.validation_size - len(chosen), questions.n_testable))
        if not len(block):
            raise DataError(
                Fault(
                    "corpus-too-small",
                    f"is more, after scaling, than the {len(chosen):,} questions that are near no test question "
                    f"(data.near_duplicate_threshold={rules.near_duplicate_threshold:g})",
                    key="data.validation_size",
                    got=rules.validation_size,
                    hint="Give a smaller data.validation_size= or data.test_size=, or another corpus.",
                )
            )
        chosen.extend(block[~questions.near(block, near_test)].tolist())
        position += len(block)
    return np.array(chosen, np.int64), position


def first_seen(test_answers: Keys, pool_answers: Keys) -> list[int]:
    """Return, for each test answer that also occurs in the pool, its first index there; sorted."""
    places = np.flatnonzero(np.isin(pool_answers, test_answers))
    first: dict[int, int] = {}
    for place in places:
        first.setdefault(int(pool_answers[place]), int(place))
    return sorted(first[int(answer)] for answer in test_answers if int(answer) in first)
