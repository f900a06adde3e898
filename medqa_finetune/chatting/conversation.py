"""Conversations with a model: one, or one per question of a list."""

import gc
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from medqa_finetune.chatting.chat_model import ChatModel, Sampling, Turn, load_source
from medqa_finetune.chatting.sources import Source
from medqa_finetune.data.clean import clean
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.progress import advance, track

# Shown with all answers.
DISCLAIMER = "Generated text, not medical advice. 内容由模型生成，不构成医疗建议。"


class Conversation:
    """A conversation with one model.

    Texts are cleaned like the texts of a corpus, so that `<|im_end|>` in a question does not end a turn.

    Args:
        model: The model.
        sampling: Greedy decoding with the model's own limit if None.
        system: System prompt; empty for none.
        seed: Seed of the sampling where `sampling.temperature` is above 0.

    Attributes:
        turns: Questions with their answers, oldest first.
        note: What was left out of the latest prompt; None for nothing.
    """

    def __init__(self, model: ChatModel, sampling: Sampling | None = None, system: str = "", seed: int = 0) -> None:
        self.model = model
        self.sampling = sampling or Sampling(max_new_tokens=model.max_new_tokens)
        self.system = clean(system)[0]
        self.turns: list[Turn] = []
        self.note: str | None = None
        self._generator = torch.Generator().manual_seed(seed)

    def ask(self, question: str) -> str:
        """Return the answer to a question, and add both to the conversation.

        Raises:
            DataError: the question is empty or too long.
        """
        answer = ""
        for answer in self.stream(question):  # noqa: B007 (the last one counts)
            pass
        return answer

    def stream(self, question: str) -> Generator[str, None, None]:
        """Yield the growing answer, each time the whole text so far.

        Leaving the loop, also by an exception, stops the answer; the text so far stays in the conversation, marked as
        stopped.

        Raises:
            DataError: the question is empty or too long.
        """
        question = clean(question)[0]
        if not question:
            raise DataError(Fault("empty", "the question is empty"))
        prompt = self.model.prompt(self.system, self.turns, question, self.sampling.max_new_tokens)
        self.note = prompt.note
        turn = Turn(question, "", stopped=True)
        try:
            for text in self.model.stream(prompt, self.sampling, self._generator):
                turn = replace(turn, answer=text)
                yield text
            turn = replace(turn, stopped=False)
        finally:
            self.turns.append(turn)

    def reset(self) -> None:
        """Remove all turns; system prompt and sampling stay."""
        self.turns.clear()

    def instruct(self, system: str) -> None:
        """Replace the system prompt, or remove it if empty, and remove all turns."""
        self.system = clean(system)[0]
        self.reset()

    def transcript(self) -> dict[str, Any]:
        """Return the conversation as JSON values: `{"model", "manner", "messages": [{"role", "content"}]}`.

        A stopped answer carries `"stopped": true`.
        """
        messages: list[dict[str, Any]] = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            answer: dict[str, Any] = {"role": "assistant", "content": turn.answer}
            messages += [
                {"role": "user", "content": turn.question},
                answer | ({"stopped": True} if turn.stopped else {}),
            ]
        return {"model": self.model.name, "manner": asdict(self.sampling), "messages": messages}


@dataclass(frozen=True)
class ChatSettings:
    """Settings of conversations, for any model.

    Attributes:
        temperature: As in `Sampling`.
        top_p: As in `Sampling`.
        max_new_tokens: As in `Sampling`; None for each model's own limit.
        system: System prompt; empty for none.
        seed: Seed of the sampling.
        threads: CPU threads for torch; None for torch's default.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    system: str = ""
    seed: int = 0
    threads: int | None = None


def start_conversation(source: Source, settings: ChatSettings) -> Conversation:
    """Load a model and start a conversation with it.

    Raises:
        ModelError: a file is damaged, or adapter, tokenizer and base do not match.
    """
    model = load_source(source, settings.threads)
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_new_tokens or model.max_new_tokens)
    return Conversation(model, sampling, settings.system, settings.seed)


def answer_all(source: Source, questions: Sequence[str], settings: ChatSettings) -> list[str]:
    """Return a model's answers to all questions, each in its own conversation; frees the model afterwards."""
    conversation = start_conversation(source, settings)
    answers = []
    for question in track(questions, "answering", of=len(questions), unit="question"):
        answers.append(conversation.ask(question))
        advance(len(answers))
        conversation.reset()
    del conversation
    gc.collect()
    return answers
