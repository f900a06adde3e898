import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.matrix import progress
from medqa_finetune.matrix.progress import Progress, outcome
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Failure
from tests.report.builders import record


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(run: RunDir, *seconds: float, end: str | None = None) -> str:
    """Return what a terminal is sent when a cell's line is shown at these times, and finished."""
    with contextlib.redirect_stderr(Terminal()) as terminal:
        line = Progress("cell", run)
        for second in seconds:
            line.show(second)
        if end is not None:
            line.finish(end)
    return terminal.getvalue()


@pytest.fixture(autouse=True)
def shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0)


def write_metrics(run: RunDir, *rows: dict[str, Any], end: str = "\n") -> None:
    run.metrics_path.write_text("\n".join(map(json.dumps, rows)) + end, encoding="utf-8")


def test_outside_a_terminal_a_cell_has_two_plain_lines(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    line = Progress("[1/6] lora_20k", run)
    line.show(1.0)
    line.show(9.0)
    line.finish("done")
    assert capsys.readouterr() == ("", "[1/6] lora_20k  started\n[1/6] lora_20k  done\n")


def test_in_a_terminal_the_line_rewrites_itself(run: RunDir) -> None:
    assert shown(run, 1.4, end="done") == "\r\033[Kcell  preparing  1 s\r\033[Kcell  done\n"


def test_the_line_is_not_rewritten_more_often_than_people_read(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 3600)
    assert shown(run, *range(5)).count("\r") <= 1


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"step": 3, "steps": 9}, "training  step 3/9  7 s"),
        ({"step": 3, "steps": 9, "loss": 1.23456}, "training  step 3/9  loss 1.235  7 s"),
        ({"step": 3, "steps": 9, "loss": None}, "training  step 3/9  7 s"),
        ({"step": 3, "steps": 9, "loss": 2, "tokens_per_second": 12345.6}, "loss 2.000  12,346 tokens/s  7 s"),
    ],
)
def test_training_is_shown_by_its_last_row(run: RunDir, row: dict[str, Any], text: str) -> None:
    write_metrics(run, {"step": 1, "steps": 9, "loss": 9.0}, row)
    assert shown(run, 7.0).endswith(text)


def test_a_row_that_is_still_being_written_is_left_out(run: RunDir) -> None:
    write_metrics(run, {"step": 1, "steps": 9}, end='\n{"step": 2, "st')
    assert "step 1/9" in shown(run, 7.0)


def test_only_the_end_of_a_long_file_is_read(run: RunDir) -> None:
    write_metrics(run, *({"step": step, "steps": 5000} for step in range(5000)))
    assert "step 4999/5000" in shown(run, 7.0)


@pytest.mark.parametrize("content", ["", "\n", "not JSON\n"])
def test_a_file_without_a_row_is_no_error(run: RunDir, content: str) -> None:
    run.metrics_path.write_text(content, encoding="utf-8")
    assert "preparing" in shown(run, 7.0)


def test_answering_is_shown_from_its_first_answer(run: RunDir) -> None:
    write_metrics(run, {"step": 9, "steps": 9})
    run.append_predictions([{"id": "a"}])
    assert "answering the test questions" in shown(run, 7.0)


def test_a_done_run_ends_with_its_scores() -> None:
    done = record("lora", "20k")
    assert done.evaluation is not None
    scores = done.evaluation.scores
    expected = f"done  ROUGE-L {scores['rougeL'].value:.2f}  BLEU {scores['bleu'].value:.2f}"
    assert outcome(done) == expected


def test_a_failed_run_ends_with_its_reason() -> None:
    failed = record("lora", "20k").updated(status="failed", failure=Failure("RunError", "the loss became nan"))
    assert outcome(failed) == "failed: the loss became nan"
    assert outcome(failed.updated(failure=None)) == "failed: no reason recorded"


def test_a_run_without_a_record_has_failed() -> None:
    assert outcome(None) == "failed: no readable record"
