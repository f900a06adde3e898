"""Character ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004, https://aclanthology.org/W04-1013/).

All three are as the package rouge-score defines them, with a tokenizer that makes a token of every code point but white
space: case kept, no normalisation. Its own tokenizer drops Chinese altogether. ROUGE-1 and ROUGE-2 are computed by it;
lengths of longest common subsequences come from rapidfuzz, which is some hundred times faster (the tests hold both to
each other).
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from rapidfuzz.distance import LCSseq

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

BY_NGRAMS = ("rouge1", "rouge2")


def _info(name: str, title: str, prominence: Prominence) -> ScoreInfo:
    words = {"en": ScoreWords(title, f"{title} F1 (characters)"), "zh": ScoreWords(title, f"{title} F1（按字）")}
    return ScoreInfo(name, high=100.0, words=words, prominence=prominence)


class Rouge(Metric):
    """F1 times 100 per prediction, in [0, 100]; the best reference counts, per kind; the score is the mean."""

    scores = (
        _info("rouge1", "ROUGE-1", Prominence.MAIN),
        _info("rouge2", "ROUGE-2", Prominence.MAIN),
        _info("rougeL", "ROUGE-L", Prominence.HEADLINE),
    )

    def signature(self, name: str, predictions: Sequence[Prediction]) -> str:
        """Return how the score `name` of these predictions is computed."""
        references = reference_count(predictions) or "var"
        return f"{name}|nrefs:{references}|tokens:chars|case:mixed|f1|mean:items|refs:best|empty:0"

    def items(self, predictions: Sequence[Prediction]) -> list[Item]:
        """Return the columns `rouge1`, `rouge2` and `rougeL`, each in [0, 100], per prediction."""
        return [_best(prediction.prediction, prediction.references) for prediction in predictions]


def _best(prediction: str, references: Sequence[str]) -> Item:
    by_ngrams = _scorer().score_multi(references, prediction)
    said = characters(prediction)
    by_subsequence = max(_rouge_l(said, characters(reference)) for reference in references)
    return {name: 100.0 * float(by_ngrams[name].fmeasure) for name in BY_NGRAMS} | {"rougeL": by_subsequence}


def _rouge_l(prediction: str, reference: str) -> float:
    """Return 100 · 2PR / (P + R), P and R being the longest common subsequence over each length; 0 if it is empty."""
    longest = LCSseq.similarity(prediction, reference)
    return 200.0 * longest / (len(prediction) + len(reference)) if longest else 0.0


class _Characters:
    """The tokenizer that rouge-score is given."""

    def tokenize(self, text: str) -> list[str]:
        return list(characters(text))


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # loads nltk

    return RougeScorer(list(BY_NGRAMS), tokenizer=_Characters())


METRIC = Rouge()
