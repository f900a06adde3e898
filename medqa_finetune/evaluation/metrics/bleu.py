"""BLEU as sacrebleu computes it for Chinese (Papineni et al. 2002; Post 2018, https://aclanthology.org/W18-6319/).

The score is corpus BLEU with `tokenize="zh"`, the rest default, and carries sacrebleu's own signature. Per answer it is
sentence BLEU (effective order), whose mean is `sentence_bleu`, another figure: on one set it lay ten points apart.
"""

import re
from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics.bleu import BLEU, MAX_NGRAM_ORDER

from medqa_finetune.evaluation.answers import Answer
from medqa_finetune.evaluation.metrics.base import Item, Metric, reference_count
from medqa_finetune.record.schema import Score

# What sacrebleu counts per item, by its names and in the order in which it wants the counts back: tokens of the
# prediction and of the nearest reference, n-grams that the two share, n-grams of the prediction.
COUNTS = (
    "bleu.sys_len",
    "bleu.ref_len",
    *(f"bleu.correct{order}" for order in range(1, MAX_NGRAM_ORDER + 1)),
    *(f"bleu.total{order}" for order in range(1, MAX_NGRAM_ORDER + 1)),
)


class Bleu(Metric):
    """BLEU in [0, 100]."""

    names = ("bleu", "sentence_bleu")

    def signature(self, name: str, answers: Sequence[Answer]) -> str:
        """Return sacrebleu's signature, its version included."""
        bleu = _sacrebleu(effective_order=name == "sentence_bleu")
        # sacrebleu counts the references while it reads them; -1 is its word for "varies".
        bleu.num_refs = reference_count(answers) or -1
        return f"{bleu.get_signature()}" + ("|mean:items" if name == "sentence_bleu" else "")

    def items(self, answers: Sequence[Answer]) -> list[Item]:
        """Return the columns `bleu` and `sentence_bleu` (both sentence BLEU) and sacrebleu's counts per answer.

        The texts are cut into tokens and n-grams once; sacrebleu's public calls would do it twice, for the answer's
        score and again for the corpus's.
        """
        bleu = _sacrebleu(effective_order=True)
        predictions = [answer.prediction for answer in answers]
        counted = bleu._extract_corpus_statistics(predictions, reference_streams(answers))
        # sacrebleu stops at the shorter of two lists and says nothing.
        if len(counted) != len(answers):
            raise AssertionError(f"sacrebleu counted {len(counted)} of {len(answers)} answers")
        scored = [bleu._compute_score_from_stats(counts).score for counts in counted]
        return [
            {"bleu": score, "sentence_bleu": score, **dict(zip(COUNTS, counts, strict=True))}
            for score, counts in zip(scored, counted, strict=True)
        ]

    def corpus(self, answers: Sequence[Answer], items: Sequence[Item]) -> dict[str, Score]:
        """Return corpus BLEU from the summed counts, and the mean of the answers' sentence BLEU."""
        totals = [int(sum(item[name] for item in items)) for name in COUNTS]
        value = _sacrebleu(effective_order=False)._compute_score_from_stats(totals).score
        mean = sum(item["sentence_bleu"] for item in items) / len(items)
        return {
            "bleu": Score(value, self.signature("bleu", answers)),
            "sentence_bleu": Score(mean, self.signature("sentence_bleu", answers)),
        }


def reference_streams(answers: Sequence[Answer]) -> Any:
    """Return the references as sacrebleu wants them: k lists of n, k the most that an answer has.

    None fills the places of an answer that has fewer; sacrebleu takes it, though its annotations do not say so.
    """
    most = max(len(answer.references) for answer in answers)
    return [[(*answer.references, *[None] * most)[place] for answer in answers] for place in range(most)]


def _sacrebleu(effective_order: bool) -> BLEU:
    # force silences a warning about texts that look tokenized; it is not part of the score.
    bleu = BLEU(tokenize="zh", effective_order=effective_order, force=True)
    # By then every Chinese character has spaces around it, and sacrebleu puts two more around each of them, which takes
    # half of the time and makes no other token; the tests hold this to its public calls.
    rules = bleu.tokenizer._post_tokenizer._re
    rules[0] = (re.compile(rules[0][0].pattern.replace(" -", "!-")), rules[0][1])
    return bleu


METRIC = Bleu()
