"""What goes to and comes from a terminal: shown and never obeyed, in whatever encoding it has."""

import signal
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Direction marks, which can make a text read as another one.
DIRECTION_MARKS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def harmless(text: str) -> str:
    """Return `text` with what a terminal would obey escaped (`\\x1b`); line breaks, tabs and all signs stay."""
    return "".join(
        character.encode("unicode_escape").decode() if _is_obeyed(character) else character for character in text
    )


def _is_obeyed(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTION_MARKS


def settle_terminal() -> None:
    """Let signs that the terminal's encoding lacks be shown as `?`, and bytes that are none of it be read all the same.

    A session must not end because of one sign.
    """
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "replace"), (sys.stdin, "surrogateescape")):
        with suppress(AttributeError, ValueError):  # a stream that a program around us put there
            stream.reconfigure(errors=errors)  # type: ignore[union-attr]


def is_readable(text: str) -> bool:
    """Say whether every byte of what was typed belonged to a sign of the terminal's encoding."""
    return not any("\udc80" <= character <= "\udcff" for character in text)


def edit_lines() -> None:
    """Give `input` line editing and history, which knows how wide Chinese signs are, where Python has it."""
    with suppress(ImportError):
        import readline

        readline.set_history_length(1000)


class Brake:
    """Whether Ctrl-C was pressed, for work that stops at its next step.

    Attributes:
        pulled: Whether it was.
    """

    def __init__(self) -> None:
        self.pulled = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note the first Ctrl-C; a second one interrupts as usual."""
        if self.pulled:
            raise KeyboardInterrupt
        self.pulled = True


@contextmanager
def brake() -> Iterator[Brake]:
    """Turn Ctrl-C into a request while the block runs; outside the main thread nothing is changed."""
    found = Brake()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = signal.signal(signal.SIGINT, found.receive)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)
