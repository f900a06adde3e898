"""What people see: a table in a terminal, plain lines elsewhere, and no error where nothing can be shown."""

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

from medqa_finetune.launch import progress
from medqa_finetune.launch.display import Glance, Pace
from medqa_finetune.launch.exit_status import Ending
from medqa_finetune.launch.job import Job
from medqa_finetune.launch.progress import Progress, draw_table, outcome
from medqa_finetune.launch.stage import Stage
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import EvaluationRecord, Failure, Score
from tests.report.builders import record

DONE = Glance("done", "done  ROUGE-L 12.30  in 5 min", so_far=300)
FAILED = Glance("failed", "failed: out of memory  in 2 s", so_far=2)
TRAINING = Glance("training", "training", Stage("training", 3, 9, 1.2345, 3400.0, 7.26), 90.0, 45.0, "0")
PENDING = Glance("pending", "pending")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("LINES", "24")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Glance]:
    """What the cells are at, by label, to be set by a test; shown as often as asked."""
    glances: dict[str, Glance] = {}

    def look(job: Job, _: Pace) -> Glance:
        return glances.get(job.label, PENDING)

    monkeypatch.setattr(progress, "glance_at", look)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0)
    return glances


def jobs(*labels: str) -> list[Job]:
    return [Job([label], [], CellDir(RunDir(Path("nowhere"))), None, label=label) for label in labels]


def test_outside_a_terminal_every_change_of_state_is_a_line(
    shown: dict[str, Glance], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(jobs("a", "b")) as lines:
        for glance in (PENDING, TRAINING, TRAINING, Glance("answering", "answering"), DONE):
            shown["a"] = glance
            lines.show()
        shown["b"] = FAILED
    assert capsys.readouterr() == (
        "", "a  training  3/9  loss 1.234  3,400 tokens/s  7.3 GiB  2 min left  45 s so far  GPU 0\na  answering\n"
        "a  done  ROUGE-L 12.30  in 5 min\nb  failed: out of memory  in 2 s\n",
    )  # fmt: skip


def test_outside_a_terminal_a_running_cell_says_now_and_then_how_far_it_is(
    shown: dict[str, Glance], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    shown["a"], shown["b"] = TRAINING, DONE
    with Progress(jobs("a", "b")) as lines:
        lines.show()
        lines.show()
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("a  training") for line in said) == 3
    assert sum(line.startswith("b") for line in said) == 1


def test_nothing_is_shown_more_often_than_people_read(
    shown: dict[str, Glance], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 3600)
    lines = Progress(jobs("a"))
    lines.show()
    shown["a"] = TRAINING
    lines.show()
    assert capsys.readouterr().err == ""


def plain(written: str) -> list[str]:
    """Return the lines that a terminal was sent, without what it obeys."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written).splitlines() if line.strip()]


def test_in_a_terminal_there_is_a_table(shown: dict[str, Glance]) -> None:
    shown |= {"[1/3] lora_20k": DONE, "[2/3] 方法": TRAINING}
    labels = ("[1/3] lora_20k", "[2/3] 方法", "[3/3] none")
    with contextlib.redirect_stderr(Terminal()) as terminal, Progress(jobs(*labels)):
        pass
    last = plain(terminal.getvalue())[-5:]
    assert last[0].split("  ")[0] == "cell"
    assert "lora_20k" in last[1]
    assert "done  ROUGE-L 12.30  in 5 min" in last[1]
    assert re.search(r"方法 +training +3/9 +1\.234 +3,400 +7\.3 GiB +2 min +45 s +0$", last[2])
    assert re.search(r"none +pending( +-){7}$", last[3])
    assert last[4] == "1 done, 1 training, 1 pending"


def test_in_a_terminal_the_reason_of_a_failure_is_said_once_above_the_table(shown: dict[str, Glance]) -> None:
    with contextlib.redirect_stderr(Terminal()) as terminal, Progress(jobs("a")) as table:
        shown["a"] = FAILED
        table.show()
        table.show()
    assert terminal.getvalue().count("failed: out of memory") == 1


def test_the_table_leaves_the_terminal_as_it_was(shown: dict[str, Glance]) -> None:
    with contextlib.redirect_stderr(Terminal()) as terminal:
        with pytest.raises(KeyboardInterrupt), Progress(jobs("a")):
            raise KeyboardInterrupt
        assert sys.stderr is terminal
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")  # the cursor is back


def test_a_terminal_that_knows_no_cursor_has_lines(shown: dict[str, Glance], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with contextlib.redirect_stderr(Terminal()) as stream, Progress(jobs("a")):
        shown["a"] = DONE
    assert stream.getvalue() == "a  done  ROUGE-L 12.30  in 5 min\n"


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_nothing_that_a_terminal_would_obey_gets_through(shown: dict[str, Glance], kind: type[io.StringIO]) -> None:
    nasty = "\x1b]0;title\x07\r\x1b[2J[bold]x[/bold]"
    shown[nasty] = Glance("failed", f"failed: {nasty}")
    with contextlib.redirect_stderr(kind()) as stream, Progress(jobs(nasty)) as table:
        table.say(nasty)
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
    shown: dict[str, Glance], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Closed()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    with contextlib.redirect_stderr(stream), Progress(jobs("a")) as table:
        shown["a"] = FAILED
        table.show()
        table.say("stopping")


def rows(cells: list[tuple[str, Glance]], height: int, width: int = 140) -> list[str]:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width)
    console.print(draw_table(cells, height, width))
    assert isinstance(console.file, io.StringIO)
    return plain(console.file.getvalue())[1:-1]


def test_in_a_small_terminal_what_runs_stays_and_what_is_done_goes_first() -> None:
    cells = [("a", DONE), ("b", TRAINING), ("c", FAILED), ("d", PENDING), ("e", TRAINING), ("f", PENDING)]
    names = [[line[0] for line in rows(cells, height)] for height in (50, 12, 11, 9, 8, 1)]
    assert [len(kept) for kept in names] == [6, 6, 5, 3, 2, 1]
    assert names[2:] == [list("bcdef"), list("bce"), list("be"), list("b")]


def test_in_a_narrow_terminal_names_are_cut_and_figures_are_not() -> None:
    (line,) = rows([("[1/1] lora_20k__method.rank=8__train.learning_rate=0.001", TRAINING)], 50, width=90)
    assert "…" in line
    assert "3,400" in line
    assert line.endswith(" 0")


def test_long_names_that_differ_at_their_end_look_different_in_eighty_columns() -> None:
    stem = "lora_20k__corpus=book-56326d__data.scale=0.005__train.learning_rate=0.0001__train.max_length="
    cells = [(f"[{number}/12] {stem}{number:07}"[:110], (TRAINING, DONE, FAILED)[number % 3]) for number in range(12)]
    shown = rows(cells, 50, width=80)
    assert len({line[:40] for line in shown}) == len(shown) == 12
    assert all(f"{number:07}" in line for number, line in enumerate(shown))
    assert max(map(len, shown)) <= 80


def test_a_done_run_ends_with_its_scores() -> None:
    done = record("lora", "20k")
    assert done.evaluation is not None
    scores = done.evaluation.scores
    expected = f"done  ROUGE-L {scores['rougeL'].value:.2f}  BLEU {scores['bleu'].value:.2f}"
    assert outcome(done) == expected


def test_a_done_run_over_running_text_ends_with_its_perplexity() -> None:
    scores = {"perplexity": Score(12.345, "perplexity|text:blocks|length:128")}
    assert outcome(record("lora", "20k").updated(evaluation=EvaluationRecord(9, scores))) == "done  perplexity 12.35"


def test_a_failed_run_ends_with_its_reason() -> None:
    failed = record("lora", "20k").updated(status="failed", failure=Failure("RunError", "the loss became nan"))
    assert outcome(failed) == "failed: the loss became nan"
    assert outcome(failed.updated(failure=None)) == "failed: no reason recorded"


def test_a_program_without_a_record_is_done_and_that_is_all() -> None:
    assert outcome(None) == "done"


def test_cells_that_ended_before_the_block_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    (job,) = jobs("a")
    job.end(Ending("done"), "done before, untouched")
    with Progress([job]):
        pass
    assert capsys.readouterr().err == "a  done before, untouched\n"
