"""In which form a chat template renders dialogues, from `model.thinking`, `model.date` and the corpus."""

from collections.abc import Mapping
from dataclasses import dataclass

from medqa_finetune.config.schema import ModelConfig

# The count of examples with a thought in an answer, from preparing a corpus.
EXAMPLES_WITH_THOUGHTS = "pairs_with_thoughts"


@dataclass(frozen=True)
class ChatForm:
    """What a chat template is told in addition to the messages.

    Attributes:
        thinks: Whether answers begin with a thought, which is then trained; otherwise the prompt holds the template's
            empty thought, where it has one.
        day: The date that a template shows which shows today's, as `YYYY-MM-DD`; None for the default one.
    """

    thinks: bool = False
    day: str | None = None


PLAIN_FORM = ChatForm()


def form_of(model: ModelConfig, counts: Mapping[str, int]) -> ChatForm:
    """Return the form that `model.thinking` and `model.date` come to with a prepared corpus of these counts."""
    thinks = bool(counts.get(EXAMPLES_WITH_THOUGHTS)) if model.thinking == "auto" else model.thinking == "keep"
    return ChatForm(thinks, model.date)
