"""Special tokens left in predictions: a sign that these were cut, or prompts built, in the wrong place.

Counted are marks that chat templates and tokenizers use to steer a model and that no reader should see:
`<|im_end|>` and its like (also full-width), `<s>`, `</s>`, `<unk>`, `<pad>`, `<bos>`, `<eos>`, `<mask>`, `[PAD]`,
`[UNK]`, `[CLS]`, `[SEP]`, `[MASK]`, `[INST]`, `<<SYS>>`, `<start_of_turn>`, `<end_of_turn>`, `<think>` and their ends.
"""

import re
from collections.abc import Sequence

from medqa_finetune.evaluation.metrics.base import Better, Item, Metric, Prominence, ScoreInfo, ScoreWords
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score

LIST_VERSION = 1
SPECIAL_TOKEN = re.compile(
    r"<[|｜][^<>|｜\s]{1,60}[|｜]>|</?(?:s|unk|pad|bos|eos|mask|think)>|<(?:start|end)_of_turn>|<</?SYS>>"
    r"|\[/?INST\]|\[(?:PAD|UNK|CLS|SEP|MASK)\]"
)


class SpecialTokens(Metric):
    """Number of special tokens in all predictions together, an integer ≥ 0."""

    scores = (
        ScoreInfo(
            "leaked_tokens",
            Better.LOWER,
            words={
                "en": ScoreWords("Leaked special tokens", "Special tokens in answers", "leaked special tokens"),
                "zh": ScoreWords("泄漏的特殊词元", "回答中的特殊词元数"),
            },
            prominence=Prominence.DETAIL,
        ),
    )

    def signature(self, name: str, predictions: Sequence[Prediction]) -> str:
        """Return which list of tokens is counted, and over how many predictions."""
        return f"leaked_tokens|list:{LIST_VERSION}|sum:answers|answers:{len(predictions)}"

    def items(self, predictions: Sequence[Prediction]) -> list[Item]:
        """Return the count `leaked_tokens.tokens` per prediction."""
        return [
            {"leaked_tokens.tokens": len(SPECIAL_TOKEN.findall(prediction.prediction))} for prediction in predictions
        ]

    def corpus(self, predictions: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the sum."""
        value = sum(item["leaked_tokens.tokens"] for item in items)
        return {"leaked_tokens": Score(float(value), self.signature("leaked_tokens", predictions))}


METRIC = SpecialTokens()
