"""BLEU as sacrebleu computes it for Chinese (Papineni et al. 2002; Post 2018, https://aclanthology.org/W18-6319/).

The score is corpus BLEU with `tokenize="zh"`, the rest default, and carries sacrebleu's own signature. Per answer it is
sentence BLEU (effective order), whose mean is `sentence_bleu`, another figure: on one set it lay ten points apart.
"""

from collections.abc import Sequence
from typing import Any

from sacrebleu import BLEU

from medqa_finetune.evaluation.metrics.base import Item, Metric
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score

# sacrebleu's defaults, named here since the sum of the counts is scored by a call that has others, and since the
# columns of stored items are made of them.
ORDERS, SMOOTHING = 4, "exp"
# What sacrebleu counts per item: tokens of the prediction and of the nearest reference, n-grams that the two share,
# n-grams of the prediction.
COUNTS = (
    "bleu.sys_len",
    "bleu.ref_len",
    *(f"bleu.correct{order}" for order in range(1, ORDERS + 1)),
    *(f"bleu.total{order}" for order in range(1, ORDERS + 1)),
)


class Bleu(Metric):
    """BLEU in [0, 100]."""

    names = ("bleu", "sentence_bleu")

    def signature(self, name: str, answers: Sequence[Prediction]) -> str:
        """Return sacrebleu's signature, its version included."""
        bleu = _sacrebleu(effective_order=name == "sentence_bleu")
        # sacrebleu counts the references of what it scores; empty texts in their place cost nothing.
        streams: Any = [[None if text is None else "" for text in stream] for stream in reference_streams(answers)]
        bleu.corpus_score([""] * len(answers), streams)
        return f"{bleu.get_signature()}" + ("|mean:items" if name == "sentence_bleu" else "")

    def items(self, answers: Sequence[Prediction]) -> list[Item]:
        """Return the columns `bleu` and `sentence_bleu` (both sentence BLEU) and sacrebleu's counts per answer.

        One call gives both, so that the texts are cut into tokens and n-grams once.
        """
        bleu = _sacrebleu(effective_order=True)
        scored = [bleu.sentence_score(answer.prediction, answer.references) for answer in answers]
        return [
            {
                "bleu": score.score,
                "sentence_bleu": score.score,
                **dict(zip(COUNTS, (score.sys_len, score.ref_len, *score.counts, *score.totals), strict=True)),
            }
            for score in scored
        ]

    def corpus(self, answers: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return corpus BLEU from the summed counts, and the mean of the answers' sentence BLEU."""
        sys_len, ref_len, *ngrams = [int(sum(item[name] for item in items)) for name in COUNTS]
        corpus = BLEU.compute_bleu(
            ngrams[:ORDERS], ngrams[ORDERS:], sys_len, ref_len, smooth_method=SMOOTHING, max_ngram_order=ORDERS
        )
        mean = sum(item["sentence_bleu"] for item in items) / len(items)
        return {
            "bleu": Score(corpus.score, self.signature("bleu", answers)),
            "sentence_bleu": Score(mean, self.signature("sentence_bleu", answers)),
        }


def reference_streams(answers: Sequence[Prediction]) -> Any:
    """Return the references as sacrebleu's corpus calls take them: k lists of n, k the most that an answer has.

    None fills the places of an answer that has fewer (sacrebleu's README, "Variable Number of References").
    """
    most = max(len(answer.references) for answer in answers)
    return [[(*answer.references, *[None] * most)[place] for answer in answers] for place in range(most)]


def _sacrebleu(effective_order: bool) -> BLEU:
    # force silences a warning about texts that look tokenized; it is not part of the score.
    return BLEU(
        tokenize="zh", smooth_method=SMOOTHING, max_ngram_order=ORDERS, effective_order=effective_order, force=True
    )


METRIC = Bleu()
