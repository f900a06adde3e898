"""What a running cell is at, by the files of its run."""

import json
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.launch.stage import ProgressRows, Stage, read_progress, read_stage
from medqa_finetune.progress import Doing
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation
from tests.launch.children import PENDING

FRESH = ProgressRows({}, {})


@pytest.fixture
def cell(tmp_path: Path) -> CellDir:
    cell = CellDir(RunDir(tmp_path), EvaluationDir(tmp_path / "evaluations" / "default"))
    cell.run.write(PENDING.updated(status="running"))
    return cell


@pytest.fixture
def answering(cell: CellDir) -> EvaluationDir:
    """The cell's evaluation, at work on trained weights."""
    cell.run.update(status="trained")
    assert cell.evaluation is not None
    cell.evaluation.write(Evaluation("default", "e", "running", {}))
    return cell.evaluation


def write(path: Path, *rows: dict[str, Any], end: str = "\n") -> None:
    path.write_text("\n".join(map(json.dumps, rows)) + end, encoding="utf-8")


def test_a_program_without_a_record_is_just_running(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", {"step": "mine"})
    assert read_stage(CellDir(RunDir(tmp_path)), FRESH) == Stage("running")


def test_nothing_to_show_is_preparing(cell: CellDir) -> None:
    assert read_stage(cell, FRESH) == Stage("preparing")


@pytest.mark.parametrize(
    ("row", "stage"),
    [
        ({"step": 3, "steps": 9}, Stage("training", 3, 9, 9.5)),
        ({"step": 3, "steps": 9, "loss": 1.5}, Stage("training", 3, 9, 1.5)),
        ({"step": 3, "steps": 9, "loss": None}, Stage("training", 3, 9, 9.5)),
        ({"step": 3, "steps": 9, "tokens_per_second": 12.5, "vram_allocated_gib": 7.25},
         Stage("training", 3, 9, 9.5, 12.5, 7.25)),
        ({"step": 3, "steps": 9, "vram_allocated_gib": 0.0}, Stage("training", 3, 9, 9.5)),
        ({"step": 3, "steps": 9, "loss": "low"}, Stage("training", 3, 9, 9.5)),
    ],
)  # fmt: skip
def test_training_is_shown_by_newest_value_of_everything(cell: CellDir, row: dict[str, Any], stage: Stage) -> None:
    write(cell.run.metrics_path, {"step": 1, "steps": 9, "loss": 9.5}, row)
    assert read_stage(cell, FRESH) == stage


def test_half_written_row_is_left_out(cell: CellDir) -> None:
    write(cell.run.metrics_path, {"step": 1, "steps": 9}, end='\n{"step": 2, "st')
    assert read_stage(cell, FRESH).at == 1


def test_only_end_of_long_file_is_read(cell: CellDir) -> None:
    write(cell.run.metrics_path, {"lost": 1}, *({"step": step, "steps": 5000} for step in range(5000)))
    assert read_progress(cell).training == {"step": 4999, "steps": 5000}


@pytest.mark.parametrize("content", [b"", b"\n", b"not JSON\n", b"\0\0\0\n", b"[1]\n", b"\xff\n"])
def test_a_file_without_a_row_is_no_error(cell: CellDir, content: bytes) -> None:
    cell.run.metrics_path.write_bytes(content)
    assert read_stage(cell, FRESH) == Stage("preparing")


def test_progress_of_an_earlier_attempt_is_ignored(cell: CellDir) -> None:
    assert cell.evaluation is not None
    write(cell.run.metrics_path, {"step": 3, "steps": 9})
    cell.evaluation.path.mkdir(parents=True)
    write(cell.evaluation.answering_path, {"answered": 10, "questions": 40})
    before = read_progress(cell)
    assert read_stage(cell, before) == Stage("preparing")
    write(cell.run.metrics_path, {"step": 4, "steps": 9})
    assert read_stage(cell, before) == Stage("training", 4, 9)


def test_answering_is_counted_in_questions(cell: CellDir, answering: EvaluationDir) -> None:
    answering.update(status="trained")
    write(cell.run.metrics_path, {"step": 9, "steps": 9, "loss": 1.0, "vram_allocated_gib": 5.0})
    assert read_stage(cell, FRESH) == Stage("answering")
    write(answering.answering_path, {"answered": 10, "questions": 40, "seconds": 2.0, "tokens": 300})
    assert read_stage(cell, FRESH) == Stage("answering", 10, 40, None, 150.0, 5.0)


def test_progress_of_another_evaluation_is_ignored(cell: CellDir, answering: EvaluationDir) -> None:
    other = CellDir(cell.run, EvaluationDir(cell.path / "evaluations" / "max_samples=1"))
    write(answering.answering_path, {"answered": 10, "questions": 40})
    assert read_progress(other).answering == {}


def test_scoring_is_what_comes_between_answers_and_end(cell: CellDir, answering: EvaluationDir) -> None:
    answering.update(status="evaluated")
    assert read_stage(cell, FRESH) == Stage("scoring")


def test_what_a_cell_says_comes_before_its_files(cell: CellDir) -> None:
    """Its first step may take minutes, and its curves have a row every ten."""
    assert read_stage(cell, FRESH, Doing("loading", detail="tiny")) == Stage("loading")
    write(cell.run.metrics_path, {"step": 1, "steps": 9, "loss": 9.5, "tokens_per_second": 12.5})
    assert read_stage(cell, FRESH, Doing("training", 4, 9)) == Stage("training", 4, 9, 9.5, 12.5)
    assert read_stage(cell, FRESH, Doing("training", 4, 9, 2.5)) == Stage("training", 4, 9, 2.5, 12.5)
    assert read_stage(cell, read_progress(cell), Doing("training", 0, 9)) == Stage("training", 0, 9)


def test_speed_of_answering_is_of_the_last_batch(answering: EvaluationDir, cell: CellDir) -> None:
    write(answering.answering_path, {"answered": 4, "questions": 9, "seconds": 2.0, "tokens": 50})
    assert read_stage(cell, FRESH, Doing("answering", 4, 9)) == Stage("answering", 4, 9, None, 25.0)
