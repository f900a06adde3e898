"""What a terminal is shown and what it says, in any encoding."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from medqa_finetune.chatting.terminal import catch_interrupt, escape_controls, is_readable
from tests.commands import ROOT


@pytest.mark.parametrize("text", ["感冒\u3000发烧", "两行\n一\t表", "👨\u200d👩\u200d👧", "é ℃ ②", ""])
def test_signs_stay(text: str) -> None:
    assert escape_controls(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b[2J", "\\x1b[2J"), ("\x07", "\\x07"), ("a\rb", "a\\rb"), ("\u202egnp", "\\u202egnp"), ("\x9b", "\\x9b"),
     ("\udc80", "\\udc80")],
)  # fmt: skip
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


def test_bytes_of_another_encoding_are_seen() -> None:
    assert is_readable("感冒")
    assert not is_readable("感冒".encode("gb18030").decode("utf-8", "surrogateescape"))


def test_the_second_ctrl_c_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with catch_interrupt() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.made
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_nothing_is_changed() -> None:
    seen: list[object] = []

    def work() -> None:
        with catch_interrupt() as stop:
            seen.append((stop.made, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGINT))]


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "感冒 😷"), ("gb18030", "感冒 😷"), ("gbk", "感冒 ?"), ("ascii", "?? ?")]
)
def test_unencodable_characters_are_replaced(encoding: str, shown: str) -> None:
    code = "from medqa_finetune.chatting.terminal import tolerate_other_encodings as s; s(); print('感冒 😷')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONIOENCODING": encoding}, cwd=ROOT, capture_output=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.decode(encoding).strip() == shown
