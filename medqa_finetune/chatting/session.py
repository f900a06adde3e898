"""A source, opened: one conversation with it, or its answers to many questions."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from medqa_finetune.chatting.conversation import Conversation
from medqa_finetune.chatting.sources import Source
from medqa_finetune.chatting.speaker import Manner, open_source


@dataclass(frozen=True)
class Asking:
    """How models are asked.

    Attributes:
        temperature: As in `Manner`.
        top_p: As in `Manner`.
        max_new_tokens: As in `Manner`; None for the length that is each model's own.
        system: Instructions before every conversation; empty for none.
        seed: Of the chance by which tokens are drawn.
        threads: CPU threads for torch; None leaves the number to torch.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    system: str = ""
    seed: int = 0
    threads: int | None = None


def begin(source: Source, asking: Asking) -> Conversation:
    """Load a model and begin a conversation with it.

    Raises:
        ModelError: something does not fit.
    """
    speaker = open_source(source, asking.threads)
    manner = Manner(asking.temperature, asking.top_p, asking.max_new_tokens or speaker.max_new_tokens)
    return Conversation(speaker, manner, asking.system, asking.seed)


def answers_of(source: Source, questions: Sequence[str], asking: Asking) -> list[str]:
    """Let one model answer every question, each in a conversation of its own; it is let go of afterwards."""
    conversation = begin(source, asking)
    answers = []
    for question in tqdm(questions, desc=source.name, unit="question", disable=None, leave=False):
        answers.append(conversation.ask(question))
        conversation.reset()
    del conversation
    gc.collect()
    return answers
