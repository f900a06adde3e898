"""What people see of a launch: columns, lines, the time remaining, a table in a terminal."""

import contextlib
import io
import re
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from medqa_finetune.errors import Fault
from medqa_finetune.languages.translate import Kind, catalogue
from medqa_finetune.launch import display
from medqa_finetune.launch.display import (
    COLUMNS,
    UNITS,
    CellView,
    LiveDisplay,
    draw_table,
    view_of,
)
from medqa_finetune.launch.exit_status import ExitStatus
from medqa_finetune.launch.scheduler import Job
from medqa_finetune.launch.stage import Stage
from medqa_finetune.progress import StageClock, duration
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import RunDir

STAGE = Stage("training", 3, 9, 1.23456, 12345.6, 7.26)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (89, "1 min"), (600, "10 min"), (3599, "1 h 00 min"),
     (3 * 3600 + 5 * 60, "3 h 05 min"), (100 * 3600, "100 h 00 min")],
)  # fmt: skip
def test_times_are_for_people(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_everything_known_has_its_column() -> None:
    cells = CellView("training", "training", STAGE, 90, 45, "0").figures()
    assert dict(zip(COLUMNS, cells, strict=True)) == {
        "step": "3/9", "loss": "1.235", "tokens/s": "12,346", "VRAM": "7.3 GiB", "left": "2 min", "so far": "45 s",
        "GPU": "0",
    }  # fmt: skip


def test_what_is_not_known_is_a_dash() -> None:
    assert CellView("pending", "pending").figures() == ["-"] * len(COLUMNS)
    assert len(UNITS) == len(COLUMNS)


def test_a_line_says_the_same_with_units() -> None:
    line = CellView("training", "training", STAGE, 90, 45, "0").line()
    assert line == "training  3/9  loss 1.235  12,346 tokens/s  7.3 GiB  2 min left  45 s so far  GPU 0"


def test_a_cell_that_ended_has_its_story() -> None:
    assert CellView("failed", "failed: bad luck  in 3 s", elapsed=3).line() == "failed: bad luck  in 3 s"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(["a"], [], CellDir(RunDir(tmp_path)), None)


def test_cell_waits_for_a_slot_or_another_process(job: Job) -> None:
    assert view_of(job, StageClock()).state == "pending"
    job.next_check = 1.0
    assert view_of(job, StageClock()).state == "waiting for another process"


@pytest.mark.parametrize(
    ("exit_status", "note", "text"),
    [
        (ExitStatus("done"), "done before, untouched", "done before, untouched"),
        (ExitStatus("failed", "bad luck"), "", "failed: bad luck"),
        (ExitStatus("interrupted", "by hand"), "", "interrupted: by hand"),
    ],
)
def test_cell_ends_with_its_result_or_its_reason(job: Job, exit_status: ExitStatus, note: str, text: str) -> None:
    job.finish(exit_status, note)
    assert view_of(job, StageClock()) == CellView(exit_status.state, text)


def test_elapsed_time_stops_at_the_end(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    job.first_start = clock.now
    clock.now += 10
    job.finish(ExitStatus("failed", "bad luck"))
    clock.now += 100
    assert view_of(job, StageClock()).text == "failed: bad luck  in 10 s"


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_time_left_follows_the_speed_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stage_clock = Clock(monkeypatch), StageClock()
    # Gone on with at step 100 of 200: what was done before says nothing of the stage_clock.
    assert stage_clock.remaining(Stage("training", 100, 200)) is None
    clock.now += 30
    assert stage_clock.remaining(Stage("training", 110, 200)) == pytest.approx(270)
    assert stage_clock.remaining(Stage("training", 200, 200)) == 0


def test_every_stage_and_attempt_is_timed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stage_clock = Clock(monkeypatch), StageClock()
    stage_clock.remaining(Stage("training", 0, 10))
    clock.now += 60
    assert stage_clock.remaining(Stage("answering", 100, 400)) is None
    clock.now += 10
    assert stage_clock.remaining(Stage("answering", 200, 400)) == pytest.approx(20)
    assert stage_clock.remaining(Stage("answering", 50, 400)) is None


def test_stage_without_count_has_no_end_in_sight() -> None:
    assert StageClock().remaining(Stage("preparing")) is None


DONE = CellView("done", "done  ROUGE-L 12.30  in 5 min", elapsed=300)
FAILED = CellView("failed", "failed: out of memory  in 2 s", elapsed=2)
TRAINING = CellView("training", "training", Stage("training", 3, 9, 1.2345, 3400.0, 7.26), 90.0, 45.0, "0")
PENDING = CellView("pending", "pending")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("LINES", "24")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, CellView]:
    """What the cells are at, by label, to be set by a test; shown as often as asked."""
    views: dict[str, CellView] = {}

    def look(job: Job, _: StageClock) -> CellView:
        return views.get(job.label, PENDING)

    monkeypatch.setattr(display, "view_of", look)
    monkeypatch.setattr(display, "REFRESH_SECONDS", 0)
    return views


def jobs(*labels: str) -> list[Job]:
    return [Job([label], [], CellDir(RunDir(Path("nowhere"))), None, label=label) for label in labels]


def test_outside_terminal_every_change_of_state_is_line(
    shown: dict[str, CellView], capsys: pytest.CaptureFixture[str]
) -> None:
    with LiveDisplay(jobs("a", "b")) as lines:
        for glance in (PENDING, TRAINING, TRAINING, CellView("answering", "answering"), DONE):
            shown["a"] = glance
            lines.show()
        shown["b"] = FAILED
    assert capsys.readouterr() == (
        "", "a  training  3/9  loss 1.234  3,400 tokens/s  7.3 GiB  2 min left  45 s so far  GPU 0\na  answering\n"
        "a  done  ROUGE-L 12.30  in 5 min\nb  failed: out of memory  in 2 s\n",
    )  # fmt: skip


def test_lines_report_progress_of_running_cells(
    shown: dict[str, CellView], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "LINE_SECONDS", 0)
    shown["a"], shown["b"] = TRAINING, DONE
    with LiveDisplay(jobs("a", "b")) as lines:
        lines.show()
        lines.show()
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("a  training") for line in said) == 3
    assert sum(line.startswith("b") for line in said) == 1


def test_nothing_is_shown_more_often_than_people_read(
    shown: dict[str, CellView], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "REFRESH_SECONDS", 3600)
    lines = LiveDisplay(jobs("a"))
    lines.show()
    shown["a"] = TRAINING
    lines.show()
    assert capsys.readouterr().err == ""


def plain(written: str) -> list[str]:
    """Return the lines that a terminal was sent, without what it obeys."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written).splitlines() if line.strip()]


def test_in_a_terminal_there_is_a_table(shown: dict[str, CellView]) -> None:
    shown |= {"[1/3] lora_20k": DONE, "[2/3] 方法": TRAINING}
    labels = ("[1/3] lora_20k", "[2/3] 方法", "[3/3] none")
    with contextlib.redirect_stderr(Terminal()) as terminal, LiveDisplay(jobs(*labels)):
        pass
    last = plain(terminal.getvalue())[-5:]
    assert last[0].split("  ")[0] == "cell"
    assert "lora_20k" in last[1]
    assert "done  ROUGE-L 12.30  in 5 min" in last[1]
    assert re.search(r"方法 +training +3/9 +1\.234 +3,400 +7\.3 GiB +2 min +45 s +0$", last[2])
    assert re.search(r"none +pending( +-){7}$", last[3])
    assert last[4] == "1 done, 1 training, 1 pending"


def test_failure_is_printed_once_above_the_table(shown: dict[str, CellView]) -> None:
    with contextlib.redirect_stderr(Terminal()) as terminal, LiveDisplay(jobs("a")) as table:
        shown["a"] = FAILED
        table.show()
        table.show()
    assert terminal.getvalue().count("failed: out of memory") == 1


def test_the_table_leaves_the_terminal_as_it_was(shown: dict[str, CellView]) -> None:
    with contextlib.redirect_stderr(Terminal()) as terminal:
        with pytest.raises(KeyboardInterrupt), LiveDisplay(jobs("a")):
            raise KeyboardInterrupt
        assert sys.stderr is terminal
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")  # the cursor is back


def test_a_terminal_that_knows_no_cursor_has_lines(shown: dict[str, CellView], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with contextlib.redirect_stderr(Terminal()) as stream, LiveDisplay(jobs("a")):
        shown["a"] = DONE
    assert stream.getvalue() == "a  done  ROUGE-L 12.30  in 5 min\n"


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_nothing_that_a_terminal_would_obey_gets_through(shown: dict[str, CellView], kind: type[io.StringIO]) -> None:
    nasty = "\x1b]0;title\x07\r\x1b[2J[bold]x[/bold]"
    shown[nasty] = CellView("failed", f"failed: {nasty}")
    with contextlib.redirect_stderr(kind()) as stream, LiveDisplay(jobs(nasty)) as table:
        table.print_line(nasty)
        table.show()
    written = stream.getvalue()
    assert "\x1b]0" not in written
    assert "\x1b[2J" not in written
    assert "\x07" not in written
    assert "\\x1b]0;title\\x07\\r\\x1b[2J[bold]x[/bold]" in "".join(plain(written))


class Closed(Terminal):
    """A terminal whose window was closed."""

    def write(self, _: str) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_closed_terminal_is_no_error(
    shown: dict[str, CellView], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Closed()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    with contextlib.redirect_stderr(stream), LiveDisplay(jobs("a")) as table:
        shown["a"] = FAILED
        table.show()
        table.print_line("stopping")


def rows(cells: list[tuple[str, CellView]], height: int, width: int = 140) -> list[str]:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width)
    console.print(draw_table(cells, height, width))
    assert isinstance(console.file, io.StringIO)
    return plain(console.file.getvalue())[1:-1]


def test_small_terminal_keeps_running_cells_first() -> None:
    cells = [("a", DONE), ("b", TRAINING), ("c", FAILED), ("d", PENDING), ("e", TRAINING), ("f", PENDING)]
    names = [[line[0] for line in rows(cells, height)] for height in (50, 12, 11, 9, 8, 1)]
    assert [len(kept) for kept in names] == [6, 6, 5, 3, 2, 1]
    assert names[2:] == [list("bcdef"), list("bce"), list("be"), list("b")]


def test_narrow_terminal_cuts_names_not_figures() -> None:
    (line,) = rows([("[1/1] lora_20k__method.rank=8__train.learning_rate=0.001", TRAINING)], 50, width=90)
    assert "…" in line
    assert "3,400" in line
    assert line.endswith(" 0")


def test_long_names_stay_distinct_in_eighty_columns() -> None:
    stem = "lora_20k__corpus=book-56326d__data.scale=0.005__train.learning_rate=0.0001__train.max_length="
    cells = [(f"[{number}/12] {stem}{number:07}"[:110], (TRAINING, DONE, FAILED)[number % 3]) for number in range(12)]
    shown = rows(cells, 50, width=80)
    assert len({line[:40] for line in shown}) == len(shown) == 12
    assert all(f"{number:07}" in line for number, line in enumerate(shown))
    assert max(map(len, shown)) <= 80


def test_cells_that_ended_before_the_block_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    (job,) = jobs("a")
    job.finish(ExitStatus("done"), "done before, untouched")
    with LiveDisplay([job]):
        pass
    assert capsys.readouterr().err == "a  done before, untouched\n"


def test_all_that_a_cell_may_show_has_a_chinese_form() -> None:
    stages = ("preparing", "loading", "tokenizing", "training", "validating", "answering", "scoring", "saving")
    for text in (*COLUMNS, *UNITS, *stages, "pending", "failed", "interrupted", "waiting for another process"):
        assert catalogue(Kind.SAID).exact(text) is not None, text


def test_a_launch_in_chinese(monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
    monkeypatch.setenv("MEDQA_LANG", "zh")
    fault = Fault("missing-key", "is missing", key="model.path")
    job.finish(ExitStatus("failed", fault.line(), faults=[fault]))
    failed = view_of(job, StageClock())
    assert (failed.state, failed.line()) == ("failed", "失败：model.path: 缺失。")
    training = CellView("training", "训练", STAGE, 90, 45, "0")
    assert training.line() == "训练  3/9  损失 1.235  12,346 词元/秒  7.3 GiB  剩余 2 min  已用 45 s  GPU 0"
    shown = io.StringIO()
    Console(file=shown, width=100).print(draw_table([("[1/2] lora", training), ("[2/2] qlora", failed)], 40, 100))
    heading, *_, caption = shown.getvalue().rstrip().splitlines()
    assert heading.split() == ["格", "状态", "步", "损失", "词元/秒", "显存", "剩余", "已用", "GPU"]
    assert caption.strip() == "1 训练, 1 失败"
