"""A pair: one question with its answer, and what was said before it."""

from dataclasses import dataclass
from typing import Any

Turn = tuple[str, str]


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
