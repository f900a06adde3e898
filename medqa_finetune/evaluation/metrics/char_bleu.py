"""Corpus BLEU-1 to BLEU-4 over characters, without smoothing (Papineni et al. 2002, https://aclanthology.org/P02-1040/).

What nltk's `corpus_bleu` gives for characters, as Chinese papers print it; as there, a prediction too short for
an n-gram counts as one wrong n-gram. Published figures seldom say how they were tokenized; these need not be the same.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from medqa_finetune.evaluation.metrics.base import (
    Item,
    Metric,
    Prominence,
    ScoreInfo,
    ScoreWords,
    characters,
    reference_count,
)
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score

ORDERS = (1, 2, 3, 4)
LENGTHS = ("char_bleu.sys_len", "char_bleu.ref_len")


class CharBleu(Metric):
    """BLEU in [0, 100]; 0 where no n-gram of an order is shared."""

    scores = tuple(
        ScoreInfo(
            f"char_bleu{order}",
            high=100.0,
            words={
                "en": ScoreWords(f"Char BLEU-{order}", in_sentence=f"char BLEU-{order}"),
                "zh": ScoreWords(f"字 BLEU-{order}"),
            },
            prominence=Prominence.DETAIL,
        )
        for order in ORDERS
    )

    def signature(self, name: str, predictions: Sequence[Prediction]) -> str:
        """Return how the score `name` of these predictions is computed."""
        references = reference_count(predictions) or "var"
        return f"{name}|nrefs:{references}|tokens:chars|case:mixed|smooth:none|short:one miss|weights:equal|mean:corpus"

    def items(self, predictions: Sequence[Prediction]) -> list[Item]:
        """Return counts per prediction: characters of prediction and nearest reference, n-grams shared and in all."""
        return [_counted(prediction) for prediction in predictions]

    def corpus(self, predictions: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the four scores from the summed counts."""
        totals = {name: sum(item[name] for item in items) for name in items[0]}
        shared = [totals[f"char_bleu.correct{order}"] for order in ORDERS]
        every = [totals[f"char_bleu.total{order}"] for order in ORDERS]
        penalty = brevity_penalty(*(totals[name] for name in LENGTHS))
        return {
            name: Score(
                100 * penalty * _mean_precision(shared[:order], every[:order]), self.signature(name, predictions)
            )
            for name, order in zip(self.names, ORDERS, strict=True)
        }


def ngrams(text: str, order: int) -> Counter[str]:
    """Return how often each sequence of `order` characters occurs."""
    return Counter([text[start : start + order] for start in range(len(text) - order + 1)])


@lru_cache(maxsize=2**14)
def shared_ngrams(prediction: str, references: tuple[str, ...], order: int) -> int:
    """Return how many n-grams of the prediction are in a reference, each counted as often as one reference has it.

    Kept, since two metrics count the same of texts without spaces.
    """
    found = ngrams(prediction, order)
    most: Counter[str] = Counter()
    for reference in references:
        there = ngrams(reference, order)
        most = most | there if most else there
    return sum(min(count, most[ngram]) for ngram, count in found.items() if ngram in most)


def brevity_penalty(predicted: float, wanted: float) -> float:
    """Return the brevity penalty: 1 for predictions as long as the references, e^(1 - r/c) for shorter ones."""
    if predicted >= wanted:
        return 1.0
    return math.exp(1 - wanted / predicted) if predicted else 0.0


def _counted(prediction: Prediction) -> Item:
    said, references = characters(prediction.prediction), tuple(map(characters, prediction.references))
    size = len(said)
    # The nearest length counts, of two equally near ones the shorter.
    nearest = min((len(reference) for reference in references), key=lambda length: (abs(length - size), length))
    counts: Item = dict(zip(LENGTHS, (size, nearest), strict=True))
    counts |= {f"char_bleu.correct{order}": shared_ngrams(said, references, order) for order in ORDERS}
    return counts | {f"char_bleu.total{order}": max(1, size - order + 1) for order in ORDERS}


def _mean_precision(shared: Sequence[float], every: Sequence[float]) -> float:
    """Return the geometric mean of the precisions."""
    if not all(shared):
        return 0.0
    return math.exp(sum(math.log(s / e) for s, e in zip(shared, every, strict=True)) / len(shared))


METRIC = CharBleu()
