"""What a process says it is doing, and how that reaches the launcher, a log and a notebook."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from medqa_finetune import log, progress
from medqa_finetune.progress import (
    PROGRESS_VARIABLE,
    Doing,
    StageClock,
    advance,
    begin,
    in_a_line,
    read_progress,
    shown,
    track,
    within,
)


class Watching:
    """Remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Doing] = []
        self.closed = False

    def see(self, doing: Doing) -> None:
        self.seen.append(doing)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Watching:
    watcher = Watching()
    monkeypatch.setattr(progress, "_watchers", lambda: [watcher])
    return watcher


def test_nothing_is_shown_outside_of_a_run(watching: Watching) -> None:
    begin("training", 3)
    advance(1)
    assert watching.seen == []


def test_steps_and_loss_belong_to_the_stage(watching: Watching) -> None:
    with shown():
        begin("training", 3)
        advance(1, loss=2.5)
        advance(2)
        begin("saving")
    assert watching.seen == [
        Doing("training", 0, 3), Doing("training", 1, 3, 2.5), Doing("training", 2, 3, 2.5), Doing("saving"),
    ]  # fmt: skip
    assert watching.closed


def test_training_goes_on_after_a_validation(watching: Watching) -> None:
    with shown():
        begin("training", 3)
        advance(2)
        with within("validating", 10):
            advance(10)
    assert [(each.name, each.at) for each in watching.seen][-3:] == [
        ("validating", 0), ("validating", 10), ("training", 2),
    ]  # fmt: skip


def test_inner_block_leaves_the_outer_one_shown(watching: Watching) -> None:
    with shown():
        assert list(track(["a", "b"], "answering", of=6, done=2)) == ["a", "b"]
        assert not watching.closed
    assert watching.seen == [Doing("answering", 2, 6)]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PROGRESS_VARIABLE, str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


def test_launcher_reads_what_a_cell_says(file: Path) -> None:
    assert read_progress(file) is None
    with shown():
        begin("loading", detail="tiny")
        assert read_progress(file) == Doing("loading", detail="tiny")
        begin("training", 3)
        assert read_progress(file) == Doing("training", 0, 3)


def test_quick_steps_are_not_all_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shown():
        begin("training", 3)
        advance(1)
        assert read_progress(file) == Doing("training", 0, 3)
        monkeypatch.setattr(progress, "CHANGE_SECONDS", 0.0)
        advance(2)
        assert read_progress(file) == Doing("training", 2, 3)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"another": 1}', b"\xff"])
def test_unreadable_progress_is_none(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert read_progress(file) is None


def test_a_launcher_that_is_gone_disturbs_nothing(file: Path) -> None:
    file.parent.rmdir()
    with shown():
        begin("training", 3)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither a terminal nor a launcher, and a minute takes a moment."""
    monkeypatch.delenv(PROGRESS_VARIABLE, raising=False)
    monkeypatch.setattr(progress, "is_terminal", lambda: False)
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.02)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    level = logging.getLogger(log.PACKAGE).level
    yield
    logging.getLogger(log.PACKAGE).setLevel(level)


def waited(condition: object) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and not condition():  # type: ignore[operator]
        time.sleep(0.01)


@pytest.mark.usefixtures("plain")
def test_a_long_step_has_lines_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, log.PACKAGE)
    with shown():
        begin("training", 3)
        advance(1, loss=2.5)
        waited(lambda: len(caplog.records) >= 2)
    assert len(caplog.records) >= 2
    assert {"training", "1/3", "loss 2.500"} <= set(caplog.records[-1].getMessage().split("  "))


@pytest.mark.usefixtures("plain")
def test_without_logging_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger(log.PACKAGE).setLevel(logging.WARNING)
    said = ""
    with shown():
        begin("loading", detail="tiny")
        until = time.monotonic() + 10
        while not said and time.monotonic() < until:
            time.sleep(0.01)
            said = capsys.readouterr().err
    assert said.startswith("loading tiny")


def test_time_left_includes_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = StageClock()
    clock.remaining(Doing("training", 0, 4))
    clock.remaining(Doing("validating", 0, 9))
    now[0] = 20.0
    assert clock.remaining(Doing("training", 1, 4)) == 60.0


def test_a_line_without_an_end_says_since_when() -> None:
    assert in_a_line(Doing("loading", detail="tiny"), None, 70) == "loading tiny  since 1 min"
    assert in_a_line(Doing("training", 1, 4, 2.0), 60) == "training  1/4  loss 2.000  1 min left"


@pytest.mark.parametrize(
    ("environment", "terminal"),
    [
        ({}, True),
        ({"TERM": "dumb"}, False),
        ({"JPY_PARENT_PID": "7"}, False),
        ({"TERM": "xterm-color", "CLICOLOR": "1", "PAGER": "cat", "GIT_PAGER": "cat"}, False),
        ({"TERM": "xterm-256color", "CLICOLOR": "1"}, True),
    ],
)
def test_cell_of_a_notebook_is_no_terminal(
    environment: dict[str, str], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "JPY_PARENT_PID", "CLICOLOR", "PAGER", "GIT_PAGER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setitem(os.environ, name, value)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True))
    assert log.is_terminal() is terminal
