"""A session of the chat in a terminal: a pseudo-terminal types what a person types, and reads what a person reads."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import ROOT

pytestmark = pytest.mark.slow

CTRL_C, CTRL_D, BACKSPACE, LEFT = b"\x03", b"\x04", b"\x7f", b"\x1b[D"
# Makes the pseudo-terminal the one whose Ctrl-C interrupts, and becomes the program.
IN_CONTROL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, *arguments: str, cwd: Path, **variables: str) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 100))
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "LC_ALL": "C.UTF-8"} | variables
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_CONTROL, sys.executable, "-m", "medqa_finetune.chat", *arguments], cwd=cwd,
            env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.encoding = variables.get("PYTHONIOENCODING", "utf-8")
        self._raw, self._read = b"", 0

    def type(self, *keys: bytes | str) -> None:
        """Press keys."""
        for key in keys:
            os.write(self._master, key.encode(self.encoding) if isinstance(key, str) else key)

    def read_until(self, text: str, seconds: float = 120) -> str:
        """Return what is shown from the last reading on, up to and with `text`."""
        deadline = time.monotonic() + seconds
        while text not in self._unread():
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"waited for {text!r}, saw {self._unread()!r}"
            try:
                self._raw += os.read(self._master, 65536)
            except OSError:  # the program has ended
                raise AssertionError(f"ended before {text!r}: {self._unread()!r}") from None
        shown, _, _ = self._unread().partition(text)
        self._read += len(shown + text)
        return shown + text

    def read_some(self, seconds: float = 120) -> str:
        """Return what is shown next, as soon as there is something."""
        deadline = time.monotonic() + seconds
        while not self._unread() and time.monotonic() < deadline:
            self._raw += os.read(self._master, 65536)
        shown = self._unread()
        self._read += len(shown)
        return shown

    def _unread(self) -> str:
        """Return what is shown and was not read yet, without what moves the cursor."""
        text = self._raw.decode(self.encoding, "replace")
        return ESCAPES.sub("", text).replace("\r", "")[self._read :]

    def ask(self, question: str) -> str:
        """Type a question and return what is shown in answer to it, the next prompt left out."""
        self.type(question, "\r")
        self.read_until("\n")
        return self.read_until("\n> ").removesuffix("\n> ")

    def ended(self, seconds: float = 30) -> int:
        """Return the exit code."""
        return self.process.wait(seconds)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal("model=tiny", "threads=1", "max_new_tokens=48", cwd=tmp_path)
    yield opened
    opened.close()


def test_a_session(terminal: Terminal, tmp_path: Path) -> None:
    greeting = terminal.read_until("> ")
    assert "tiny. " in greeting
    assert "不构成医疗建议" in greeting
    assert "/help lists the commands" in greeting

    first = terminal.ask("你好")
    assert len(first) > 2
    second = terminal.ask("再说一遍。")
    assert second
    assert "New conversation" in terminal.ask("/reset")
    assert terminal.ask("你好") == first
    assert "with instructions" in terminal.ask("/system 用一句话回答。")
    terminal.ask("你好")
    assert "temperature is 0.9" in terminal.ask("/temperature 0.9")
    assert "top_p=3.0" in terminal.ask("/top-p 3")
    assert "Saved 1 turns in 对话.json" in terminal.ask("/save 对话.json")
    saved = json.loads((tmp_path / "对话.json").read_text(encoding="utf-8"))
    assert [message["role"] for message in saved["messages"]] == ["system", "user", "assistant"]
    assert saved["messages"][0]["content"] == "用一句话回答。"
    assert "command /sing;" in terminal.ask("/sing")
    terminal.type("/exit", "\r")
    assert terminal.ended() == 0


def test_an_answer_streams_and_ctrl_c_stops_it(tmp_path: Path) -> None:
    """Drawn so evenly that the end token all but never comes, an answer is as long as it may be: some seconds."""
    terminal = Terminal("model=tiny", "threads=1", "temperature=20", "max_new_tokens=900", cwd=tmp_path)
    try:
        terminal.read_until("> ")
        terminal.type("头痛怎么办？", "\r")
        terminal.read_until("\n")
        first = terminal.read_some()
        terminal.type(CTRL_C)
        rest = terminal.read_until("[stopped]\n> ")
        assert first
        assert len(first + rest) < 900
        terminal.ask("/temperature 0")
        terminal.ask("/max-tokens 8")
        assert terminal.ask("继续说。")
        terminal.ask("/save talk.json")
        messages = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))["messages"]
        assert [message.get("stopped", False) for message in messages] == [False, True, False, False]
        assert messages[1]["content"]
        terminal.type(CTRL_C)
        assert terminal.ended() == 130
    finally:
        terminal.close()


def test_ctrl_d_leaves_in_peace(terminal: Terminal) -> None:
    terminal.read_until("> ")
    terminal.type(CTRL_D)
    assert terminal.ended() == 0


def test_chinese_signs_are_edited_whole(terminal: Terminal, tmp_path: Path) -> None:
    terminal.read_until("> ")
    terminal.type("感冒药", BACKSPACE, "了怎办", LEFT, "么", "\r")
    terminal.read_until("\n> ")
    terminal.ask("/save talk.json")
    messages = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))["messages"]
    assert messages[0]["content"] == "感冒了怎么办"


def test_a_terminal_of_another_encoding(tmp_path: Path) -> None:
    # Few machines have a Chinese locale of another encoding; what matters of it is that readline leaves bytes alone.
    (tmp_path / "inputrc").write_text("set convert-meta off\nset input-meta on\nset output-meta on\n", encoding="utf-8")
    terminal = Terminal(
        "model=tiny", "threads=1", "max_new_tokens=24", cwd=tmp_path, PYTHONIOENCODING="gb18030", LC_ALL="C",
        PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", INPUTRC=str(tmp_path / "inputrc"),
    )  # fmt: skip
    try:
        terminal.read_until("> ")
        assert terminal.ask("你好")
        terminal.type(b"\xff\xff\r")
        terminal.read_until("not in the terminal's encoding")
        terminal.read_until("> ")
        terminal.ask("/save talk.json")
        messages = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))["messages"]
        assert messages[0]["content"] == "你好"
    finally:
        terminal.close()


def test_a_closed_terminal_leaves_no_process_behind(terminal: Terminal) -> None:
    terminal.read_until("> ")
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.ended() == -signal.SIGHUP
