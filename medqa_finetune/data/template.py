"""Renders dialogues with a model's own chat template, and finds in the text where each answer begins and ends.

A template is a program: it may trim contents, add a default system prompt, today's date or an empty thought, and change
earlier turns when one is added. So the places are taken from what it renders. Each shape of a dialogue (with or without
a system prompt, the number of turns, which answers hold a thought) is rendered once with marks in place of the
contents, which gives the text between them; every dialogue is rendered by the template as well, and must be the same.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medqa_finetune.config.chat_form import PLAIN_FORM, ChatForm
from medqa_finetune.data.examples import Example
from medqa_finetune.data.fixed_date import with_date
from medqa_finetune.data.layout import (
    MARK,
    NO_SYSTEM,
    OTHER_TEMPLATE,
    SINGLE,
    SINGLE_QUESTIONS,
    AnswerPlace,
    Dialogue,
    Layout,
    Rendered,
    Shape,
    Slot,
    aligned,
    located,
    marks_of,
    rendered_as,
)
from medqa_finetune.data.marks import any_of, common_length, spaced, spread
from medqa_finetune.data.thoughts import CLOSING, OPENING, split_thought
from medqa_finetune.errors import Fault, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What closes a thought that the prompt has opened, where the template itself shows no thought (DeepSeek-R1).
DEFAULT_CLOSING = "\n</think>\n\n"
MOST_PASSES = 5
GENERATION = re.compile(r"\{%-?\s*generation\b")
OPENED_THOUGHT = re.compile(r"<think>\s*$")

# Gemma 4's marks of a thought, where `<think>` and `</think>` are used elsewhere.
OWN_MARKS = ("<|channel>thought", "<channel|>")
# The variables by which published templates ask whether to think: Qwen, GLM, Gemma; DeepSeek, Granite.
THINKING_VARIABLES = ("enable_thinking", "thinking")
# The fields under which published templates look for a thought.
THOUGHT_FIELDS = ("reasoning_content", "thinking", "reasoning")

Message = dict[str, Any]


class ChatTemplate:
    """The chat template of a tokenizer, in one form.

    Without a system prompt none is passed: templates with a default one (Qwen2.5's) then use it.

    Args:
        tokenizer: A tokenizer with a chat template.
        form: Whether answers think, and the date; that of None is `fixed_date.DEFAULT_DATE`.

    Raises:
        ModelError: a date is given and the template shows none.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", form: ChatForm = PLAIN_FORM) -> None:
        self._tokenizer = tokenizer
        self.thinks, day = form.thinks, form.day
        self._source = _source_of(tokenizer)
        self._text = with_date(self._source, day)
        self._layouts: dict[Shape, Layout] = {}
        # Whether contents are lists of parts, as the templates of vision models take them.
        self._takes_parts = False
        # Whether a prompt keeps the spaces at its end; see `Encoder`.
        self.keeps_spaces = True
        self._choose_parts()
        if day is not None and self._text == self._source:
            raise ModelError(
                Fault(
                    "no-effect",
                    "the chat template shows no date",
                    key="model.date",
                    got=day,
                    hint="Leave model.date=null.",
                )
            )

    def render(self, example: Example) -> Rendered:
        """Return a dialogue as text, its contents free of control tokens; see `without_marks`.

        Raises:
            ModelError: the template fails, or renders the dialogue otherwise than one of the same shape.
        """
        dialogue = self._read(example)
        contents, shape = dialogue.contents, dialogue.shape
        layout = self._layout(shape)
        own = layout.own or layout
        actual = self._apply(self._messages(contents, shape))
        if own.fill(contents)[0] != actual:
            # Many templates trim.
            contents = {slot: content.strip() for slot, content in contents.items()}
        if own.fill(contents)[0] != actual:
            layout = self._layout_of(shape, contents, own.slots)
        return rendered_as(layout, replace(dialogue, contents=contents), actual)

    def prompt(self, example: Example) -> str:
        """Return the text before the last answer, whatever that answer is.

        Raises:
            ModelError: as in `render`.
        """
        return self.render(replace(example, answer=MARK.format(kind="answer", turn=len(example.history)))).prompt

    def check(self, *, system: bool, turns: int) -> None:
        """Check that dialogues of this many turns, with or without a system prompt, can be rendered.

        Raises:
            ModelError: they cannot.
        """
        self._layout(Shape(system, (False,) * turns))

    def messages(self, example: Example) -> list[Message]:
        """Return a dialogue as the messages that the template takes."""
        dialogue = self._read(example)
        return self._in_form(self._messages(dialogue.contents, dialogue.shape))

    def own_ids(self, example: Example) -> list[int]:
        """Return the ids of a dialogue as the tokenizer's own `apply_chat_template` gives them."""
        ids = self._tokenizer.apply_chat_template(
            self.messages(example), tokenize=True, return_dict=False, **self.options
        )
        return list(ids)

    def generated(self, example: Example) -> list[bool] | None:
        """Return for each of `own_ids` whether the template marks it as generated; None if it has no such marks."""
        if not GENERATION.search(self._source):
            return None
        encoded: Mapping[str, Any] = self._tokenizer.apply_chat_template(  # type: ignore[assignment]
            self.messages(example), tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **self.options
        )
        return [bool(mark) for mark in encoded["assistant_masks"]]

    def forget(self) -> None:
        """Forget the layouts, after a change of `keeps_spaces`."""
        self._layouts.clear()

    @property
    def fingerprint(self) -> list[str | bool]:
        """All that determines the text of a dialogue."""
        return [self._text, self.thinks]

    @property
    def as_trained(self) -> str:
        """The template with this form as its default, for programs that do not pass one."""
        unset = [name for name in THINKING_VARIABLES if re.search(rf"\b{name}\b", self._source)]
        value = str(self.thinks).lower()
        preset = (f"{{% if {name} is not defined %}}{{% set {name} = {value} %}}{{% endif +%}}" for name in unset)
        template = "".join(preset) + self._text
        contents = marks_of(SINGLE)
        own = self._apply(self._messages(contents, SINGLE)[:-1], asking=True)
        asked = self.prompt(Example("of a trial", contents[Slot("question", 0)], ""))
        if own == asked:
            return template
        # DeepSeek-R1's template opens a thought whatever it is told; gpt-oss's leaves the channel to the model.
        same = common_length(own, asked)
        kept = f"asked[:asked | length - {len(own) - same}] + {asked[same:]!r}"
        shown = f"{{% if add_generation_prompt %}}{{{{ {kept} }}}}{{% else %}}{{{{ asked }}}}{{% endif %}}"
        return f"{{% set asked +%}}{template}{{% endset %}}{shown}"

    @property
    def options(self) -> dict[str, Any]:
        """What `apply_chat_template` gets in addition to the messages."""
        return {"chat_template": self._text, **dict.fromkeys(THINKING_VARIABLES, self.thinks)}

    @cached_property
    def marks(self) -> re.Pattern[str]:
        """Matches a control token in a text: special tokens, and other added tokens that the template writes."""
        added = self._tokenizer.added_tokens_decoder.values()
        special = {str(token) for token in added if token.special} | set(self._tokenizer.all_special_tokens)
        # Thoughts are marks of the template even where they are no tokens.
        others = {str(token) for token in added} | {OPENING, CLOSING}
        written = {mark for mark in others if mark in self._source}
        return any_of({mark for mark in special | written if mark.strip()})

    def without_marks(self, text: str) -> tuple[str, int]:
        """Return a content in which no tokenizer finds a control token, and the number of those it held as text.

        Such a mark gets spaces inside, as `data.clean` does: `<eos>` becomes `< eos >`.
        """
        total = 0
        # A mark may contain others, which are found in the next pass.
        for _ in range(MOST_PASSES):
            text, found = self.marks.subn(lambda match: spaced(match[0]), text)
            total += found
            if not found:
                break
        return text, total

    @cached_property
    def _ends(self) -> re.Pattern[str]:
        """Matches what may end an answer: any added token but white space and thoughts."""
        added = {str(token) for token in self._tokenizer.added_tokens_decoder.values()}
        marks = added | set(self._tokenizer.all_special_tokens)
        return any_of({mark for mark in marks if mark.strip() and mark not in (OPENING, CLOSING)})

    def _read(self, example: Example) -> Dialogue:
        contents: dict[Slot, str] = {}
        thoughts, dropped, marks = [], 0, 0
        if example.system is not None:
            contents[Slot("system", 0)] = example.system
        for turn, (question, answer) in enumerate(example.turns):
            contents[Slot("question", turn)] = question
            verbatim = self.thinks and self._form == "verbatim"
            thought, said = (None, answer) if verbatim else split_thought(answer)
            # An empty thought is none: the template has its own way of writing that.
            thoughts.append(bool(thought) and self.thinks)
            dropped += bool(thought) and not self.thinks
            if thought and self.thinks:
                contents[Slot("thought", turn)] = thought
            contents[Slot("answer", turn)] = said
        for slot, content in contents.items():
            contents[slot], found = self.without_marks(content)
            marks += found
        return Dialogue(contents, Shape(example.system is not None, tuple(thoughts)), marks, dropped)

    def _messages(self, contents: Mapping[Slot, str], shape: Shape) -> list[Message]:
        messages = [_message("system", contents[Slot("system", 0)])] if shape.system else []
        for turn, has_thought in enumerate(shape.thoughts):
            answer = _message("assistant", contents[Slot("answer", turn)])
            if has_thought:
                answer |= self._with_thought(contents[Slot("thought", turn)], answer["content"])
            messages += [_message("user", contents[Slot("question", turn)]), answer]
        return messages

    def _with_thought(self, thought: str, answer: str) -> Message:
        if self._form == "inside":
            return {"content": f"{OPENING}\n{thought}\n{CLOSING}\n\n{answer}"}
        return dict.fromkeys(THOUGHT_FIELDS, thought)

    def _apply(self, messages: Sequence[Message], *, asking: bool = False) -> str:
        """Return what the template renders.

        Raises:
            ModelError: it fails, as some do on a system prompt or on earlier turns.
        """
        try:
            rendered = self._tokenizer.apply_chat_template(
                self._in_form(messages), tokenize=False, add_generation_prompt=asking, **self.options
            )
        except Exception as error:  # Jinja's exceptions, and any that a template raises
            raise ModelError(_failing(messages, error)) from None
        return str(rendered)

    def _in_form(self, messages: Sequence[Message]) -> list[Message]:
        """Return messages in the form that the template takes."""
        if not self._takes_parts:
            return [*messages]
        return [{**each, "content": [{"type": "text", "text": each["content"]}]} for each in messages]

    def _choose_parts(self) -> None:
        """Pass contents as lists of parts if the template shows them only then."""
        messages, mark = self._trial()
        for self._takes_parts in (False, True):
            with suppress(ModelError):
                if mark in self._apply(messages):
                    return
        self._takes_parts = False

    @cached_property
    def _form(self) -> str:
        """How the template takes a thought: `inside` the answer, in a `field` of the message, or not (`verbatim`)."""
        shape = Shape(system=False, thoughts=(True,))
        contents = marks_of(shape)
        # gpt-oss and Gemma 4 have marks of their own; others put an empty thought before one inside the answer.
        forms = ("inside", "field") if CLOSING in self._source else ("field",)
        for form in forms:
            self.__dict__["_form"] = form
            with suppress(ModelError):
                text = self._apply(self._messages(contents, shape))
                shown = contents[Slot("thought", 0)] in text
                if text.count(CLOSING) <= 1 and (shown or form == "inside"):
                    return form
        if OWN_MARKS[1] in self._source:
            raise ModelError(
                Fault(
                    "template-unfit",
                    f"the chat template has marks of its own for thoughts ({' … '.join(OWN_MARKS)}), but shows none",
                    key="model.thinking",
                    got="keep",
                    hint="Give model.thinking=off, or a newer template of the model by model.chat_template=FILE.",
                )
            )
        return "verbatim"

    @cached_property
    def thought_marks(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """Match what the model writes before and after a thought; the first is empty if the prompt opens it."""
        opening, closing = OWN_MARKS if OWN_MARKS[1] in self._source else (OPENING, CLOSING)
        if self.thinks and self._form != "verbatim":
            shape = Shape(system=False, thoughts=(True,))
            layout, contents = self._layout(shape), marks_of(shape)
            text, places = layout.fill(contents)
            begin, end = places[Slot("thought", 0)]
            opening = text[begin - layout.answers[0].lead : begin]
            closing = text[end : places[Slot("answer", 0)][0]]
        return spread(opening), spread(closing)

    def _trial(self) -> tuple[list[Message], str]:
        """Return a question with its answer as messages, and the mark in the place of the answer."""
        contents = marks_of(SINGLE)
        return self._messages(contents, SINGLE), contents[Slot("answer", 0)]

    def _layout(self, shape: Shape) -> Layout:
        if shape not in self._layouts:
            self._layouts[shape] = self._layout_of(shape, marks_of(shape))
        return self._layouts[shape]

    def _layout_of(self, shape: Shape, contents: Mapping[Slot, str], slots: Sequence[Slot] | None = None) -> Layout:
        """Return the layout that the rendering of these contents has.

        Args:
            shape: The shape of the dialogue.
            contents: Marks; or the contents of a dialogue that the template renders otherwise than its shape.
            slots: The slots in the order of the text; None if the contents are marks, which are found anywhere.

        Raises:
            ModelError: the template fails, drops a content, or ends answers without a special token.
        """
        messages = self._messages(contents, shape)
        text = self._apply(messages)
        own = located(text, contents) if slots is None else aligned(text, contents, slots)
        last = len(shape.thoughts) - 1
        prompt = self._apply(messages[:-1], asking=True)
        layout = self._as_asked(own, prompt, contents, shape)
        tail = self._tail(layout, shape)
        layout = replace(layout, literals=(*layout.literals[:-1], tail))
        lead = self._lead(layout, prompt, contents, last)
        places = self._earlier(layout, shape, contents) if slots is None else [AnswerPlace(0, 0, trained=False)] * last
        return replace(layout, answers=(*places, AnswerPlace(lead, len(tail), trained=True)), own=own)

    def _as_asked(self, own: Layout, prompt: str, contents: Mapping[Slot, str], shape: Shape) -> Layout:
        """Return the layout with the thought that the prompt opens, where the template leaves it out of an answer.

        An answer without a thought closes it at once. The template may show an empty thought there (Qwen3.5), but its
        tokens can be others than those of the prompt: two line breaks are one token.
        """
        last = len(shape.thoughts) - 1
        text, places = own.fill(contents)
        thought, answer = Slot("thought", last), Slot("answer", last)
        if not self.thinks or not OPENED_THOUGHT.search(prompt) or (thought in places and text.startswith(prompt)):
            return own
        asked = located(prompt, {slot: content for slot, content in contents.items() if _is_asked(slot, last)})
        if not shape.thoughts[-1]:
            closed = asked.literals[-1] + self._closing(shape).lstrip()
            return Layout((*asked.literals[:-1], closed, own.literals[-1]), (*asked.slots, answer), ())
        literals = (*asked.literals, self._closing(shape), own.literals[-1])
        return Layout(literals, (*asked.slots, thought, answer), ())

    def _closing(self, shape: Shape) -> str:
        """Return the text between thought and answer."""
        contents = marks_of(Shape(shape.system, (*shape.thoughts[:-1], True)))
        last = len(shape.thoughts) - 1
        text = self._apply(self._messages(contents, Shape(shape.system, (*shape.thoughts[:-1], True))))
        after = text.partition(contents[Slot("thought", last)])[2]
        return after.partition(contents[Slot("answer", last)])[0] if after else DEFAULT_CLOSING

    def _lead(self, layout: Layout, prompt: str, contents: Mapping[Slot, str], last: int) -> int:
        """Return how much of the text before the last answer the model has to generate."""
        text, places = layout.fill(contents)
        begin = min(places[slot][0] for slot in (Slot("thought", last), Slot("answer", last)) if slot in places)
        between = text[len(prompt) : begin]
        lead = 0
        if text.startswith(prompt) and len(prompt) <= begin and (self.thinks or not between.strip()):
            lead = len(between)
        if not self.keeps_spaces:
            before = text[: begin - lead]
            lead += len(before) - len(before.rstrip(" "))
        return lead

    def _tail(self, layout: Layout, shape: Shape) -> str:
        """Return the text after the last answer, up to the special token that ends it.

        A template may put none there, but begin the next turn with one (GLM-4's `<|user|>`), which then ends it.

        Raises:
            ModelError: there is no such token.
        """
        after = layout.literals[-1]
        if match := self._ends.search(after):
            return after[: match.end()]
        longer = Shape(shape.system, (*shape.thoughts, False))
        contents = marks_of(longer)
        with suppress(ModelError):
            found = located(self._apply(self._messages(contents, longer)), contents)
            after = found.literals[found.slots.index(Slot("answer", len(shape.thoughts) - 1)) + 1]
            if (match := self._ends.search(after)) and match[0] != self._tokenizer.bos_token:
                return after[: match.end()]
        raise ModelError(
            Fault(
                "template-unfit",
                "the chat template ends an answer without a special token: the model could not learn to stop",
                hint=OTHER_TEMPLATE,
            )
        )

    def _earlier(self, layout: Layout, shape: Shape, contents: Mapping[Slot, str]) -> list[AnswerPlace]:
        """Return the places of earlier answers; those are trained that read as they do when they are asked."""
        text, _ = layout.fill(contents)
        places = []
        for turn in range(len(shape.thoughts) - 1):
            asked = self._layout(shape.until(turn))
            alone, _ = asked.fill(contents)
            places.append(replace(asked.answers[-1], trained=text.startswith(alone)))
        return places


def _source_of(tokenizer: "PreTrainedTokenizerBase") -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError:  # several templates, and none of them is the default one
        names = tuple(tokenizer.chat_template) if isinstance(tokenizer.chat_template, dict) else ()
        problem = f"the tokenizer has several chat templates ({', '.join(names)}), and none is called default"
        raise ModelError(Fault("template-unfit", problem, hint=OTHER_TEMPLATE)) from None


def _is_asked(slot: Slot, last: int) -> bool:
    """Whether a slot stands before the answer of the last turn."""
    return slot.turn < last or slot.kind in ("system", "question")


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _failing(messages: Sequence[Message], error: Exception) -> Fault:
    has_system, turns = messages[0]["role"] == "system", sum(each["role"] == "user" for each in messages)
    parts = [name for name, given in (("a system prompt", has_system), ("earlier turns", turns > 1)) if given]
    what = f"a question with {' and '.join(parts)}" if parts else "a question and an answer"
    hint = NO_SYSTEM if has_system else SINGLE_QUESTIONS if turns > 1 else OTHER_TEMPLATE
    return Fault("template-fails", f"the chat template fails on {what} ({error})", hint=hint)
