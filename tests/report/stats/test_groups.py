"""Scores per group of questions."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from medqa_finetune.record.files import sha256_of
from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.record.schema import Record
from medqa_finetune.report.analysis import analyse
from medqa_finetune.report.load import load_runs
from medqa_finetune.report.outputs.csv import groups_table
from medqa_finetune.report.outputs.markdown import as_markdown
from medqa_finetune.report.stats.intervals import Settings
from tests.evaluations import default_of, write_default
from tests.report.builders import record

SETTINGS = Settings(resamples=200, trials=100)


def grouped(tmp_path: Path, each: Record) -> None:
    """Write a run of 12 questions: 7 of one group, 2 of two others, 1 without; question n scores n."""
    folder = RunDir(tmp_path / each.name)
    groups = [*["内科"] * 7, *["外科"] * 2, *["儿科"] * 2, ""]
    rows = [{"id": f"q{n:02}", "question": "?", "reference": "!", "prediction": "!"} for n in range(12)]
    rows = [row | ({"group": group} if group else {}) for row, group in zip(rows, groups, strict=True)]
    assert each.evaluation is not None
    rouge = {"rougeL": dataclasses.replace(each.evaluation.scores["rougeL"], value=5.5)}
    folder.write(each := each.updated(evaluation=dataclasses.replace(each.evaluation, n=12, scores=rouge)))
    evaluation = default_of(folder)
    evaluation.predictions_path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")
    ids = np.array([row["id"] for row in rows])
    scores = {"rougeL": np.arange(12, dtype=np.float64)}
    evaluation.write_item_scores(ItemScores(sha256_of(evaluation.predictions_path), ids, scores))
    write_default(folder, each)


def test_each_group_has_its_mean_and_interval(tmp_path: Path) -> None:
    config = record("lora").config | {"corpus": {"name": "mine", "group": "department"}}
    grouped(tmp_path, record("lora", config=config))
    found = analyse(load_runs(find_runs(tmp_path), tmp_path), SETTINGS)
    assert [(each.group, each.n) for each in found.groups] == [("内科", 7), ("儿科", 2), ("外科", 2), ("", 1)]
    first, two, _, alone = found.groups
    assert (first.value, two.value, alone.value) == (3.0, 9.5, 11.0)
    assert two.interval is not None
    assert first.interval is not None
    assert first.interval.low <= first.value <= first.interval.high
    assert alone.interval is None
    table = groups_table(found)
    assert list(table["group"]) == ["内科", "儿科", "外科", ""]
    assert list(table["label"]) == ["LoRA 20k"] * 4
    assert "外科" in as_markdown(found)


def test_without_the_setting_there_are_no_groups(tmp_path: Path) -> None:
    grouped(tmp_path, record("lora"))
    assert analyse(load_runs(find_runs(tmp_path), tmp_path), SETTINGS).groups == ()
