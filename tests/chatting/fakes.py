"""A speaker that says what it is told to, without a model."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from medqa_finetune.chatting.conversation import Conversation
from medqa_finetune.chatting.speaker import Manner, Prompt, Turn


class Parrot:
    """Answers with a text that grows sign by sign; `meanwhile` is called before each.

    Attributes:
        manners: How it was asked to answer, each time.
    """

    def __init__(self, text: str = "多喝水。", note: str | None = None, meanwhile: Callable[[], Any] = lambda: None):
        self.name = "parrot"
        self.max_new_tokens = 64
        self.text = text
        self.manners: list[Manner] = []
        self._note = note
        self._meanwhile = meanwhile

    def prompt(self, system: str, turns: Sequence[Turn], question: str, max_new_tokens: int) -> Prompt:
        return Prompt([], self._note)

    def stream(self, prompt: Prompt, manner: Manner, chance: Any) -> Generator[str, None, None]:
        self.manners.append(manner)
        for length in range(1, len(self.text) + 1):
            self._meanwhile()
            yield self.text[:length]


def talk_with(parrot: Any) -> Conversation:
    return Conversation(parrot)
