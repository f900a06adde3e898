"""Escapes control characters, tolerates other encodings, and turns Ctrl-C into a request to stop."""

import signal
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Direction marks can make a text look like a different one.
DIRECTION_MARKS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def escape_controls(text: str) -> str:
    """Return `text` with control characters and direction marks escaped (`\\x1b`); line breaks and tabs stay."""
    return "".join(
        character.encode("unicode_escape").decode() if _is_control(character) else character for character in text
    )


def _is_control(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTION_MARKS


def tolerate_other_encodings() -> None:
    """Print characters that the terminal's encoding lacks as `?`, and replace invalid bytes in the input.

    One such character must not end a conversation.
    """
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "replace"), (sys.stdin, "surrogateescape")):
        with suppress(AttributeError, ValueError):  # replaced by the calling program
            stream.reconfigure(errors=errors)  # type: ignore[union-attr]


def is_readable(text: str) -> bool:
    """Return whether all typed bytes were valid in the terminal's encoding."""
    return not any("\udc80" <= character <= "\udcff" for character in text)


def edit_lines() -> None:
    """Enable line editing and history in `input`, with the width of Chinese characters, if Python has readline."""
    with suppress(ImportError):
        import readline

        readline.set_history_length(1000)


class InterruptRequest:
    """Set by Ctrl-C, for work that stops at its next step.

    Attributes:
        made: Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.made = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT: record the first one; a second one raises as usual."""
        if self.made:
            raise KeyboardInterrupt
        self.made = True


@contextmanager
def catch_interrupt() -> Iterator[InterruptRequest]:
    """Turn Ctrl-C into a request while the block runs; outside the main thread nothing changes."""
    found = InterruptRequest()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = signal.signal(signal.SIGINT, found.receive)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)
