"""The scores: their columns in the table, which way is better, and what is counted in them.

What they are called lies in `messages`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from medqa_finetune.log import visible
from medqa_finetune.record.schema import EvaluationRecord, Score

SIGNATURE_SEPARATOR = "; "
TEXT_PERPLEXITY = "text_perplexity"
# Beginnings of the columns of scores that are shares, in percent.
SHARES = ("rouge", "bleu", "sentence_bleu", "char_bleu", "lf_")
# Another tokenizer makes another figure of these: they compare within one model.
OF_A_TOKENIZER = ("perplexity", TEXT_PERPLEXITY)
# The perplexity of a text that is an exam, also where figures that do not compare were set apart.
OF_A_TEXT = re.compile(r"/perplexity(?:#\d+)?$")


class Better(StrEnum):
    """Which way a score is better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


class Items(StrEnum):
    """What a training set is counted in."""

    PAIRS = "pairs"
    BLOCKS = "blocks"


@dataclass(frozen=True)
class ScoreName:
    """A score: its column in the table, and which way is better.

    Attributes:
        sign: +1 where higher is better, -1 where lower is, 0 where neither is.
    """

    column: str
    sign: int = 1

    @property
    def better(self) -> Better:
        """Return which way is better."""
        return {1: Better.HIGHER, -1: Better.LOWER}.get(self.sign, Better.NEITHER)

    @property
    def of_tokens(self) -> bool:
        """Say whether this is a perplexity: it grows and falls by factors, so lines go through its logarithm."""
        return self.column in OF_A_TOKENIZER or bool(OF_A_TEXT.search(self.column))

    @property
    def limits(self) -> tuple[float, float]:
        """Return the lowest and the highest figure that this score can be."""
        if self.of_tokens:
            return 1.0, float("inf")
        if self.column.startswith(SHARES):
            return 0.0, 100.0
        return (0.0, float("inf")) if self.column in _NAMED else (float("-inf"), float("inf"))

    @property
    def items(self) -> Items:
        """Return what a training set of runs with this score is counted in."""
        return Items.BLOCKS if self.column == TEXT_PERPLEXITY else Items.PAIRS


# Scores that the verdict is about; the first that runs have chooses.
HEADLINES = (ScoreName("rougeL"), ScoreName("bleu"), ScoreName(TEXT_PERPLEXITY, -1))
HEADLINE_COLUMNS = tuple(score.column for score in HEADLINES)
MAIN_SCORES = (*HEADLINES, ScoreName("rouge1"), ScoreName("rouge2"), ScoreName("perplexity", -1))
MORE_SCORES = (
    ScoreName("sentence_bleu"),
    *(ScoreName(f"char_bleu{order}") for order in range(1, 5)),
    *(ScoreName(f"lf_{name}") for name in ("rouge1", "rouge2", "rougel", "bleu4")),
    ScoreName("length_ratio", 0),
    ScoreName("distinct2", 0),
    ScoreName("leaked_tokens", -1),
)
SCORE_NAMES = (*MAIN_SCORES, *MORE_SCORES)
_NAMED = {score.column: score for score in SCORE_NAMES}


def is_exam(column: str) -> bool:
    """Say whether a score is of an exam, which runs apart from the answers: these are called `<exam>/<metric>`."""
    return "/" in column


def exam_column(name: str) -> str:
    """Return the column of an exam: its name, without what would end a signature or be obeyed by a terminal."""
    return visible(name).replace(";", "_").replace("=", "_").replace("#", "_")


def score_name(column: str) -> ScoreName:
    """Return what is known of a score; one that is not known here is higher when better."""
    return _NAMED.get(column) or ScoreName(column)


def scores_of(evaluation: EvaluationRecord) -> dict[str, Score]:
    """Return the scores of an evaluation by their column: the perplexity of running text is no other's figure."""
    return {_column(name, score.signature): score for name, score in evaluation.scores.items()}


def signatures(cell: str | None) -> dict[str, str]:
    """Return the signature of each score in a cell of the table's column `signature`."""
    return dict(part.split("=", 1) for part in cell.split(SIGNATURE_SEPARATOR)) if cell else {}


def _column(name: str, signature: str) -> str:
    return f"text_{name}" if signature.startswith(f"{name}|text") else name
