"""From the cells of a row to a dialogue: who said what, in which order, and what is wrong with it."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from medqa_finetune.data.examples import Turn

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
# The names of OpenAI's form and of ShareGPT's.
SPEAKERS = {"user": USER, "human": USER, "assistant": ASSISTANT, "gpt": ASSISTANT, "system": SYSTEM}
FORMS = (("role", "content"), ("from", "value"))


class Broken(Exception):  # noqa: N818 - it names a reason
    """The cells are no dialogue.

    Attributes:
        reason: A short name for the ledger.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Dialogue:
    """Questions with their answers, one at least, and the system prompt if there is one; nothing is cleaned yet."""

    system: str | None
    turns: tuple[Turn, ...]


def read_messages(cell: Any) -> Dialogue:
    """Return the dialogue in a list of messages, `{"role", "content"}` or `{"from", "value"}`.

    Raises:
        Broken: it is no such list, somebody unknown speaks, a system prompt does not come first, the user does not
            begin, one speaks twice running, or the user has the last word.
    """
    if not isinstance(cell, list):
        raise Broken("messages_not_a_list")
    if not cell:
        raise Broken("empty_conversation")
    said = [_message(message) for message in cell]
    system = said.pop(0)[1] if said[0][0] == SYSTEM else None
    speakers = [speaker for speaker, _ in said]
    if SYSTEM in speakers:
        raise Broken("system_prompt_not_first")
    if not said:
        raise Broken("empty_conversation")
    if speakers[0] != USER:
        raise Broken("user_does_not_begin")
    if any(one == other for one, other in pairwise(speakers)):
        raise Broken("one_speaks_twice_running")
    if speakers[-1] != ASSISTANT:
        raise Broken("user_has_the_last_word")
    texts = [text for _, text in said]
    return Dialogue(system, tuple(zip(texts[::2], texts[1::2], strict=True)))


def read_history(cell: Any) -> tuple[Turn, ...]:
    """Return the earlier turns in a list of `[question, answer]`; none for an empty cell.

    Raises:
        Broken: it is no such list.
    """
    if cell is None or cell in ("", []):
        return ()
    if not isinstance(cell, list):
        raise Broken("history_not_turns")
    return tuple(_turn(turn) for turn in cell)


def _turn(turn: Any) -> Turn:
    if not (isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
        raise Broken("history_not_turns")
    return turn[0], turn[1]


def _message(message: Any) -> tuple[str, str]:
    if isinstance(message, dict):
        for speaker_key, text_key in FORMS:
            if speaker_key in message and text_key in message:
                return _speaker(message[speaker_key]), _text(message[text_key])
    raise Broken("not_a_message")


def _speaker(name: Any) -> str:
    known = SPEAKERS.get(name.strip().lower()) if isinstance(name, str) else None
    if known is None:
        raise Broken("unknown_speaker")
    return known


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise Broken("message_not_text")
    return text
