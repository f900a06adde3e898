"""A chat model that answers with a given text, without a model."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from medqa_finetune.chatting.chat_model import Prompt, Sampling, Turn
from medqa_finetune.chatting.conversation import Conversation


class Parrot:
    """Answers with a text that grows by one character at a time; `meanwhile` is called before each.

    Attributes:
        samplings: Of every answer, in order.
    """

    def __init__(self, text: str = "多喝水。", note: str | None = None, meanwhile: Callable[[], Any] = lambda: None):
        self.name = "parrot"
        self.max_new_tokens = 64
        self.text = text
        self.samplings: list[Sampling] = []
        self._note = note
        self._meanwhile = meanwhile

    def prompt(self, system: str, turns: Sequence[Turn], question: str, max_new_tokens: int) -> Prompt:
        return Prompt([], self._note)

    def stream(self, prompt: Prompt, sampling: Sampling, generator: Any) -> Generator[str, None, None]:
        self.samplings.append(sampling)
        for length in range(1, len(self.text) + 1):
            self._meanwhile()
            yield self.text[:length]


def talk_with(parrot: Any) -> Conversation:
    return Conversation(parrot)
