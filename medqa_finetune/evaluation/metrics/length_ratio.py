"""How long predictions are relative to references: characters of all of them over those of all references."""

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


class LengthRatio(Metric):
    """Ratio in [0, ∞), 1 where predictions are as long as references; absent where the references are empty."""

    scores = (
        ScoreInfo(
            "length_ratio",
            Better.NEITHER,
            words={
                "en": ScoreWords("Length ratio", "Length relative to the references", "length ratio"),
                "zh": ScoreWords("长度比", "与参考答案的长度比"),
            },
            prominence=Prominence.DETAIL,
        ),
    )

    def signature(self, name: str, predictions: Sequence[Prediction]) -> str:
        """Return what is counted, and over what the ratio is."""
        return "length_ratio|reference:first|tokens:chars|ratio:corpus"

    def items(self, predictions: Sequence[Prediction]) -> list[Item]:
        """Return the characters of prediction and first reference, white space not counted, per prediction."""
        return [
            {
                "length_ratio.prediction": len(characters(prediction.prediction)),
                "length_ratio.reference": len(characters(prediction.references[0])),
            }
            for prediction in predictions
        ]

    def corpus(self, predictions: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the ratio of the sums."""
        wanted = sum(item["length_ratio.reference"] for item in items)
        if not wanted:
            return {}
        value = sum(item["length_ratio.prediction"] for item in items) / wanted
        return {"length_ratio": Score(value, self.signature("length_ratio", predictions))}


METRIC = LengthRatio()
