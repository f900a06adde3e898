"""Rows that trackers receive: the same keys for every run, no empty values, results of one evaluation each."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Fitted
from medqa_finetune.run_state.tracker_rows import report_again, row_of
from medqa_finetune.tracking.base import Row
from medqa_finetune.tracking.trackers import OPENERS
from tests.evaluations import record_of
from tests.tracking.finished import SIZES, finished, rescored
from tests.tracking.scripted import opened_as


def row(run: RunDir, evaluation: str = "default") -> Row:
    return row_of(run, EvaluationDir(run.evaluations_path / evaluation), run.path.parents[1])


def test_every_run_has_the_same_keys_and_no_none(tmp_path: Path) -> None:
    rows = [row(finished(tmp_path, method, "20k")) for method in ("lora", "qlora", "none", "retrieval")]
    assert len({tuple(each.settings) for each in rows}) == 1
    values = [value for each in rows for value in each.settings.values()]
    assert {type(value) for value in values} == {str, bool, int, float}
    assert "None" not in values


def test_lora_and_qlora_differ_in_their_quantization_alone(tmp_path: Path) -> None:
    lora, qlora = (row(finished(tmp_path, method, "20k")).settings for method in ("lora", "qlora"))
    different = {key for key, value in lora.items() if qlora[key] != value}
    assert different == {"cell.method", "method.quantization", "method.double_quantization"}


def test_what_a_method_does_not_read_is_said_to_be_unused(tmp_path: Path) -> None:
    lora, lookup, base = (row(finished(tmp_path, method, "20k")) for method in ("lora", "retrieval", "none"))
    assert (lora.settings["method.rank"], lora.settings["train.learning_rate"]) == (16, 2e-4)
    for each in (lookup, base):
        assert each.settings["method.rank"] == each.settings["train.learning_rate"] == "unused"
    assert (lookup.settings["cell.train_size"], base.settings["cell.train_size"]) == (20000, 0)


def test_sizes_are_those_of_the_data_and_auto_is_what_it_came_to(tmp_path: Path) -> None:
    run = finished(tmp_path, "lora", "50k")
    record = record_of(run)
    assert record.data_manifest is not None
    manifest = dataclasses.replace(record.data_manifest, train=dataclasses.replace(record.data_manifest.train, n=500))
    config = {**record.config, "data": {**record.config["data"], "scale": 0.01}}
    run.write(record.updated(data_manifest=manifest, config=config, fitted=Fitted(8, gradient_checkpointing=False)))
    settings = row(run).settings
    assert (settings["cell.data"], settings["cell.train_size"]) == ("n500", 500)
    assert (settings["train.micro_batch"], settings["train.gradient_checkpointing"]) == (8, False)


def test_scores_and_costs_are_results(tmp_path: Path) -> None:
    found = row(finished(tmp_path, "lora", "20k"))
    assert found.results["scores/rougeL"] == pytest.approx(24.35)
    assert found.results["training/seconds"] == 4000
    assert found.results["training/peak_vram_gib"] == pytest.approx(9.3)
    assert found.step == 1250
    assert "testing/truncated_rate" not in found.results  # not measured
    untrained = row(finished(tmp_path, "none", "20k"))
    assert not [tag for tag in untrained.results if tag.startswith("training/")]


def test_seeds_of_a_cell_share_its_name(tmp_path: Path) -> None:
    first, second = (row(finished(tmp_path, "lora", "20k", seed)) for seed in (0, 7))
    others = [row(finished(tmp_path, "lora", size)).cell for size in list(SIZES)[1:]]
    assert first.cell == second.cell
    assert first.id != second.id
    assert len({first.cell, *others}) == 3
    assert first.cell.startswith("demo/lora_20k")


def test_another_evaluation_is_another_row(tmp_path: Path) -> None:
    run = finished(tmp_path, "lora", "20k")
    before = row(run)
    rescored(run, "max_samples=10", 31.0, max_samples=10)
    own, other = row(run), row(run, "max_samples=10")
    assert own == before
    assert other.id != own.id
    assert other.settings["evaluate.max_samples"] == 10
    assert other.results["scores/rougeL"] == 31.0
    assert other.settings.keys() == own.settings.keys()


def test_the_row_of_a_training_is_that_of_its_first_evaluation(tmp_path: Path) -> None:
    run = finished(tmp_path, "lora", "20k")
    folder = EvaluationDir(run.evaluations_path / "default")
    done = row(run)
    folder.update(started=None, status="pending")
    before = row(run)
    assert (before.id, before.name) == (done.id, done.name) == (done.id, run.path.name)


def test_a_run_keeps_its_id_until_it_is_begun_anew(tmp_path: Path) -> None:
    run = finished(tmp_path, "lora", "20k")
    first = row(run).id
    assert row(run).id == first
    run.write(record_of(run).updated(started="2026-12-01T08:00:00+00:00"))
    assert row(run).id != first


def test_scores_computed_again_reach_the_trackers_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path, "lora", "20k")
    rescored(run, "max_samples=10", 31.0, max_samples=10)
    told = opened_as(monkeypatch, "tensorboard")
    report_again(run, None)
    assert [each.evaluation for each in told] == ["default", "max_samples=10"]
    report_again(run, "max_samples=10")
    assert len(told) == 3
    assert all(each.outputs == tmp_path for each in told)


def test_a_run_without_trackers_tells_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path, "lora", "20k")
    record = record_of(run)
    config: dict[str, Any] = {**record.config, "tracker": {"name": "none", "report_to": []}}
    run.write(record.updated(config=config))
    told = opened_as(monkeypatch, *OPENERS)
    report_again(run, None)
    assert told == []
