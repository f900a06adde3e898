"""Distinct-2 (Li et al. 2016, https://aclanthology.org/N16-1014/): how little predictions repeat each other.

Different bigrams of characters over all bigrams, in all predictions together; no bigram crosses from one to the next.
It falls as there are more predictions, so it compares at equal n only.
"""

from collections.abc import Sequence

from medqa_finetune.evaluation.metrics.base import (
    Better,
    Item,
    Metric,
    Prominence,
    ScoreInfo,
    ScoreWords,
    characters,
)
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score


class Distinct(Metric):
    """Share in (0, 1]; absent where no prediction has two characters."""

    scores = (
        ScoreInfo(
            "distinct2",
            Better.NEITHER,
            high=1.0,
            words={
                "en": ScoreWords("Distinct-2", "Share of distinct bigrams", "distinct-2"),
                "zh": ScoreWords("Distinct-2", "不重复二元组的占比"),
            },
            prominence=Prominence.DETAIL,
        ),
    )

    def signature(self, name: str, predictions: Sequence[Prediction]) -> str:
        """Return what is counted, and over how many predictions."""
        return f"distinct2|tokens:chars|over:all answers|answers:{len(predictions)}"

    def items(self, predictions: Sequence[Prediction]) -> list[Item]:
        """Return nothing per prediction: what is distinct among all of them is no sum over them."""
        return [{} for _ in predictions]

    def corpus(self, predictions: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the share over all predictions together."""
        every, different = 0, set[str]()
        for prediction in predictions:
            text = characters(prediction.prediction)
            bigrams = [text[start : start + 2] for start in range(len(text) - 1)]
            every += len(bigrams)
            different.update(bigrams)
        return {"distinct2": Score(len(different) / every, self.signature("distinct2", predictions))} if every else {}


METRIC = Distinct()
