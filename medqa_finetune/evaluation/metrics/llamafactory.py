"""The four scores that LLaMA-Factory prints, computed as it does, so that its figures can be compared with ours.

Formulas from its `src/llamafactory/train/sft/metric.py` (commit ff6d4d1), rouge-chinese 1.0.3 and nltk 3.10: texts are
cut into words by jieba; ROUGE-1 and ROUGE-2 compare *sets* of n-grams, so a word said ten times counts once; ROUGE-L is
one longest common subsequence; BLEU is over the characters of each prediction, spaces included, with nltk's smoothing
method 3. Every prediction's figure is rounded to four digits before the mean, as there. An empty prediction scores 0.
"""

import itertools
import math
import re
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

from rapidfuzz.distance import LCSseq

from medqa_finetune.evaluation.metrics.base import Item, Metric, Prominence, ScoreInfo, ScoreWords
from medqa_finetune.evaluation.metrics.char_bleu import ORDERS, brevity_penalty, shared_ngrams
from medqa_finetune.evaluation.predictions import Prediction

JIEBA_VERSION = "0.42.1"
# rouge-chinese adds this to the sum of precision and recall.
EPSILON = 1e-8
# Where rouge-chinese begins a new line, in this order. Lines are joined again, so that all this changes is that a run
# of more than six dots is cut in two, and that a line of spaces counts as one empty word.
SENTENCE_ENDS = (
    (re.compile(r"([。！？?])([^”’])"), r"\1\n\2"),
    (re.compile(r"(\.{6})([^”’])"), r"\1\n\2"),
    (re.compile(r"(…{2})([^”’])"), r"\1\n\2"),
    (re.compile(r"([。！？?][”’])([^，。！？?])"), r"\1\n\2"),
)


class LlamaFactory(Metric):
    """Four figures in [0, 100]; the mean over predictions; absent where one has several references."""

    scores = tuple(
        ScoreInfo(
            f"lf_{name.replace('-', '')}",
            high=100.0,
            words={
                "en": ScoreWords(f"LLaMA-Factory {name}", f"{name} as LLaMA-Factory computes it"),
                "zh": ScoreWords(f"LLaMA-Factory {name}", f"{name}（LLaMA-Factory 算法）"),
            },
            prominence=Prominence.DETAIL,
        )
        for name in ("rouge-1", "rouge-2", "rouge-l", "bleu-4")
    )

    def signature(self, name: str, predictions: Sequence[Prediction]) -> str:
        """Return how the score `name` of these predictions is computed."""
        if name == "lf_bleu4":
            return f"{name}|nrefs:1|tokens:chars+spaces|case:mixed|smooth:nltk3|round:4|mean:items|empty:0"
        counted = "lcs" if name == "lf_rougel" else "ngram-sets"
        return f"{name}|nrefs:1|tokens:jieba-{JIEBA_VERSION}|case:mixed|f1|{counted}|round:4|mean:items|empty:0"

    def items(self, predictions: Sequence[Prediction]) -> list[Item]:
        """Return the four columns per prediction; none for one with several references."""
        return [_scored(prediction) if len(prediction.references) == 1 else {} for prediction in predictions]


def _scored(prediction: Prediction) -> Item:
    said, reference = prediction.prediction, prediction.references[0]
    figures = (*_rouge(said, reference), _bleu(said, reference))
    return {name: round(100 * figure, 4) for name, figure in zip(METRIC.names, figures, strict=True)}


def _rouge(prediction: str, reference: str) -> tuple[float, float, float]:
    said, wanted = _words(prediction), _words(reference)
    numbers: dict[str, int] = {}
    sequences = [[numbers.setdefault(word, len(numbers)) for word in words] for words in (said, wanted)]
    return (
        _f1(len(set(said) & set(wanted)), len(set(said)), len(set(wanted))),
        _f1(len(_pairs(said) & _pairs(wanted)), len(_pairs(said)), len(_pairs(wanted))),
        _f1(LCSseq.similarity(*sequences), len(said), len(wanted)),
    )


def _f1(shared: int, in_prediction: int, in_reference: int) -> float:
    if not shared:
        return 0.0
    precision, recall = shared / in_prediction, shared / in_reference
    return 2 * (precision * recall) / (precision + recall + EPSILON)


def _pairs(words: Sequence[str]) -> set[tuple[str, str]]:
    return set(itertools.pairwise(words))


def _words(text: str) -> list[str]:
    lines = " ".join(_jieba().cut(text))
    for pattern, replacement in SENTENCE_ENDS:
        lines = pattern.sub(replacement, lines)
    # A line of spaces gives one empty word, as there.
    return [word for line in lines.rstrip().split("\n") if line for word in (line.split() or [""])]


def _bleu(prediction: str, reference: str) -> float:
    logs, zeros = [], 0
    for order in ORDERS:
        shared, every = shared_ngrams(prediction, (reference,), order), max(1, len(prediction) - order + 1)
        if not shared and order == 1:
            return 0.0
        zeros += not shared
        logs.append(math.log(shared / every if shared else 1 / (2**zeros * every)))
    return brevity_penalty(len(prediction), len(reference)) * math.exp(math.fsum(log / len(ORDERS) for log in logs))


@cache
def _jieba() -> Any:
    """Return jieba with its own dictionary: no words that others added, and no cache file in a shared folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pkg_resources, and of escapes in its source
        import jieba

        if jieba.__version__ != JIEBA_VERSION:
            raise AssertionError(f"jieba {jieba.__version__} is installed; it must be {JIEBA_VERSION}")
        tokenizer = _faster(jieba.Tokenizer)()
        with tokenizer.get_dict_file() as file:
            tokenizer.FREQ, tokenizer.total = jieba.Tokenizer.gen_pfdict(file)
    tokenizer.initialized = True
    total = math.log(tokenizer.total)
    tokenizer.weights = {word: math.log(count) - total for word, count in tokenizer.FREQ.items() if count}
    tokenizer.least = math.log(1) - total
    return tokenizer


def _faster(base: Any) -> Any:
    """Return jieba's tokenizer with the logarithms of its dictionary taken once: the same sums, a third less time."""

    class Tokenizer(base):  # type: ignore[misc]
        def calc(self, sentence: str, dag: dict[int, list[int]], route: dict[int, tuple[float, int]]) -> None:
            weights, least = self.weights, self.least
            route[len(sentence)] = (0, 0)
            for start in range(len(sentence) - 1, -1, -1):
                best, end = -math.inf, start
                for last in dag[start]:
                    value = weights.get(sentence[start : last + 1], least) + route[last + 1][0]
                    if value >= best:  # of equal ones the longest, as jieba takes it
                        best, end = value, last
                route[start] = (best, end)

    return Tokenizer


METRIC = LlamaFactory()
