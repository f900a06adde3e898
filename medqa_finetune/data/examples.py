"""Examples as text and as token ids: one question with its answer, and earlier turns of a dialogue."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

IGNORED = -100  # torch's cross-entropy leaves this label out

Turn = tuple[str, str]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its answer; with a history, the last turn of a dialogue.

    Attributes:
        id: Stable name of the example within its corpus, e.g. the row's own id or `file.jsonl:17`.
        question: Cleaned, never empty.
        answer: The reference answer; cleaned, never empty.
        system: System prompt; None leaves it to the chat template, which may have a default.
        history: Earlier questions with their answers, in order; cleaned, none of them empty.
        group: Value of the column `corpus.group`, which scores are given by; None without one.
    """

    id: str
    question: str
    answer: str
    system: str | None = None
    history: tuple[Turn, ...] = ()
    group: str | None = None

    @property
    def opening(self) -> str:
        """The first question. Dialogues that begin with the same question go to the same set."""
        return self.history[0][0] if self.history else self.question

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All questions with their answers, the last one included."""
        return (*self.history, (self.question, self.answer))


def to_row(example: Example) -> dict[str, object]:
    """Return an example as a JSON object, with system prompt, history and group only if there are any."""
    row: dict[str, object] = {"id": example.id, "question": example.question, "answer": example.answer}
    return row | context_of(example)


def context_of(example: Example) -> dict[str, object]:
    """Return system prompt, history and group as a JSON object; empty for most examples."""
    context: dict[str, object] = {} if example.system is None else {"system": example.system}
    context |= {"history": [list(turn) for turn in example.history]} if example.history else {}
    return context | group_of(example)


def group_of(example: Example) -> dict[str, object]:
    """Return the group as a JSON object; empty without one."""
    return {} if example.group is None else {"group": example.group}


def with_context(identity: str, question: str, answer: str, context: Mapping[str, Any]) -> Example:
    """Return an example from its parts; the inverse of `context_of`."""
    history = tuple((str(asked), str(said)) for asked, said in context.get("history", ()))
    return Example(identity, question, answer, context.get("system"), history, context.get("group"))


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded example, dialogue, or block of running text.

    Attributes:
        input_ids: Prompt (with earlier turns), answer and end token; at most `train.max_length`.
        answer_start: Index of the first token of the last answer, at least 1; that answer extends to the end.
        cut: Whether something was cut to fit `train.max_length`.
        earlier: Start and end (exclusive, after the end token) of the answers of earlier turns that are trained on.
        untrained: Number of earlier answers that are not.
        marks: Number of control tokens in its contents, which are encoded as plain text.
        thoughts: Number of thoughts left out of its answers.
    """

    input_ids: list[int]
    answer_start: int
    cut: bool
    earlier: tuple[Span, ...] = ()
    untrained: int = 0
    marks: int = 0
    thoughts: int = 0

    @property
    def counts(self) -> "EncodingCounts":
        """What was changed to encode it."""
        return EncodingCounts(1, int(self.cut), self.untrained, self.marks, self.thoughts)

    @property
    def labels(self) -> list[int]:
        """The ids on which the loss is computed, `IGNORED` elsewhere; same length as `input_ids`."""
        labels = [IGNORED] * self.answer_start + self.input_ids[self.answer_start :]
        for begin, end in self.earlier:
            labels[begin:end] = self.input_ids[begin:end]
        return labels

    @property
    def answer_tokens(self) -> int:
        """Number of tokens on which the loss is computed."""
        return len(self.input_ids) - self.answer_start + sum(end - begin for begin, end in self.earlier)


@dataclass(frozen=True, slots=True)
class EncodingCounts:
    """What was changed to encode a set, in numbers.

    Attributes:
        examples: Its examples.
        cut: Examples cut to fit `train.max_length`.
        untrained: Earlier answers that are not trained on.
        marks: Control tokens in contents.
        thoughts: Thoughts left out of answers.
    """

    examples: int = 0
    cut: int = 0
    untrained: int = 0
    marks: int = 0
    thoughts: int = 0

    def __add__(self, other: "EncodingCounts") -> "EncodingCounts":
        return EncodingCounts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))
