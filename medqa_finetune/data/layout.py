"""Layouts: where the contents of a dialogue lie in the text that a chat template renders."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medqa_finetune.data.examples import Span
from medqa_finetune.errors import Fault, ModelError

OTHER_TEMPLATE = "Give a template of your own with model.chat_template=FILE.jinja."
SINGLE_QUESTIONS = f"Use corpora of single questions. {OTHER_TEMPLATE}"
NO_SYSTEM = "Leave the system prompts out with corpus.system=null, or use a template that takes them."
# Marks of contents in a trial. Letters and digits alone: no template trims, splits or escapes them.
MARK = "Zq{kind}{turn}qZ"


class Slot(NamedTuple):
    """A place of a content in a rendering: `system`, `question`, `thought` or `answer`, and the number of its turn."""

    kind: str
    turn: int


class Shape(NamedTuple):
    """What distinguishes renderings that differ in their contents alone."""

    system: bool
    # For each turn, whether its answer holds a thought.
    thoughts: tuple[bool, ...]

    def until(self, turn: int) -> "Shape":
        """Return the shape of the dialogue that ends with a turn."""
        return Shape(self.system, self.thoughts[: turn + 1])


SINGLE = Shape(system=False, thoughts=(False,))


@dataclass(frozen=True)
class AnswerPlace:
    """Where the answer of a turn lies.

    Attributes:
        lead: Characters before the first slot of the answer that the model has to generate.
        tail: Characters after its last slot that it has to generate, up to the end mark.
        trained: Whether the turn reads here as it does when it is asked.
    """

    lead: int
    tail: int
    trained: bool


@dataclass(frozen=True)
class Layout:
    """The rendering of all dialogues of one shape.

    Attributes:
        literals: The text before each slot, and after the last one.
        slots: The places of contents, in the order of the text.
        answers: One for each turn.
        own: The literals and slots of the template's own rendering, where `literals` differ from it.
    """

    literals: tuple[str, ...]
    slots: tuple[Slot, ...]
    answers: tuple[AnswerPlace, ...]
    own: "Layout | None" = None

    def fill(self, contents: Mapping[Slot, str]) -> tuple[str, dict[Slot, Span]]:
        """Return the text with contents in their places, and the place of each."""
        parts, places, length = [self.literals[0]], {}, len(self.literals[0])
        for slot, literal in zip(self.slots, self.literals[1:], strict=True):
            content = contents[slot]
            places[slot] = (length, length + len(content))
            parts += [content, literal]
            length += len(content) + len(literal)
        return "".join(parts), places


@dataclass(frozen=True)
class Rendered:
    """A dialogue as text.

    Attributes:
        text: From its beginning to the end mark of the last answer.
        answers: For each turn, the characters that the model has to generate, with the end mark.
        trained: For each turn, whether it is trained on: whether it reads here as it does when it is asked.
        contents: The characters that come from the dialogue, not from the template.
        questions: Those of each turn's question.
        marks: Number of control tokens that the contents held, and which are plain text here.
        dropped_thoughts: Number of thoughts in answers that are left out.
        is_own: Whether the template itself renders the dialogue so; otherwise a thought that it leaves out is added.
    """

    text: str
    answers: tuple[Span, ...]
    trained: tuple[bool, ...]
    contents: tuple[Span, ...]
    questions: tuple[Span, ...]
    marks: int
    dropped_thoughts: int
    is_own: bool

    @property
    def prompt(self) -> str:
        """The text before the last answer."""
        return self.text[: self.answers[-1][0]]


@dataclass(frozen=True)
class Dialogue:
    """The contents of a dialogue by place, free of control tokens, and what was changed for that."""

    contents: dict[Slot, str]
    shape: Shape
    marks: int
    dropped_thoughts: int


def rendered_as(layout: Layout, dialogue: Dialogue, own: str) -> Rendered:
    """Return a dialogue in a layout; `own` is what the template renders."""
    text, places = layout.fill(dialogue.contents)
    spans = []
    for turn, answer in enumerate(layout.answers):
        slots = [places[slot] for slot in (Slot("thought", turn), Slot("answer", turn)) if slot in places]
        spans.append((min(slots)[0] - answer.lead, max(slots)[1] + answer.tail))
    return Rendered(
        text,
        answers=tuple(spans),
        trained=tuple(answer.trained for answer in layout.answers),
        contents=tuple(places.values()),
        questions=tuple(places[Slot("question", turn)] for turn in range(len(spans))),
        marks=dialogue.marks,
        dropped_thoughts=dialogue.dropped_thoughts,
        is_own=own.startswith(text) or text.startswith(own),
    )


def marks_of(shape: Shape) -> dict[Slot, str]:
    """Return marks in the place of the contents of a dialogue of this shape."""
    slots = [Slot("system", 0)] if shape.system else []
    for turn, has_thought in enumerate(shape.thoughts):
        kinds = ("question", "thought", "answer") if has_thought else ("question", "answer")
        slots += [Slot(kind, turn) for kind in kinds]
    return {slot: MARK.format(kind=slot.kind, turn=slot.turn) for slot in slots}


def located(text: str, contents: Mapping[Slot, str]) -> Layout:
    """Return the layout of a text with marks; the thoughts of a template that leaves them out are missing in it.

    Raises:
        ModelError: another content is missing, or there more than once.
    """
    found = []
    for slot, mark in contents.items():
        places = [match.start() for match in re.finditer(re.escape(mark), text)]
        if len(places) > 1 or (not places and slot.kind != "thought"):
            raise ModelError(_misplaced(slot, len(places)))
        found += [(place, slot) for place in places]
    found.sort()
    return _between(text, [(place, place + len(contents[slot]), slot) for place, slot in found])


def _between(text: str, found: Sequence[tuple[int, int, Slot]]) -> Layout:
    """Return the layout of a text with the places of its contents."""
    bounds = [0, *(end for _, end, _ in found)]
    begins = [*(begin for begin, _, _ in found), len(text)]
    literals = tuple(text[end:begin] for end, begin in zip(bounds, begins, strict=True))
    return Layout(literals, tuple(slot for _, _, slot in found), ())


def aligned(text: str, contents: Mapping[Slot, str], slots: Sequence[Slot]) -> Layout:
    """Return the layout of a text whose contents are found in one way only.

    Raises:
        ModelError: one is missing, or may lie in several places.
    """
    forth, place = [], 0
    for slot in slots:
        place = text.find(contents[slot], place)
        if place < 0:
            raise ModelError(_changed(text, contents[slot]))
        forth.append((place, place + len(contents[slot]), slot))
        place += len(contents[slot])
    back, place = [], len(text)
    for slot in reversed(slots):
        place = text.rfind(contents[slot], 0, place)
        back.append((place, place + len(contents[slot]), slot))
    if forth != back[::-1]:
        raise ModelError(_changed(text, contents[slots[-1]]))
    return _between(text, forth)


def _misplaced(slot: Slot, times: int) -> Fault:
    what = "the system prompt" if slot.kind == "system" else f"the {slot.kind} of turn {slot.turn + 1}"
    problem = f"the chat template leaves out {what}" if not times else f"the chat template shows {what} {times} times"
    hint = NO_SYSTEM if slot.kind == "system" else SINGLE_QUESTIONS if slot.turn else OTHER_TEMPLATE
    return Fault("template-unfit", problem, hint=hint)


def _changed(text: str, content: str) -> Fault:
    problem = (
        f"the chat template changes a content, so that its place is not known: {content[:80]!r} in {text[-200:]!r}"
    )
    return Fault("template-unfit", problem, hint=OTHER_TEMPLATE)
