"""The scores that charts show, and what they are called."""

from dataclasses import dataclass

from medqa_finetune.report.words import Text

HIGHER = Text("higher is better", "越高越好")
LOWER = Text("lower is better", "越低越好")


@dataclass(frozen=True)
class ScoreName:
    """A score: its column in the table, what it is called, and which way is better."""

    column: str
    title: Text
    axis: str
    higher: bool = True

    @property
    def better(self) -> Text:
        """Return which way is better, in words."""
        return HIGHER if self.higher else LOWER


HEADLINE = (
    ScoreName("rougeL", Text("ROUGE-L", "ROUGE-L"), "ROUGE-L F1 (characters)"),
    ScoreName("bleu", Text("BLEU", "BLEU"), "Corpus BLEU (sacrebleu zh)"),
)
SCORE_NAMES = (
    *HEADLINE,
    ScoreName("rouge1", Text("ROUGE-1", "ROUGE-1"), "ROUGE-1 F1 (characters)"),
    ScoreName("rouge2", Text("ROUGE-2", "ROUGE-2"), "ROUGE-2 F1 (characters)"),
    ScoreName("perplexity", Text("Perplexity", "困惑度"), "Perplexity of the reference answers", higher=False),
)
