import io
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from medqa_finetune.log import PACKAGE, log_to, log_to_terminal, visible

OURS = f"{PACKAGE}.experiment"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Put back what pytest had set up."""
    root, package = logging.getLogger(), logging.getLogger(PACKAGE)
    handlers, levels = root.handlers[:], (root.level, package.level)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    package.setLevel(levels[1])


def test_our_messages_are_one_short_line_with_time(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_terminal()
    logging.getLogger(OURS).info("step %d", 3)
    time, message = capsys.readouterr().err.split(" ", 1)
    assert [len(part) for part in time.split(":")] == [2, 2, 2]
    assert message == "step 3\n"


def test_names_in_a_message_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_terminal()
    logging.getLogger(OURS).warning("%s is odd\nand 药 is not", "\x1b[31m\r\ud83d")
    assert capsys.readouterr().err.endswith("\\x1b[31m\\r\\ud83d is odd\nand 药 is not\n")


def test_details_stay_off_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_terminal()
    logging.getLogger(OURS).debug("detail")
    assert capsys.readouterr().err == ""


def test_others_speak_from_warnings_on_and_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_terminal()
    for _ in range(2):
        logging.getLogger("foreign.library").info("chatter")
        logging.getLogger("foreign.library").warning("careful")
    output = capsys.readouterr().err
    assert output.count("careful") == 1
    assert "chatter" not in output


def test_our_own_messages_may_repeat(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_terminal()
    for _ in range(2):
        logging.getLogger(OURS).info("again")
    assert capsys.readouterr().err.count("again") == 2


def test_warnings_of_python_are_kept_for_log_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log_to_terminal()
    with warnings.catch_warnings(), log_to(tmp_path / "log.txt"):
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old name", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err == ""
    assert "FutureWarning: old name" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_terminal_leaves_steps_to_the_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    log_to_terminal()
    logging.getLogger(f"{PACKAGE}.training.fit").info("step 1/6")
    logging.getLogger(OURS).info("done")
    assert "step" not in terminal.getvalue()
    assert "done" in terminal.getvalue()


def test_setting_up_twice_prints_once(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_terminal()
    log_to_terminal()
    logging.getLogger(OURS).info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_log_file_holds_details_tracebacks_and_chinese(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log_to_terminal()
    with log_to(tmp_path / "new" / "log.txt"):
        logging.getLogger(OURS).debug("头痛")
        try:
            raise ValueError("torn")
        except ValueError:
            logging.getLogger(OURS).exception("failed")
    text = (tmp_path / "new" / "log.txt").read_text(encoding="utf-8")
    assert f"DEBUG {OURS}: 头痛" in text
    assert "Traceback" in text
    assert text.endswith("ValueError: torn\n")


def test_log_file_is_appended_to(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log_to_terminal()
    for message in ("first", "second"):
        with log_to(tmp_path / "log.txt"):
            logging.getLogger(OURS).info(message)
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["first", "second"]


def test_log_file_is_closed_after_a_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log_to_terminal()
    with pytest.raises(RuntimeError), log_to(tmp_path / "log.txt"):
        raise RuntimeError
    logging.getLogger(OURS).info("later")
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == ""
    assert "later" in capsys.readouterr().err


def test_visible() -> None:
    assert visible("药\n\x1b\u202e") == "药\\n\\x1b\\u202e"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants a file that is always full")
def test_full_disk_under_the_log_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with log_to(Path("/dev/full")):
        logging.getLogger(OURS).warning("anything")
    assert capsys.readouterr().err == ""
