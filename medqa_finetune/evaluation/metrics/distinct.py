"""Distinct-2 (Li et al. 2016, https://aclanthology.org/N16-1014/): how much the answers repeat each other.

Different bigrams of characters over all bigrams, in all answers together; no bigram crosses from one to the next. It
falls as there are more answers, so it compares at equal n only.
"""

from collections.abc import Sequence

from medqa_finetune.evaluation.metrics.base import Item, Metric, characters
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score


class Distinct(Metric):
    """Share in (0, 1]; absent where no answer has two characters."""

    names = ("distinct2",)

    def signature(self, name: str, answers: Sequence[Prediction]) -> str:
        """Return what is counted, and over how many answers."""
        return f"distinct2|tokens:chars|over:all answers|answers:{len(answers)}"

    def items(self, answers: Sequence[Prediction]) -> list[Item]:
        """Return nothing per answer: what is distinct among all answers is no sum over them."""
        return [{} for _ in answers]

    def corpus(self, answers: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the share over all answers together."""
        every, different = 0, set[str]()
        for answer in answers:
            text = characters(answer.prediction)
            bigrams = [text[start : start + 2] for start in range(len(text) - 1)]
            every += len(bigrams)
            different.update(bigrams)
        return {"distinct2": Score(len(different) / every, self.signature("distinct2", answers))} if every else {}


METRIC = Distinct()
