"""How long the answers are beside the references: characters of all answers over characters of all references."""

from collections.abc import Sequence

from medqa_finetune.evaluation.metrics.base import Item, Metric, characters
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score


class LengthRatio(Metric):
    """Ratio in [0, ∞), 1 where answers are as long as references; absent where the references are empty."""

    names = ("length_ratio",)

    def signature(self, name: str, answers: Sequence[Prediction]) -> str:
        """Return what is counted, and over what the ratio is."""
        return "length_ratio|reference:first|tokens:chars|ratio:corpus"

    def items(self, answers: Sequence[Prediction]) -> list[Item]:
        """Return the characters of the prediction and of the first reference, white space not counted, per answer."""
        return [
            {
                "length_ratio.prediction": len(characters(answer.prediction)),
                "length_ratio.reference": len(characters(answer.references[0])),
            }
            for answer in answers
        ]

    def corpus(self, answers: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the ratio of the sums."""
        wanted = sum(item["length_ratio.reference"] for item in items)
        if not wanted:
            return {}
        value = sum(item["length_ratio.prediction"] for item in items) / wanted
        return {"length_ratio": Score(value, self.signature("length_ratio", answers))}


METRIC = LengthRatio()
