import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest

from medqa_finetune.record.schema import DataManifest, Record, Score, SetManifest
from medqa_finetune.report.outputs.csv import apart, cells_table
from tests.report.builders import failed, record
from tests.report.builders import table_of as table


def resigned(each: Record, signature: str) -> Record:
    assert each.evaluation is not None
    scores = each.evaluation.scores | {"rougeL": Score(each.evaluation.scores["rougeL"].value, signature)}
    return each.updated(evaluation=dataclasses.replace(each.evaluation, scores=scores))


def test_a_cell_is_the_runs_that_differ_in_the_seed(tmp_path: Path) -> None:
    runs = [record("lora", "20k", seed=seed) for seed in (1, 2, 3)]
    cells = cells_table(table(tmp_path, *runs, record("lora", "50k"), failed("qlora", "20k")))
    assert list(cells["cell"]) == ["lora_20k", "lora_50k"]
    assert list(cells["seeds"]) == [3, 1]
    assert list(cells["seed_list"]) == ["1 2 3", "0"]
    # 24.5, 24.65, 24.8: the mean is the middle one, sd with n - 1 is the step of 0.15.
    assert cells["rougeL_mean"][0] == pytest.approx(24.65)
    assert cells["rougeL_sd"][0] == pytest.approx(0.15)
    assert cells["rougeL_sd"][1] is None
    assert cells["n_test"][0] == 1000


def test_seeds_of_another_test_set_are_another_cell(tmp_path: Path) -> None:
    other = DataManifest("c" * 64, SetManifest(20000, "a" * 64), SetManifest(9, "b" * 64), SetManifest(9, "d" * 64))
    frame = table(tmp_path, record(seed=1), record(seed=2, data_manifest=other), resigned(record(seed=3), "other"))
    cells = cells_table(frame)
    assert list(cells["seeds"]) == [1, 1, 1]


def test_figures_of_another_signature_have_a_column_of_their_own(tmp_path: Path) -> None:
    frame = table(tmp_path, record("none"), record("lora"), resigned(record("qlora"), "rougeL|tokens:words"))
    spread = apart(frame).set_index("name")
    assert math.isnan(spread["rougeL"]["qlora_20k"])
    assert spread["rougeL#2"].dropna().to_dict() == {"qlora_20k": 24.0}
    assert set(spread["rougeL"].dropna().index) == {"none", "lora_20k"}
    # Their BLEU is of one kind, and stays together.
    assert spread["bleu"].notna().all()
    assert "bleu#2" not in spread


def test_cells_keep_the_columns_that_were_set_apart(tmp_path: Path) -> None:
    frame = table(tmp_path, record("none"), record("lora"), resigned(record("qlora"), "rougeL|tokens:words"))
    cells = cells_table(apart(frame)).set_index("cell")
    assert cells["rougeL_mean"].dropna().index.tolist() == ["none", "lora_20k"]
    assert cells["rougeL#2_mean"].dropna().to_dict() == {"qlora_20k": 24.0}


def test_figures_of_another_test_set_and_perplexities_of_another_model(tmp_path: Path) -> None:
    other = DataManifest("c" * 64, SetManifest(20000, "a" * 64), SetManifest(9, "b" * 64), SetManifest(9, "d" * 64))
    frame = table(tmp_path, record("lora"), record("qlora", data_manifest=other), record("none", model="phi-2"))
    spread = apart(frame).set_index("name")
    assert set(spread["bleu#2"].dropna().index) == {"qlora_20k"}
    assert spread["perplexity"].notna().sum() == 1
    assert {"perplexity#2", "perplexity#3"} <= set(spread)


def test_a_table_of_one_kind_stays_as_it_is(tmp_path: Path) -> None:
    frame = table(tmp_path, record("none"), record("lora"), failed("qlora", "50k"))
    pd.testing.assert_frame_equal(apart(frame), frame)
