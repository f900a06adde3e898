"""The scores: their columns in the table, what they are called, which way is better, and what is counted in them."""

import re
from dataclasses import dataclass

from medqa_finetune.log import visible
from medqa_finetune.record.schema import EvaluationRecord, Score
from medqa_finetune.report.words import Text

HIGHER = Text("higher is better", "越高越好")
LOWER = Text("lower is better", "越低越好")
NEITHER = Text("neither high nor low is better by itself", "高低本身不分好坏")
SIGNATURE_SEPARATOR = "; "
TEXT_PERPLEXITY = "text_perplexity"
# Beginnings of the columns of scores that are shares, in percent.
SHARES = ("rouge", "bleu", "sentence_bleu", "char_bleu", "lf_")
# Another tokenizer makes another figure of these: they compare within one model.
OF_A_TOKENIZER = ("perplexity", TEXT_PERPLEXITY)
# The perplexity of a text beside the answers, also where figures that do not compare were set apart.
OF_A_TEXT = re.compile(r"/perplexity(?:#\d+)?$")


@dataclass(frozen=True)
class ScoreName:
    """A score: its column in the table, what it is called, and which way is better.

    Attributes:
        axis: What stands at an axis of a chart.
        better: +1 where higher is better, -1 where lower is, 0 where neither is.
        panel: What stands above a panel of the two pictures, where it is in them.
        in_sentence: What it is called within a sentence; the title where that is None.
    """

    column: str
    title: Text
    axis: str
    sign: int = 1
    in_sentence: str | None = None
    panel: str = ""

    @property
    def better(self) -> Text:
        """Return which way is better, in words."""
        return {1: HIGHER, -1: LOWER}.get(self.sign, NEITHER)

    @property
    def inline(self) -> str:
        """Return what it is called within a sentence."""
        return self.in_sentence or self.title.en

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
    def items(self) -> Text:
        """Return what a training set of runs with this score is counted in."""
        return Text("blocks", "块") if self.column == TEXT_PERPLEXITY else Text("pairs", "对")


def _same(name: str) -> Text:
    return Text(name, name)


# Scores that the verdict is about; the first that runs have chooses.
HEADLINES = (
    ScoreName("rougeL", _same("ROUGE-L"), "ROUGE-L F1 (characters)", panel="ROUGE-L F1 (characters, 0–100)"),
    ScoreName("bleu", _same("BLEU"), "Corpus BLEU (sacrebleu zh)", panel="Corpus BLEU (sacrebleu zh, 0–100)"),
    ScoreName(TEXT_PERPLEXITY, Text("Text perplexity", "文本困惑度"), "Perplexity of running text", -1,
              "text perplexity", "Perplexity of running text (lower is better)"),
)  # fmt: skip
HEADLINE_COLUMNS = tuple(score.column for score in HEADLINES)
MORE_SCORES = (
    ScoreName("sentence_bleu", Text("Sentence BLEU", "句级 BLEU"), "Mean sentence BLEU (sacrebleu zh)"),
    *(
        ScoreName(f"char_bleu{order}", Text(f"Char BLEU-{order}", f"字 BLEU-{order}"), f"Char BLEU-{order}")
        for order in range(1, 5)
    ),
    ScoreName("lf_rouge1", Text("LLaMA-Factory rouge-1", "LLaMA-Factory rouge-1"), "rouge-1 as LLaMA-Factory has it"),
    ScoreName("lf_rouge2", Text("LLaMA-Factory rouge-2", "LLaMA-Factory rouge-2"), "rouge-2 as LLaMA-Factory has it"),
    ScoreName("lf_rougel", Text("LLaMA-Factory rouge-l", "LLaMA-Factory rouge-l"), "rouge-l as LLaMA-Factory has it"),
    ScoreName("lf_bleu4", Text("LLaMA-Factory bleu-4", "LLaMA-Factory bleu-4"), "bleu-4 as LLaMA-Factory has it"),
    ScoreName("length_ratio", Text("Length ratio", "长度比"), "Length over the references'", 0),
    ScoreName("distinct2", Text("Distinct-2", "Distinct-2"), "Different bigrams over all", 0),
    ScoreName("leaked_tokens", Text("Leaked special tokens", "泄漏的特殊词元"), "Special tokens in answers", -1),
)
MAIN_SCORES = (
    *HEADLINES,
    ScoreName("rouge1", _same("ROUGE-1"), "ROUGE-1 F1 (characters)"),
    ScoreName("rouge2", _same("ROUGE-2"), "ROUGE-2 F1 (characters)"),
    ScoreName("perplexity", Text("Perplexity", "困惑度"), "Perplexity of the reference answers", -1, "perplexity"),
)
SCORE_NAMES = (*MAIN_SCORES, *MORE_SCORES)
_NAMED = {score.column: score for score in SCORE_NAMES}


def is_exam(column: str) -> bool:
    """Say whether a score is of an exam beside the answers: these are called `<exam>/<metric>`."""
    return "/" in column


def exam_column(name: str) -> str:
    """Return the column of an exam: its name, without what would end a signature or be obeyed by a terminal."""
    return visible(name).replace(";", "_").replace("=", "_").replace("#", "_")


def score_name(column: str) -> ScoreName:
    """Return what is known of a score; one that is not known here is higher when better."""
    return _NAMED.get(column) or ScoreName(column, _same(column), column)


def title(score: str) -> str:
    """Return how a score is called in a sentence."""
    return score_name(score).inline


def scores_of(evaluation: EvaluationRecord) -> dict[str, Score]:
    """Return the scores of an evaluation by their column: the perplexity of running text is no other's figure."""
    return {_column(name, score.signature): score for name, score in evaluation.scores.items()}


def signatures(cell: str | None) -> dict[str, str]:
    """Return the signature of each score in a cell of the table's column `signature`."""
    return dict(part.split("=", 1) for part in cell.split(SIGNATURE_SEPARATOR)) if cell else {}


def _column(name: str, signature: str) -> str:
    return f"text_{name}" if signature.startswith(f"{name}|text") else name
