"""Divides a corpus that was published in parts: each set from its own part, with a guard against leaks between them.

A part that is missing is held out from the training part. Questions are ordered, and near-duplicates found, as in
`data/splits.py`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medqa_finetune.data.parts import PARTS, TEST, TRAIN, VALIDATION
from medqa_finetune.data.splits import Division, ExampleKeys, Questions, Rows, SplitRules, first_seen
from medqa_finetune.errors import DataError, Fault

logger = logging.getLogger(__name__)

NAMES_SHOWN = 6
# Held-out questions that are indexed at once, which bounds memory.
HELD_OUT_AT_ONCE = 16_384


def divide_published(
    keys: ExampleKeys, texts: Callable[[Rows], Sequence[str]], rules: SplitRules, parts: Mapping[str, Rows]
) -> Division:
    """Divide a corpus by its published parts.

    Training questions that are also in a held-out part, or near-duplicates of one there, are left out, whether or not
    the held-out question is among those chosen; so are validation questions that are in the test part. Examples without
    a question of their own, a greeting alone, are left out of held-out parts, and never held out.

    Args:
        keys: Hashes of every example; those of questions made with `rules.split_seed`.
        texts: Returns the normalised questions of rows.
        rules: Sizes, order and near-duplicate threshold. A published part smaller than its size is taken whole.
        parts: Row numbers of each part, ascending, none empty: `train`, and `validation`, `test` or both.

    Raises:
        DataError: nothing is left for a set, or the training part is too small for the sets held out from it.
    """
    return _Parts(keys, texts, rules, parts).divide()


class _Parts:
    """The questions of each part, and the counts of what their guards leave out."""

    def __init__(
        self, keys: ExampleKeys, texts: Callable[[Rows], Sequence[str]], rules: SplitRules, parts: Mapping[str, Rows]
    ) -> None:
        self._keys, self._rules = keys, rules
        self._parts = {name: Questions(keys, texts, rows) for name, rows in parts.items()}
        self._train = self._parts[TRAIN]
        self._left: Rows = np.arange(len(self._train))
        self.counts = Counter[str]()
        for name, questions in self._parts.items():
            self.counts[f"{name}_part_questions"] = len(questions)
        every = np.concatenate([questions.keys for questions in self._parts.values()])
        self.counts["questions"] = len(np.unique(every))
        self.counts["exact_duplicates"] = sum(questions.duplicates for questions in self._parts.values())

    def divide(self) -> Division:
        for name in (TEST, VALIDATION):
            if name in self._parts:
                self._left = self._guarded(TRAIN, self._left, name)
        test = self._chosen(TEST, self._rules.test_size)
        validation = self._chosen(VALIDATION, self._rules.validation_size)
        pool = self._train.all_rows(self._left)
        self.counts["training_pool"] = len(pool)
        seen = first_seen(self._keys.answer[test], self._keys.answer[pool])
        self.counts["test_answers_seen_in_training_pool"] = len(seen)
        return Division(test, validation, pool, self.counts, seen)

    def _chosen(self, name: str, size: int) -> Rows:
        """Return the rows of a held-out set, one per question: of its own part, or held out from the training part."""
        if name not in self._parts:
            return self._held_out(name, size)
        part = self._parts[name]
        free: Rows = np.arange(part.n_testable)
        self.counts[f"{name}_pairs_without_own_question"] = part.n_rows(np.arange(part.n_testable, len(part)))
        if name == VALIDATION and TEST in self._parts:
            free = self._guarded(VALIDATION, free, TEST)
        if not len(free):
            raise DataError(_none_left(name, len(part)))
        chosen = free[:size]
        self.counts["other_answers_to_held_out_questions"] += part.n_rows(chosen) - len(chosen)
        return part.first_rows(chosen)

    def _held_out(self, name: str, size: int) -> Rows:
        """Take questions for a set out of those left for training, with everything near them."""
        testable = int((self._left < self._train.n_testable).sum())
        if testable < size or len(self._left) == size:
            raise DataError(_too_small(name, size, testable, self.counts[f"{TRAIN}_part_questions"]))
        chosen, rest = self._left[:size], self._left[size:]
        self.counts["other_answers_to_held_out_questions"] += self._train.n_rows(chosen) - size
        like = self._train.near(rest, self._train.index(chosen, self._rules.near_duplicate_threshold))
        self._count_near(TRAIN, rest[like], name)
        self._left = rest[~like]
        return self._train.first_rows(chosen)

    def _guarded(self, name: str, questions: Rows, held_out: str) -> Rows:
        """Return those of a part's questions that are not in a held-out part, nor near-duplicates of one there."""
        part, other = self._parts[name], self._parts[held_out]
        tested: Rows = np.arange(other.n_testable)
        also = np.isin(part.keys[questions], other.keys[tested])
        kind = "training" if name == TRAIN else name
        self.counts[f"{kind}_pairs_also_in_{held_out}_part"] += part.n_rows(questions[also])
        questions = questions[~also]
        like = np.zeros(len(questions), np.bool_)
        for start in range(0, len(tested), HELD_OUT_AT_ONCE):
            index = other.index(tested[start : start + HELD_OUT_AT_ONCE], self._rules.near_duplicate_threshold)
            like[~like] = part.near(questions[~like], index)
        self._count_near(name, questions[like], held_out)
        return questions[~like]

    def _count_near(self, name: str, questions: Rows, held_out: str) -> None:
        part = self._parts[name]
        if name == TRAIN:
            self.counts["training_questions_near_duplicates"] += len(questions)
            self.counts[f"training_pairs_near_duplicates_of_{held_out}"] += part.n_rows(questions)
        else:
            self.counts["validation_questions_near_duplicates_of_test"] += len(questions)
            self.counts["validation_pairs_near_duplicates_of_test"] += part.n_rows(questions)


def _none_left(name: str, n: int) -> Fault:
    also = " or is in the test part too, or nearly repeats one there" if name == VALIDATION else ""
    return Fault(
        "part-empty",
        f"each of the {n:,} questions of the {name} part is a common opening alone (corpus.identified_by){also}",
        key="corpus.parts",
        hint=f"Take the {name} files away, so that {name} questions are held out from the training part, or give "
        "corpus.parts=ignore, which divides everything anew.",
    )


def _too_small(name: str, size: int, left: int, questions: int) -> Fault:
    return Fault(
        "corpus-too-small",
        f"after scaling, {size:,} questions are held out from the training part, since no file is named {name}; of its "
        f"{questions:,} questions {left:,} are left, and some must be left to train on",
        key=f"data.{name}_size",
        got=size,
        hint=f"Give a smaller data.{name}_size=, a smaller data.scale=, or a file named {name}.",
    )


def say_kept(corpus: str, parts: Mapping[str, Sequence[str]], counts: Mapping[str, int], rules: SplitRules) -> None:
    """Log which files are which part, which parts are taken whole, and what was left out because of another part.

    Args:
        corpus: Name of the corpus.
        parts: Names of the files of each part.
        counts: Counts of the preparation.
        rules: The sizes asked for.
    """
    files = "; ".join(f"{part}: {_some(names)}" for part, names in parts.items())
    missing = "".join(f"; {part}: held out from train" for part in PARTS if part not in parts)
    logger.info("%s keeps its published parts (%s%s)", corpus, files, missing)
    for part, size in ((TEST, rules.test_size), (VALIDATION, rules.validation_size)):
        there = counts[f"{part}_part_questions"] if part in parts else size
        if there < size:
            said = "The %s part has %s questions, fewer than data.%s_size=%s: all are taken"
            logger.info(said, part, f"{there:,}", part, f"{size:,}")
    leaks = [
        f"{name.replace('_', ' ')} {n:,}"
        for name, n in counts.items()
        if n
        for part in (TEST, VALIDATION)
        if part in parts and name.endswith((f"_pairs_also_in_{part}_part", f"_pairs_near_duplicates_of_{part}"))
    ]
    if leaks:
        logger.warning(
            "Parts of %s overlap, and what repeats a held-out part is left out: %s", corpus, ", ".join(leaks)
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
