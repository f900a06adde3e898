"""BLEU as sacrebleu computes it for Chinese (Papineni et al. 2002; Post 2018, https://aclanthology.org/W18-6319/).

The score is corpus BLEU with `tokenize="zh"`, the rest default, and carries sacrebleu's own signature. Of a
single prediction it is sentence BLEU (effective order), whose mean is `sentence_bleu`, another figure: on one set the
two lay ten points apart.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from medqa_finetune.evaluation.metrics.base import (
    Aggregate,
    Array,
    Item,
    Metric,
    Prominence,
    ScoreInfo,
    ScoreWords,
)
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score

if TYPE_CHECKING:
    from sacrebleu import BLEU

# sacrebleu's defaults, named here since the sum of the counts is scored by a call that has others, and since the
# columns of stored items are made of them.
ORDERS, SMOOTHING = 4, "exp"
# What sacrebleu counts per item: tokens of the prediction and of the nearest reference, n-grams that the two share,
# n-grams of the prediction.
COUNTS = (
    "sys_len",
    "ref_len",
    *(f"correct{order}" for order in range(1, ORDERS + 1)),
    *(f"total{order}" for order in range(1, ORDERS + 1)),
)


def corpus_bleu(sums: Array, n: int) -> Array:
    """Return corpus BLEU in [0, 100] as sacrebleu computes it from its counts (smoothing `exp`), many at once.

    Args:
        sums: Shape (…, 10), in the order of `COUNTS`.
        n: Not needed.
    """
    system, reference = sums[..., 0], sums[..., 1]
    # Order by order, since numpy is slow along an axis of four.
    logs, weight = np.zeros(system.shape), np.ones(system.shape)
    matched, whole = np.zeros(system.shape, dtype=bool), np.ones(system.shape, dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        for order in range(ORDERS):
            correct, total = sums[..., 2 + order], sums[..., 2 + ORDERS + order]
            missing = correct == 0
            # An order without a match counts as half a match, the next such as a quarter, and so on.
            weight = np.where(missing, weight / 2, weight)
            logs += np.log(np.where(missing, weight, correct) / total)
            matched |= ~missing
            whole &= total > 0
        brevity = np.where(system < reference, 1 - reference / system, 0.0)
        return np.where(matched & whole, 100 * np.exp(brevity + logs / ORDERS), 0.0)


class Bleu(Metric):
    """BLEU in [0, 100]."""

    scores = (
        ScoreInfo(
            "bleu",
            high=100.0,
            words={
                "en": ScoreWords("BLEU", "Corpus BLEU (sacrebleu zh)"),
                "zh": ScoreWords("BLEU", "语料级 BLEU（sacrebleu zh）"),
            },
            prominence=Prominence.HEADLINE,
            aggregate=Aggregate(COUNTS, corpus_bleu),
        ),
        ScoreInfo(
            "sentence_bleu",
            high=100.0,
            words={
                "en": ScoreWords("Sentence BLEU", "Mean sentence BLEU (sacrebleu zh)", "sentence BLEU"),
                "zh": ScoreWords("句级 BLEU", "句级 BLEU 均值（sacrebleu zh）"),
            },
            prominence=Prominence.DETAIL,
        ),
    )

    def signature(self, name: str, predictions: Sequence[Prediction]) -> str:
        """Return sacrebleu's signature, its version included."""
        bleu = _sacrebleu(effective_order=name == "sentence_bleu")
        # sacrebleu counts the references of what it scores; empty texts in their place cost nothing.
        streams = [[None if text is None else "" for text in stream] for stream in reference_streams(predictions)]
        bleu.corpus_score([""] * len(predictions), streams)
        return f"{bleu.get_signature()}" + ("|mean:items" if name == "sentence_bleu" else "")

    def items(self, predictions: Sequence[Prediction]) -> list[Item]:
        """Return the columns `bleu` and `sentence_bleu` (both sentence BLEU) and sacrebleu's counts per prediction.

        One call gives both, so that the texts are cut into tokens and n-grams once.
        """
        bleu, names = _sacrebleu(effective_order=True), [f"bleu.{count}" for count in COUNTS]
        scored = [bleu.sentence_score(prediction.prediction, prediction.references) for prediction in predictions]
        return [
            {
                "bleu": score.score,
                "sentence_bleu": score.score,
                **dict(zip(names, (score.sys_len, score.ref_len, *score.counts, *score.totals), strict=True)),
            }
            for score in scored
        ]

    def corpus(self, predictions: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return corpus BLEU from the summed counts, and the mean of the predictions' sentence BLEU."""
        sys_len, ref_len, *ngrams = [int(sum(item[f"bleu.{count}"] for item in items)) for count in COUNTS]
        from sacrebleu import BLEU

        corpus = BLEU.compute_bleu(
            ngrams[:ORDERS], ngrams[ORDERS:], sys_len, ref_len, smooth_method=SMOOTHING, max_ngram_order=ORDERS
        )
        mean = sum(item["sentence_bleu"] for item in items) / len(items)
        return {
            "bleu": Score(corpus.score, self.signature("bleu", predictions)),
            "sentence_bleu": Score(mean, self.signature("sentence_bleu", predictions)),
        }


def reference_streams(predictions: Sequence[Prediction]) -> list[list[str]]:
    """Return the references as sacrebleu's corpus calls take them: k lists of n, k the most that a prediction has.

    None fills the places of a prediction that has fewer (sacrebleu's README, "Variable Number of References").
    """
    most = max(len(prediction.references) for prediction in predictions)
    rows = [(*prediction.references, *[None] * (most - len(prediction.references))) for prediction in predictions]
    # sacrebleu takes None, which its annotation does not say.
    return cast("list[list[str]]", [list(stream) for stream in zip(*rows, strict=True)])


def _sacrebleu(effective_order: bool) -> "BLEU":
    from sacrebleu import BLEU

    return BLEU(tokenize="zh", smooth_method=SMOOTHING, max_ngram_order=ORDERS, effective_order=effective_order)


METRIC = Bleu()
