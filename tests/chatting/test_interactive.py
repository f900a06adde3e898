"""What each line typed in a session does; the whole session in a terminal is in `tests/test_chat_terminal.py`."""

import json
import os
import signal
from pathlib import Path

import pytest

from medqa_finetune.chatting.chat_model import Sampling, Turn
from medqa_finetune.chatting.interactive import HELP, TerminalChat
from tests.chatting.fakes import Parrot, talk_with


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def session(parrot: Parrot) -> TerminalChat:
    return TerminalChat(talk_with(parrot))


def test_an_answer_is_printed_once(session: TerminalChat, capsys: pytest.CaptureFixture[str]) -> None:
    session.take("感冒怎么办？")
    assert capsys.readouterr().out == "多喝水。\n"
    assert session.conversation.turns == [Turn("感冒怎么办？", "多喝水。")]


def test_a_changed_prefix_is_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    class Wavering(Parrot):
        def stream(self, *_: object) -> object:  # type: ignore[override]
            yield from ("a .", "a. b")

    TerminalChat(talk_with(Wavering())).take("头痛")
    assert capsys.readouterr().out == "a .\na. b\n"


def test_the_note_precedes_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalChat(talk_with(Parrot(note="the question is cut"))).take("头痛")
    assert capsys.readouterr().out == "(the question is cut)\n多喝水。\n"


def test_no_answer_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalChat(talk_with(Parrot(""))).take("头痛")
    assert capsys.readouterr().out == "(no answer)\n"


def test_ctrl_c_stops_only_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    parrot = Parrot(meanwhile=lambda: os.kill(os.getpid(), signal.SIGINT))
    session = TerminalChat(talk_with(parrot))
    session.take("头痛")
    assert capsys.readouterr().out == "多 [stopped]\n"
    assert session.conversation.turns == [Turn("头痛", "多", stopped=True)]
    parrot._meanwhile = lambda: None
    session.take("多久？")
    assert capsys.readouterr().out == "多喝水。\n"


def test_a_second_ctrl_c_is_no_worse(capsys: pytest.CaptureFixture[str]) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    session = TerminalChat(talk_with(Parrot(meanwhile=twice)))
    session.take("头痛")
    assert capsys.readouterr().out == " [stopped]\n"
    assert session.conversation.turns == [Turn("头痛", "", stopped=True)]


def test_an_answer_is_not_obeyed_by_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalChat(talk_with(Parrot("\x1b[2J"))).take("头痛")
    assert capsys.readouterr().out == "\\x1b[2J\n"


def test_help_lists_every_command(session: TerminalChat, capsys: pytest.CaptureFixture[str]) -> None:
    session.take("/help")
    assert capsys.readouterr().out == f"{HELP}\n"


@pytest.mark.parametrize(
    ("line", "system", "questions"),
    [
        ("/system 简短。", "简短。", []),
        ("/system", "", []),
        ("/reset", "", []),
        ("//etc 是什么？", "", ["头痛", "/etc 是什么？"]),
        ("", "", ["头痛"]),
    ],
)
def test_a_line_changes_the_conversation(line: str, system: str, questions: list[str], session: TerminalChat) -> None:
    session.take("头痛")
    session.take(line)
    assert session.conversation.system == system
    assert [turn.question for turn in session.conversation.turns] == questions


def test_commands_change_the_sampling(
    session: TerminalChat, parrot: Parrot, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in ("/temperature 0.7", "/top-p 0.9", "/max-tokens 20", "头痛"):
        session.take(line)
    assert parrot.samplings == [Sampling(0.7, 0.9, 20)]
    assert capsys.readouterr().out.startswith("temperature is 0.7.\ntop-p is 0.9.\nmax-tokens is 20.\n")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/temperature warm", "/temperature=warm: "), ("/temperature -1", "temperature=-1.0: "),
        ("/temperature nan", "temperature=nan"), ("/top-p 0", "top_p=0.0"), ("/top-p 1.5", "top_p=1.5"),
        ("/max-tokens 0", "max_new_tokens=0"), ("/max-tokens 1.5", "/max-tokens=1.5: "),
        ("/max-tokens", "/max-tokens='': "), ("/nonsense", "/nonsense; /help"), ("/save", "/save: "),
        ("/\x1b[2J", "command /\\x1b[2J;"), ("/temperature \x1b[2J", "/temperature='\\x1b[2J': "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_changes_nothing(
    line: str, says: str, session: TerminalChat, capsys: pytest.CaptureFixture[str]
) -> None:
    before = session.conversation.sampling
    session.take(line)
    assert says in capsys.readouterr().out
    assert session.conversation.sampling == before
    assert session.conversation.turns == []


def test_a_conversation_is_saved_and_saved_again(
    session: TerminalChat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "对话 一.json"
    for line in ("头痛", f"/save {path}", "多久？", f"/save {path}"):
        session.take(line)
    assert capsys.readouterr().out.count("Saved") == 2
    messages = json.loads(path.read_text(encoding="utf-8"))["messages"]
    assert [each["content"] for each in messages] == ["头痛", "多喝水。", "多久？", "多喝水。"]


def test_save_does_not_overwrite_files(
    session: TerminalChat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.json"
    path.write_text("mine", encoding="utf-8")
    session.take(f"/save {path}")
    assert f"{path}: " in capsys.readouterr().out
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_place_that_cannot_be_written_is_named(
    session: TerminalChat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    session.take(f"/save {tmp_path / 'file' / 'talk.json'}")
    assert f"{tmp_path / 'file' / 'talk.json'}: " in capsys.readouterr().out


def test_the_chat_ends_at_exit_or_eof(session: TerminalChat, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["头痛", "/exit", "never read"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert session.run() == 0
    assert next(lines) == "never read"

    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    assert session.run() == 0


def test_bytes_of_another_encoding_are_not_asked(
    session: TerminalChat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(["\udcb8\udcd0", "/exit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert session.run() == 0
    assert "not in the terminal's encoding" in capsys.readouterr().out
    assert session.conversation.turns == []
