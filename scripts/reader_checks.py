"""Checks that file readers accept any content or refuse it with one readable error.

`scripts/fuzz.py` and the tests run them. Each raises AssertionError where a reader gives something unusable; anything
else that escapes comes from the reader.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.clean import CHAT_TOKEN
from medqa_finetune.data.corpus import read_examples
from medqa_finetune.data.examples import Example
from medqa_finetune.data.rows import Ledger
from medqa_finetune.errors import DataError
from medqa_finetune.evaluate import as_text as scores_as_text
from medqa_finetune.evaluation.predictions import read_predictions
from medqa_finetune.evaluation.score import score_predictions
from medqa_finetune.launch.display import CellView
from medqa_finetune.launch.stage import ProgressRows, read_stage
from medqa_finetune.log import shown
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.read import read_lines
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import EvaluationRecord, Record, Score
from medqa_finetune.report.load import load_runs
from medqa_finetune.report.outputs.csv import write_csv
from medqa_finetune.report.outputs.terminal import runs_as_text
from medqa_finetune.report.table import NUMBERS, results_table
from medqa_finetune.training.checkpoints import read_manifest
from scripts.benchmarks.made_runs import record_of, six

METRICS = ("rouge", "bleu", "perplexity")


def made_records() -> list[Record]:
    """Return records of done runs: the untuned base, and two methods with three sizes of data."""
    scores = {name: Score(20.0, f"{name}|made up") for name in ("rougeL", "bleu", "perplexity")}
    evaluation = EvaluationRecord(n=1000, scores=scores, seconds=50.0, samples_per_second=20.0, empty_rate=0.01)
    return [record_of(run, evaluation) for run in six()]


def check_reading(path: Path, **changes: Any) -> None:
    """Read a file as a corpus: either every row becomes a clean example or a reject, or one DataError of two lines.

    Raises:
        AssertionError: the examples are not clean, or the counts do not add up.
        Exception: anything else that escapes a reader.
    """
    rejects = path.parent / "r.out"
    pairs: list[Example] = []
    with rejects.open("wb") as file:
        ledger = Ledger(file)
        try:
            pairs.extend(
                read_examples(CorpusConfig(**({"name": "t", "source": "file", "path": str(path)} | changes)), ledger)
            )
        except DataError as error:
            check_message(error)
    listed = [json.loads(line) for line in rejects.read_bytes().split(b"\n")[:-1]]
    assert all(set(row) == {"place", "reason", "excerpt"} for row in listed)
    assert ledger.counts["rows"] - ledger.counts["pairs"] == len(listed), dict(ledger.counts)
    assert len({pair.id for pair in pairs}) == len(pairs)
    for pair in pairs:
        for text in (pair.question, pair.answer):
            assert text
            check_text(text)
        before = [text for turn in pair.history for text in turn] + ([] if pair.system is None else [pair.system])
        for text in before:
            assert text
            check_text(text)


def check_text(text: str) -> None:
    """Check that a text is clean."""
    assert text == text.strip()
    assert text.encode()
    assert not CHAT_TOKEN.search(text)


def check_message(error: Exception) -> None:
    """Check that a message is printable, and has one or two lines of readable length."""
    assert shown(str(error)).encode()
    assert 1 <= len(str(error).splitlines()) <= 2, str(error)
    assert len(str(error)) < 2000


def check_record(folder: Path, content: bytes, *, refused_too: bool = True) -> None:
    """Read a record and build the table of runs: one row, finite figures, printable text.

    Args:
        folder: Folder to write it to.
        content: Content of the record.
        refused_too: Whether to build the table of a refused record as well, which is slow.
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
    runs = load_runs([run], folder)
    frame = results_table(runs)
    assert len(frame) == 1
    assert not any(value is not None and math.isinf(value) for name in NUMBERS for value in frame[name])
    text = runs_as_text(runs)
    assert text.encode()
    assert all(character.isprintable() or character == "\n" for character in text)
    write_csv(frame, folder / "table.csv")
    read_stage(CellDir(run), ProgressRows({}, {}))


def check_evaluation(folder: Path, content: bytes) -> None:
    """Read an evaluation's record and build the table of its run: one row, as in `check_record`."""
    run = RunDir(folder / "run")
    evaluation = EvaluationDir(run.evaluations_path / "default")
    evaluation.path.mkdir(parents=True, exist_ok=True)
    evaluation.record_path.write_bytes(content)
    try:
        evaluation.read()
    except DataError as error:
        check_message(error)
    check_record(folder, json.dumps(dataclasses.asdict(made_records()[1])).encode())


def check_lines(folder: Path, content: bytes) -> None:
    """Read JSON Lines of our own, as training and evaluation do, and as the launcher does for its table."""
    run = RunDir(folder / "run")
    run.path.mkdir(exist_ok=True)
    run.write(dataclasses.replace(made_records()[1], status="running"))
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


def check_answers(path: Path, content: bytes) -> None:
    """Read and score predictions: figures valid in JSON, printable text."""
    path.write_bytes(content)
    try:
        answers = read_predictions(path)
        record, rows = score_predictions(answers, METRICS)
    except DataError as error:
        check_message(error)
        return
    assert record.n == len(answers) == len(rows)
    json.dumps([{name: score.value for name, score in record.scores.items()}, rows], allow_nan=False)
    text = scores_as_text(record, rows)
    assert text.encode()
    assert all(character.isprintable() or character == "\n" for character in text)
