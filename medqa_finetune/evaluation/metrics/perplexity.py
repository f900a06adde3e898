"""Perplexity of the reference answers under the model: exp(summed negative log-likelihood / number of tokens).

Jelinek et al. 1977. It depends on the tokenizer, so models with different tokenizers do not compare.
"""

import math
from collections.abc import Sequence

from medqa_finetune.errors import DataError, Fault
from medqa_finetune.evaluation.metrics.base import Item, Metric
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score


class Perplexity(Metric):
    """Perplexity in [1, ∞) over the tokens of all first references together; absent where none was measured."""

    names = ("perplexity",)

    def signature(self, name: str, answers: Sequence[Prediction]) -> str:
        """Return what the likelihood is of, and that the mean is over tokens."""
        return "perplexity|reference:first|tokens:answer+end|mean:token"

    def items(self, answers: Sequence[Prediction]) -> list[Item]:
        """Return the counts `perplexity.nll` (nats) and `perplexity.tokens` per answer; none for one without them."""
        return [
            {}
            if answer.reference_nll is None or answer.reference_tokens is None
            else {"perplexity.nll": answer.reference_nll, "perplexity.tokens": answer.reference_tokens}
            for answer in answers
        ]

    def corpus(self, answers: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the perplexity, or nothing where no answer has a likelihood.

        Raises:
            DataError: some answers have one and some have not, or the perplexity is too large for a number.
        """
        measured = [item for item in items if item]
        if not measured:
            return {}
        if len(measured) != len(answers):
            first = next(answer.id for answer, item in zip(answers, items, strict=True) if not item)
            raise DataError(Fault(
                "missing-key",
                f"{len(measured)} of {len(answers)} answers have it (not {first[:60]!r}), and a perplexity over a part "
                "is of another test set",
                key="reference_nll", hint="Give it for all answers, or for none.",
            ))  # fmt: skip
        mean = sum(item["perplexity.nll"] for item in measured) / sum(item["perplexity.tokens"] for item in measured)
        try:
            value = math.exp(mean)
        except OverflowError:
            problem = "must be at most 709 nats a token on average, or the perplexity is too large for a number"
            raise DataError(Fault("out-of-range", problem, key="reference_nll", got=mean)) from None
        return {"perplexity": Score(value, self.signature("perplexity", answers))}


METRIC = Perplexity()
