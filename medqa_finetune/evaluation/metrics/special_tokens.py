"""Special tokens left in the answers: a sign that answers were cut, or prompts built, in the wrong place.

Counted are marks that chat templates and tokenizers use to steer a model and that no reader should see:
`<|im_end|>` and its like (also full-width), `<s>`, `</s>`, `<unk>`, `<pad>`, `<bos>`, `<eos>`, `<mask>`, `[PAD]`,
`[UNK]`, `[CLS]`, `[SEP]`, `[MASK]`, `[INST]`, `<<SYS>>`, `<start_of_turn>`, `<end_of_turn>`, `<think>` and their ends.
"""

import re
from collections.abc import Sequence

from medqa_finetune.evaluation.metrics.base import Item, Metric
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score

LIST_VERSION = 1
SPECIAL_TOKEN = re.compile(
    r"<[|｜][^<>|｜\s]{1,60}[|｜]>|</?(?:s|unk|pad|bos|eos|mask|think)>|<(?:start|end)_of_turn>|<</?SYS>>"
    r"|\[/?INST\]|\[(?:PAD|UNK|CLS|SEP|MASK)\]"
)


class SpecialTokens(Metric):
    """Number of special tokens in all answers together, a whole number from 0."""

    names = ("leaked_tokens",)

    def signature(self, name: str, answers: Sequence[Prediction]) -> str:
        """Return which list of tokens is counted, and over how many answers."""
        return f"leaked_tokens|list:{LIST_VERSION}|sum:answers|answers:{len(answers)}"

    def items(self, answers: Sequence[Prediction]) -> list[Item]:
        """Return the count `leaked_tokens.tokens` per answer."""
        return [{"leaked_tokens.tokens": len(SPECIAL_TOKEN.findall(answer.prediction))} for answer in answers]

    def corpus(self, answers: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the sum."""
        value = sum(item["leaked_tokens.tokens"] for item in items)
        return {"leaked_tokens": Score(float(value), self.signature("leaked_tokens", answers))}


METRIC = SpecialTokens()
