"""A pair: one question with its answer, and what was said before it."""

from dataclasses import dataclass
from typing import Any

IGNORED = -100  # torch's cross-entropy leaves this label out

Turn = tuple[str, str]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its answer; the last turn of a dialogue where there is a history.

    Attributes:
        id: Stable name of the pair inside its corpus, e.g. the row's own id or `file.jsonl:17`.
        question: What the user asks; cleaned, never empty.
        answer: The reference answer; cleaned, never empty.
        system: Instructions that the dialogue begins with; None leaves it to the chat template, which may have some of
            its own.
        history: Earlier questions with their answers, the first one first; cleaned, none of them empty.
    """

    id: str
    question: str
    answer: str
    system: str | None = None
    history: tuple[Turn, ...] = ()

    @property
    def opening(self) -> str:
        """What the user said first, by which a dialogue is known: all that begin with it are kept in one set."""
        return self.history[0][0] if self.history else self.question

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All questions with their answers, the last one too."""
        return (*self.history, (self.question, self.answer))


def to_row(pair: Example) -> dict[str, Any]:
    """Return a pair as one object of JSON; system prompt and history stand in it only where there are any."""
    row: dict[str, Any] = {"id": pair.id, "question": pair.question, "answer": pair.answer}
    return row | context_of(pair)


def context_of(pair: Example) -> dict[str, Any]:
    """Return what a pair holds beside question and answer: nothing, as a rule."""
    context: dict[str, Any] = {} if pair.system is None else {"system": pair.system}
    return context | ({"history": [list(turn) for turn in pair.history]} if pair.history else {})


def with_context(identity: str, question: str, answer: str, context: dict[str, Any]) -> Example:
    """Return the pair that `context_of` was taken of."""
    history = tuple((str(asked), str(said)) for asked, said in context.get("history", ()))
    return Example(identity, question, answer, context.get("system"), history)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded pair, dialogue, or block of running text.

    Attributes:
        input_ids: Prompt, answer and end token, earlier turns in front of them; at most max_length.
        answer_start: Index of the first token of the last answer, at least 1; that answer goes on to the end.
        cut: Whether something was cut to fit max_length.
        earlier: Where the answers of earlier turns begin, and where they end behind their end token.
    """

    input_ids: list[int]
    answer_start: int
    cut: bool
    earlier: tuple[Span, ...] = ()

    @property
    def labels(self) -> list[int]:
        """The ids where the loss is taken, `IGNORED` elsewhere; as long as `input_ids`."""
        labels = [IGNORED] * self.answer_start + self.input_ids[self.answer_start :]
        for begin, end in self.earlier:
            labels[begin:end] = self.input_ids[begin:end]
        return labels

    @property
    def answer_tokens(self) -> int:
        """Number of tokens that the loss is taken on."""
        return len(self.input_ids) - self.answer_start + sum(end - begin for begin, end in self.earlier)
