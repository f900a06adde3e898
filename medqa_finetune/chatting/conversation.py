"""A conversation with one model: what was said, and what comes next."""

from collections.abc import Generator
from dataclasses import asdict, replace
from typing import Any

import torch

from medqa_finetune.chatting.speaker import Manner, Speaker, Turn
from medqa_finetune.data.clean import clean
from medqa_finetune.errors import DataError, Fault

# Said wherever people read answers.
DISCLAIMER = "Generated text, not medical advice. 内容由模型生成，不构成医疗建议。"


class Conversation:
    """What was said so far with one model.

    Texts are cleaned as the texts of a corpus are, so that `<|im_end|>` in a question ends no turn.

    Args:
        speaker: Who answers.
        manner: How answers are chosen; the speaker's own length and the most likely tokens if None.
        system: Instructions that stand before the conversation; empty for none.
        seed: Of the chance by which tokens are drawn where `manner.temperature` is above 0.

    Attributes:
        turns: Questions with their answers, oldest first.
        note: What of the conversation was left out of the latest prompt; None for nothing.
    """

    def __init__(self, speaker: Speaker, manner: Manner | None = None, system: str = "", seed: int = 0) -> None:
        self.speaker = speaker
        self.manner = manner or Manner(max_new_tokens=speaker.max_new_tokens)
        self.system = clean(system)[0]
        self.turns: list[Turn] = []
        self.note: str | None = None
        self._chance = torch.Generator().manual_seed(seed)

    def ask(self, question: str) -> str:
        """Return the answer to a question; both are part of the conversation from then on.

        Raises:
            DataError: the question is empty or too long.
        """
        answer = ""
        for answer in self.stream(question):  # noqa: B007 (the last one counts)
            pass
        return answer

    def stream(self, question: str) -> Generator[str, None, None]:
        """Yield the answer as it grows, each time the whole text so far.

        Whoever stops listening, by leaving the loop or by an exception, stops the answer; what was said by then stays
        in the conversation, marked.

        Raises:
            DataError: the question is empty or too long.
        """
        question = clean(question)[0]
        if not question:
            raise DataError(Fault("empty", "the question is empty"))
        prompt = self.speaker.prompt(self.system, self.turns, question, self.manner.max_new_tokens)
        self.note = prompt.note
        turn = Turn(question, "", stopped=True)
        try:
            for text in self.speaker.stream(prompt, self.manner, self._chance):
                turn = replace(turn, answer=text)
                yield text
            turn = replace(turn, stopped=False)
        finally:
            self.turns.append(turn)

    def reset(self) -> None:
        """Forget what was said; instructions and manner stay."""
        self.turns.clear()

    def instruct(self, system: str) -> None:
        """Take other instructions, or none, and begin anew."""
        self.system = clean(system)[0]
        self.reset()

    def transcript(self) -> dict[str, Any]:
        """Return what was said, as plain values: `{"model", "manner", "messages": [{"role", "content"}]}`.

        An answer that was broken off carries `"stopped": true`.
        """
        messages: list[dict[str, Any]] = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            answer: dict[str, Any] = {"role": "assistant", "content": turn.answer}
            messages += [
                {"role": "user", "content": turn.question},
                answer | ({"stopped": True} if turn.stopped else {}),
            ]
        return {"model": self.speaker.name, "manner": asdict(self.manner), "messages": messages}
