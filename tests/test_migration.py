"""Run folders of schema version 1 are read, shown, resumed and evaluated again; nothing is trained anew."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.record.evaluations import evaluation_dirs, read_evaluation
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import TrainRecord
from tests.commands import files_below, python, train
from tests.evaluations import record_of
from tests.migration.folders import DONE, IN_ANSWERING, IN_TRAINING, run_of, unpack


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    return unpack(tmp_path)


def evaluations(run: RunDir) -> dict[str, str]:
    """Return the status of every evaluation by its name."""
    record = record_of(run)
    found = [read_evaluation(run, record, folder) for folder in evaluation_dirs(run, record)]
    return {each.name: each.status for each in found if each is not None}


def trained(run: RunDir) -> tuple[object, dict[str, tuple[int, bytes]]]:
    """Return what must never change again: what the record says of the training, and the weights.

    Fields that are newer than the record have their defaults in it once it is written again.
    """
    train = json.loads(run.record_path.read_bytes())["train"] or {}
    usual = {field.name: made(field) for field in dataclasses.fields(TrainRecord)}
    known = {key: value for key, value in train.items() if value != usual.get(key)}
    return known, files_below(run.adapter_path)


def made(field: dataclasses.Field[Any]) -> object:
    """Return the default of a field; `MISSING` where it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def test_a_record_of_version_1_is_read_with_its_evaluation(demo: Path) -> None:
    run = run_of(demo, "lora_20k__method")
    record = record_of(run)
    assert (record.schema_version, record.status, record.is_trained) == (1, "done", True)
    assert evaluations(run) == {"max_new_tokens=8": "done"}


def test_an_evaluation_that_had_not_begun_is_none(demo: Path) -> None:
    assert evaluations(run_of(demo, "lora_20k__seed=2")) == {}
    assert not record_of(run_of(demo, "lora_20k__seed=2")).is_trained
    assert record_of(run_of(demo, "lora_20k__seed=3")).is_trained


@pytest.mark.slow
def test_summarize_shows_them_and_writes_nothing_into_them(demo: Path) -> None:
    before = files_below(demo)
    done = python("-m", "medqa_finetune.summarize", "outputs=outputs", cwd=demo.parents[1])
    assert done.returncode == 0, done.stderr
    assert files_below(demo) == before
    lines = (demo.parent / "summary" / "results_summary.csv").read_text("utf-8-sig").splitlines()
    assert sorted(line.split(",")[1] for line in lines[1:]) == ["done", "done", "done", "running", "trained"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "beginning"), [("lora", "lora_20k__method"), ("none", "none"), ("retrieval", "retrieval_20k")]
)
def test_a_finished_run_is_done_and_takes_a_second_evaluation(demo: Path, method: str, beginning: str) -> None:
    run, place = run_of(demo, beginning), demo.parents[1]
    before, weights = files_below(run.path), trained(run)
    # Settings of training are refused where nothing is trained.
    typed = DONE if method == "lora" else tuple(each for each in DONE if not each.startswith(("train.", "method.")))
    done = train(*typed, f"method={method}", "data=20k", cwd=place)
    assert done.returncode == 0, done.stderr
    assert files_below(run.path) == before
    answers = run.path / "predictions.jsonl"
    old = answers.read_bytes()

    done = train(*typed, f"method={method}", "data=20k", "evaluate.max_samples=2", cwd=place)
    assert done.returncode == 0, done.stderr
    assert evaluations(run) == {"max_new_tokens=8": "done", "max_new_tokens=8__max_samples=2": "done"}
    assert trained(run) == weights
    assert answers.read_bytes() == old
    record = record_of(run)
    assert (record.schema_version, record.evaluation_name) == (2, "max_new_tokens=8")
    assert len([path for path in demo.iterdir() if path.is_dir()]) == 5
    rows = [json.loads(line) for line in old.splitlines()]
    second = run.evaluations_path / "max_new_tokens=8__max_samples=2" / "predictions.jsonl"
    assert all(json.loads(line) in rows for line in second.read_bytes().splitlines())

    done = python("-m", "medqa_finetune.evaluate", f"run={run.path}", "evaluate.max_new_tokens=4", cwd=place)
    assert done.returncode == 0, done.stderr
    assert evaluations(run)["max_new_tokens=4"] == "done"
    assert trained(run) == weights


@pytest.mark.slow
def test_a_training_that_was_killed_resumes_from_its_checkpoint(demo: Path) -> None:
    run = run_of(demo, "lora_20k__seed=2")
    done = train(*IN_TRAINING, "method=lora", "data=20k", cwd=demo.parents[1])
    assert done.returncode == 0, done.stderr
    record = record_of(run)
    assert (record.status, record.resumed_from) == ("done", [10])
    assert evaluations(run) == {"max_new_tokens=8": "done"}


@pytest.mark.slow
def test_an_evaluation_that_was_killed_keeps_its_answers(demo: Path) -> None:
    run = run_of(demo, "lora_20k__seed=3")
    before, old = trained(run), (run.path / "predictions.jsonl").read_bytes()
    done = train(*IN_ANSWERING, "method=lora", "data=20k", cwd=demo.parents[1])
    assert done.returncode == 0, done.stderr
    assert (run.path / "predictions.jsonl").read_bytes().startswith(old)
    assert trained(run) == before
    assert record_of(run).status == "done"
    assert evaluations(run) == {"max_samples=6": "done"}
