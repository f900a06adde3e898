"""Checks that whatever a run's files hold is either used or refused, and never trips what comes after."""

import dataclasses
import json
import math
from pathlib import Path

from medqa_finetune.errors import DataError
from medqa_finetune.launch.display import CellView
from medqa_finetune.launch.stage import ProgressRows, read_stage
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.read import read_lines
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.report.table import NUMBERS, results_table, write_csv
from medqa_finetune.summarize import as_text
from medqa_finetune.training.checkpoints import read_manifest
from tests.data.files import check_message
from tests.report.builders import record


def check_record(folder: Path, content: bytes, *, refused_too: bool = True) -> None:
    """Read a record, and put it into the table of all runs: one row, finite figures, text that any terminal takes.

    Args:
        folder: Where it may be written.
        content: Of the record.
        refused_too: Whether one that is refused is put there as well, which takes its time.
    """
    run = RunDir(folder / "run")
    run.path.mkdir(parents=True, exist_ok=True)
    run.record_path.write_bytes(content)
    try:
        run.read()
    except DataError as error:
        check_message(error)
        if not refused_too:
            return
    frame = results_table([run], folder)
    assert len(frame) == 1
    assert not any(value is not None and math.isinf(value) for name in NUMBERS for value in frame[name])
    text = as_text(frame)
    assert text.encode()
    assert all(character.isprintable() or character == "\n" for character in text)
    write_csv(frame, folder / "table.csv")
    read_stage(CellDir(run), ProgressRows({}, {}))


def check_evaluation(folder: Path, content: bytes) -> None:
    """Read an evaluation's record, and put its run into the table of all runs: one row, as `check_record` has it."""
    run = RunDir(folder / "run")
    evaluation = EvaluationDir(run.evaluations_path / "default")
    evaluation.path.mkdir(parents=True, exist_ok=True)
    evaluation.record_path.write_bytes(content)
    try:
        evaluation.read()
    except DataError as error:
        check_message(error)
    check_record(folder, json.dumps(dataclasses.asdict(record())).encode())


def check_lines(folder: Path, content: bytes) -> None:
    """Read JSON Lines of our own, as training and evaluation do, and as the launcher does for its table."""
    run = RunDir(folder / "run")
    run.path.mkdir(exist_ok=True)
    run.write(record(status="running"))
    evaluation = EvaluationDir(run.evaluations_path / "default")
    evaluation.path.mkdir(parents=True, exist_ok=True)
    for path in (run.metrics_path, evaluation.answering_path):
        path.write_bytes(content)
        try:
            assert all(isinstance(row, dict) for row in read_lines(path))
        except DataError as error:
            check_message(error)
    assert CellView("running", "running", read_stage(CellDir(run, evaluation), ProgressRows({}, {}))).line().encode()


def check_manifest(folder: Path, content: bytes) -> None:
    """Read the manifest of a checkpoint."""
    path = folder / "manifest.json"
    path.write_bytes(content)
    try:
        read_manifest(path)
    except DataError as error:
        check_message(error)
