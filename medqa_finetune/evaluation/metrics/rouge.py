"""Character ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004, https://aclanthology.org/W04-1013/).

The definition is that of the package rouge-score with a tokenizer that makes a token of every code point but white
space: case kept, no normalisation. Its own tokenizer drops Chinese altogether. Lengths of longest common subsequences
come from rapidfuzz, which is some hundred times faster; the tests hold both to each other.
"""

from collections import Counter
from collections.abc import Sequence

from rapidfuzz.distance import LCSseq

from medqa_finetune.evaluation.metrics.base import Item, Metric, characters, reference_count
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score


class Rouge(Metric):
    """F1 times 100 per answer, in [0, 100]; the best reference counts, per kind; the score is the mean over answers."""

    names = ("rouge1", "rouge2", "rougeL")

    def signature(self, name: str, answers: Sequence[Prediction]) -> str:
        """Return how the score `name` of these answers is computed."""
        references = reference_count(answers) or "var"
        return f"{name}|nrefs:{references}|tokens:chars|case:mixed|f1|mean:items|refs:best|empty:0"

    def items(self, answers: Sequence[Prediction]) -> list[Item]:
        """Return the columns `rouge1`, `rouge2` and `rougeL`, each in [0, 100], per answer."""
        return [_best(answer) for answer in answers]

    def corpus(self, answers: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the means over all answers, the empty ones among them."""
        return {
            name: Score(sum(item[name] for item in items) / len(items), self.signature(name, answers))
            for name in self.names
        }


def _best(answer: Prediction) -> Item:
    prediction = characters(answer.prediction)
    scored = [_compared(prediction, characters(reference)) for reference in answer.references]
    return {name: max(item[name] for item in scored) for name in Rouge.names}


def _compared(prediction: str, reference: str) -> Item:
    longest = LCSseq.similarity(prediction, reference)
    return {
        "rouge1": _f1(_overlap(prediction, reference, 1), len(prediction), len(reference)),
        "rouge2": _f1(_overlap(prediction, reference, 2), len(prediction) - 1, len(reference) - 1),
        "rougeL": _f1(longest, len(prediction), len(reference)),
    }


def _overlap(prediction: str, reference: str, order: int) -> int:
    found, wanted = _ngrams(prediction, order), _ngrams(reference, order)
    return sum(min(count, found[ngram]) for ngram, count in wanted.items() if ngram in found)


def _ngrams(text: str, order: int) -> Counter[str]:
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))


def _f1(shared: int, in_prediction: int, in_reference: int) -> float:
    """Return 100 · 2PR / (P + R) with P = shared / in_prediction and R = shared / in_reference; 0 if nothing is."""
    return 200.0 * shared / (in_prediction + in_reference) if shared else 0.0


METRIC = Rouge()
