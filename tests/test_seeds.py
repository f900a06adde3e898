"""What a seed changes, and what it must not: by the real command line, three seeds in one sweep."""

import json
from pathlib import Path

import pandas as pd
import pytest
from safetensors.numpy import load_file

from medqa_finetune.record.evaluations import evaluation_dirs
from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.record.schema import Record
from tests.commands import TINY, python, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, micro_model: Path) -> Path:
    place = tmp_path_factory.mktemp("seeds")
    sweep = ["-m", *TINY, f"model.path={micro_model}", "method=none,retrieval,lora", "data=20k", "seed=1,2,3"]
    done = train(*sweep, cwd=place, timeout=600)
    assert done.returncode == 0, done.stderr
    done = python("-m", "medqa_finetune.summarize", cwd=place)
    assert done.returncode == 0, done.stderr
    return place / "outputs"


def records(outputs: Path) -> dict[int, tuple[RunDir, Record]]:
    found = {}
    for run in find_runs(outputs):
        record = run.read()
        assert record is not None
        if record.method == "lora":
            found[record.seed] = run, record
    return found


def test_baselines_that_no_seed_changes_are_run_once(outputs: Path) -> None:
    methods = sorted(record.method for run in find_runs(outputs) if (record := run.read()) is not None)
    assert methods == ["lora", "lora", "lora", "none", "retrieval"]


def test_seeds_never_change_the_data(outputs: Path) -> None:
    runs = records(outputs)
    assert sorted(runs) == [1, 2, 3]
    manifests = [record.data_manifest for _, record in runs.values()]
    assert all(manifest == manifests[0] for manifest in manifests)
    answered = [folder for run, record in runs.values() for folder in evaluation_dirs(run, record)]
    asked = [sorted(row["id"] for row in folder.read_predictions()) for folder in answered]
    assert asked[0] == asked[1] == asked[2]


def test_seeds_change_adapters_and_the_order_of_training(outputs: Path) -> None:
    runs = records(outputs)
    losses = [json.dumps([row.get("loss") for row in run.read_metrics()]) for run, _ in runs.values()]
    assert len(set(losses)) == 3
    first = [load_file(run.adapter_path / "adapter_model.safetensors") for run, _ in runs.values()]
    name = next(name for name in first[0] if "lora_A" in name)
    # Three steps at a small learning rate move them little: they differ for they began apart.
    assert abs(first[0][name] - first[1][name]).mean() > 0.01


def test_one_row_per_run_and_one_per_cell(outputs: Path) -> None:
    runs = pd.read_csv(outputs / "summary" / "results_summary.csv")
    cells = pd.read_csv(outputs / "summary" / "results_by_cell.csv").set_index("method")
    assert len(runs) == 5
    assert cells["seeds"].to_dict() == {"none": 1, "retrieval": 1, "lora": 3}
    lora = runs[runs["method"] == "lora"]["perplexity"]
    assert cells["perplexity_mean"]["lora"] == pytest.approx(lora.mean())
    assert cells["perplexity_sd"]["lora"] == pytest.approx(lora.std(ddof=1))
    assert cells["perplexity_sd"].isna()["none"]
    assert cells["rougeL_mean"].notna().all()
