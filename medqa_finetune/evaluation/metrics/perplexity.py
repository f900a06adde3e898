"""Perplexity of the reference answers under the model: exp(summed negative log-likelihood / number of tokens).

Jelinek et al. 1977. It depends on the tokenizer, so models with different tokenizers do not compare.
"""

import math
from collections.abc import Sequence

import numpy as np

from medqa_finetune.errors import DataError, Fault
from medqa_finetune.evaluation.metrics.base import (
    Aggregate,
    Array,
    Better,
    Item,
    Metric,
    Prominence,
    ScoreInfo,
    ScoreWords,
)
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score

COUNTS = ("nll", "tokens")


def perplexity(sums: Array, n: int) -> Array:
    """Return exp(negative log-likelihood / tokens), so that a resampled item weighs as much as it has tokens.

    Args:
        sums: Shape (…, 2), in the order of `COUNTS`.
        n: Not needed.
    """
    return np.asarray(np.exp(sums[..., 0] / sums[..., 1]))


class Perplexity(Metric):
    """Perplexity in [1, ∞) over the tokens of all first references together; that of running text is described too."""

    scores = (
        ScoreInfo(
            "perplexity",
            Better.LOWER,
            low=1.0,
            words={
                "en": ScoreWords("Perplexity", "Perplexity of the reference answers", "perplexity", "ppl"),
                "zh": ScoreWords("困惑度", "参考答案的困惑度"),
            },
            aggregate=Aggregate(COUNTS, perplexity),
            per_tokenizer=True,
        ),
        ScoreInfo(
            "text_perplexity",
            Better.LOWER,
            low=1.0,
            words={
                "en": ScoreWords("Text perplexity", "Perplexity of running text", "text perplexity", "text ppl"),
                "zh": ScoreWords("文本困惑度", "文本的困惑度"),
            },
            prominence=Prominence.HEADLINE,
            aggregate=Aggregate(COUNTS, perplexity),
            per_tokenizer=True,
            running_text=True,
            recorded_as="perplexity",
        ),
    )
    needs = ("reference_nll", "reference_tokens")

    def signature(self, name: str, predictions: Sequence[Prediction]) -> str:
        """Return what the likelihood is of, and that the mean is over tokens."""
        return "perplexity|reference:first|tokens:answer+end|mean:token"

    def items(self, predictions: Sequence[Prediction]) -> list[Item]:
        """Return the counts `perplexity.nll` (nats) and `perplexity.tokens` per prediction."""
        return [
            {"perplexity.nll": prediction.reference_nll or 0.0, "perplexity.tokens": prediction.reference_tokens or 0}
            for prediction in predictions
        ]

    def corpus(self, predictions: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the perplexity.

        Raises:
            DataError: it is too large for a number.
        """
        mean = sum(item["perplexity.nll"] for item in items) / sum(item["perplexity.tokens"] for item in items)
        try:
            value = math.exp(mean)
        except OverflowError:
            problem = "must be at most 709 nats a token on average, or the perplexity is too large for a number"
            raise DataError(Fault("out-of-range", problem, key="reference_nll", got=mean)) from None
        return {"perplexity": Score(value, self.signature("perplexity", predictions))}


METRIC = Perplexity()
