"""Conversations as corpora hold them: lists of messages, and earlier turns; who speaks in them, and in which order."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.examples import Turn
from medqa_finetune.data.notation import value_of

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
# Names of the speakers in public data sets, in lower case.
SPEAKERS = (
    dict.fromkeys(("user", "human", "patient", "client", "prompter", "用户", "患者", "病人", "提问者"), USER)
    | dict.fromkeys(("assistant", "gpt", "bot", "chatbot", "chatgpt", "ai", "model", "doctor"), ASSISTANT)
    | dict.fromkeys(("助手", "医生", "大夫", "医师", "机器人"), ASSISTANT)
    | dict.fromkeys(("system", "developer", "系统"), SYSTEM)
)
SPEAKER_KEYS = ("role", "from", "speaker", "sender")
TEXT_KEYS = ("content", "value", "text", "message")
MESSAGES_AS_TEXT = re.compile(r"\s*\[\s*\{")
TEXT_PARTS = ("text", "input_text", "output_text")
# Keys by which other programs keep a message, or its reasoning, apart from its text. They are not read, but counted.
NOT_READ = ("reasoning_content", "reasoning", "thinking", "tool_calls", "function_call", "weight", "loss")


class Broken(Exception):  # noqa: N818 - it names a reason
    """The cells do not form a dialogue.

    Attributes:
        reason: Short name for the ledger.
        what: What is wrong, for messages; empty for the whole row.
    """

    def __init__(self, reason: str, what: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.what = what


@dataclass(frozen=True)
class Dialogue:
    """At least one question with its answer, and the system prompt if there is one; not cleaned yet."""

    system: str | None
    turns: tuple[Turn, ...]


def _ignored(name: str) -> None:
    """Count nothing."""


@dataclass
class MessageReader:
    """Reads conversations.

    Attributes:
        speakers: Name of a speaker, in lower case, to `user`, `assistant` or `system`.
        speaker_keys: Keys of a message that may name its speaker.
        text_keys: Keys that may hold its text.
        join_turns: Whether messages in succession of one speaker are joined.
        drop_last_question: Whether a last question without an answer is dropped.
        drop_first_answer: Whether what the assistant says before the first question is dropped.
        count: Counts what was done, by name.
        has_read: Whether a list of messages was read, well-formed or not.
    """

    speakers: dict[str, str] = field(default_factory=lambda: dict(SPEAKERS))
    speaker_keys: Sequence[str] = SPEAKER_KEYS
    text_keys: Sequence[str] = TEXT_KEYS
    join_turns: bool = False
    drop_last_question: bool = False
    drop_first_answer: bool = False
    count: Callable[[str], None] = _ignored
    has_read: bool = False

    def read(self, cell: object) -> Dialogue:
        """Return the dialogue in a list of messages, or in a text that holds one in JSON or Python's notation.

        Raises:
            Broken: not such a list, an unknown speaker, a system prompt that is not first, a dialogue that the user
                does not begin or the assistant does not end, or two messages of one speaker in succession.
        """
        self.has_read = True
        cell = self.parsed(cell)
        if not isinstance(cell, list):
            raise Broken("messages_not_a_list")
        if not cell:
            raise Broken("empty_conversation")
        if all(isinstance(message, str) for message in cell):
            # Bare texts take turns, as in UltraChat.
            cell = [{USER if place % 2 == 0 else ASSISTANT: text} for place, text in enumerate(cell)]
        messages = [spoken for message in cell for spoken in self._messages(message)]
        if self.join_turns:
            messages = self._joined(messages)
        system = messages.pop(0)[1] if messages[0][0] == SYSTEM else None
        if self.drop_first_answer and len(messages) > 1 and messages[0][0] == ASSISTANT:
            messages.pop(0)
            self.count("first_answers_dropped")
        if self.drop_last_question and len(messages) > 1 and messages[-1][0] == USER:
            messages.pop()
            self.count("last_questions_dropped")
        self._check_order([speaker for speaker, _ in messages])
        texts = [text for _, text in messages]
        return Dialogue(system, tuple(zip(texts[::2], texts[1::2], strict=True)))

    def read_history(self, cell: object) -> tuple[Turn, ...]:
        """Return the earlier turns in a list of `[question, answer]` or of messages; none for an empty cell.

        Raises:
            Broken: not such a list.
        """
        cell = self.parsed(cell)
        if cell is None or cell in ("", []):
            return ()
        if not isinstance(cell, list):
            raise Broken("history_not_turns")
        if all(isinstance(turn, dict) for turn in cell):
            return self.read(cell).turns
        return tuple(_turn(turn) for turn in cell)

    def messages_in(self, cell: object) -> list[object] | None:
        """Return the messages that a cell is a list of, as `prompt` of a conversation is; None for any other cell."""
        if isinstance(cell, str) and not MESSAGES_AS_TEXT.match(cell):
            return None
        found = self.parsed(cell)
        if not isinstance(found, list) or not found:
            return None
        are = all(isinstance(each, dict) and (self._keys(each) is not None or self._by_name(each)) for each in found)
        return found if are else None

    def parsed(self, cell: object) -> object:
        """Return the list that a text holds, in JSON or in Python's notation, as tables do; anything else as it is."""
        if not isinstance(cell, str) or cell.strip()[:1] not in ("[", "{"):
            return cell
        found = value_of(cell)
        if not isinstance(found, list | dict):
            return cell
        self.count("lists_read_from_text")
        return found

    def _messages(self, message: object) -> Iterator[tuple[str, str]]:
        if not isinstance(message, dict):
            raise Broken("not_a_message", repr(message))
        keys = self._keys(message)
        for name in NOT_READ:
            if message.get(name) not in (None, "", [], {}, True, 1):
                self.count(f"messages_with_{name}_not_read")
        if keys is not None:
            yield self._speaker(message[keys[0]]), self._text(message[keys[1]])
        elif self._by_name(message):
            yield from ((self._speaker(name), self._text(text)) for name, text in message.items())
        else:
            raise Broken("not_a_message", f"keys {', '.join(map(str, message))}")

    def _keys(self, message: dict[object, object]) -> tuple[str, str] | None:
        speaker = next((key for key in self.speaker_keys if key in message), None)
        texts = [key for key in self.text_keys if key in message and key != speaker]
        text = next((key for key in texts if message[key] is not None), texts[0] if texts else None)
        return None if speaker is None or text is None else (speaker, text)

    def _by_name(self, message: dict[object, object]) -> bool:
        """Return whether a message is of the form `{"human": question, "assistant": answer}`."""
        return bool(message) and all(isinstance(key, str) and key.strip().lower() in self.speakers for key in message)

    def _speaker(self, name: object) -> str:
        known = self.speakers.get(name.strip().lower()) if isinstance(name, str) else None
        if known is None:
            raise Broken("unknown_speaker", repr(name))
        return known

    def _text(self, text: object) -> str:
        if isinstance(text, dict):
            text = [text]
        if isinstance(text, list) and text:
            return "\n".join(_part(part) for part in text)
        if not isinstance(text, str):
            raise Broken("message_not_text")
        return text

    def _joined(self, messages: list[tuple[str, str]]) -> list[tuple[str, str]]:
        joined = messages[:1]
        for speaker, text in messages[1:]:
            if speaker == joined[-1][0]:
                joined[-1] = (speaker, f"{joined[-1][1]}\n{text}")
                self.count("messages_joined")
            else:
                joined.append((speaker, text))
        return joined

    def _check_order(self, speakers: list[str]) -> None:
        if SYSTEM in speakers:
            raise Broken("system_prompt_not_first")
        if not speakers:
            raise Broken("empty_conversation")
        if speakers[0] != USER:
            raise Broken("user_does_not_begin")
        if any(one == other for one, other in pairwise(speakers)):
            raise Broken("one_speaks_twice_running")
        if speakers[-1] != ASSISTANT:
            raise Broken("user_has_the_last_word")


def message_reader(corpus: CorpusConfig, count: Callable[[str], None] = _ignored) -> MessageReader:
    """Return the reader that a corpus's settings describe."""
    own = {USER: corpus.user_names, ASSISTANT: corpus.assistant_names, SYSTEM: corpus.system_names}
    names = {name.strip().lower(): speaker for speaker, listed in own.items() for name in listed}
    return MessageReader(
        SPEAKERS | names,
        corpus.message_keys[:1] or SPEAKER_KEYS,
        corpus.message_keys[1:] or TEXT_KEYS,
        join_turns=corpus.join_turns,
        drop_last_question=corpus.drop_last_question,
        drop_first_answer=corpus.drop_first_answer,
        count=count,
    )


def _turn(turn: object) -> Turn:
    if not (isinstance(turn, list | tuple) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
        raise Broken("history_not_turns")
    return turn[0], turn[1]


def _part(part: object) -> str:
    """Return the text of a part of a message: a text, or an object that says it is one."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type", "text") in TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type", "without a type") if isinstance(part, dict) else type(part).__name__
    raise Broken("part_not_text", f"a part of the kind {kind!r}")
