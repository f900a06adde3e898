"""The command `plan` by its real command line: the same cells as `train`, forecast, and nothing kept."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.model.cards import CARDS
from medqa_finetune.plan import PlanOptions, as_object, as_text, excess_faults, plan, precision_faults, row
from medqa_finetune.planning.batches import Batches
from medqa_finetune.planning.cost_model import Forecast
from medqa_finetune.planning.plan_cells import Plan
from medqa_finetune.planning.rows import CellRow
from tests.commands import TINY, python
from tests.config.builders import VALID, changed
from tests.faulty import only_fault
from tests.planning.test_cost_model import workload

HOUR = 3600.0
KEYS = ("plan.probe", "plan.budget_hours", "plan.price_per_hour", "gpu", "gpus", "format")
FORECAST = Forecast(
    start=600.0,
    train=5 * HOUR,
    validate=300.0,
    answer=900.0,
    memory_bytes=3 * 2**30,
    training_bytes=2**31,
    disk_bytes=2**30,
)


BATCHES = Batches(4, gradient_checkpointing=True)


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python("-m", "medqa_finetune.plan", *arguments, cwd=cwd)


def made(
    *forecasts: Forecast, trials: int = 0, without_weights: tuple[str, ...] = (), faults: tuple[Fault, ...] = ()
) -> Plan:
    return Plan(
        list(forecasts),
        dataclasses.replace(workload(1e10), disk_faults=list(faults)),
        trials,
        list(without_weights),
    )


def rows(found: Plan, options: PlanOptions) -> list[CellRow]:
    names = ("lora_20k", "qlora_20k")
    return [
        row(changed(VALID, run_name=name), each, options, BATCHES)
        for name, each in zip(names, found.forecasts, strict=False)
    ]


def test_cell_is_said_in_seconds_bytes_and_money() -> None:
    (found,) = rows(made(FORECAST), PlanOptions(price_per_hour=2.0))
    assert found == {
        "name": "lora_20k", "label": "lora_20k", "seconds": 19800.0, "start_seconds": 600.0, "train_seconds": 18000.0,
        "validation_seconds": 300.0, "evaluation_seconds": 900.0, "peak_memory_bytes": 3 * 2**30,
        "training_memory_bytes": 2**31, "disk_bytes": 2**30, "price": 11.0, "trained_by": None,
        "batches": dataclasses.asdict(BATCHES),
        "examples_cut": 0.0, "questions_cut": 0.0, "validations": 0, "validation_samples": 0, "fits": None,
        "training_limit": None, "training_utilization": None, "training_parts": {},
        "gpus": 1, "batch_size": VALID.train.batch_size, "exchanged_bytes": 0,
    }  # fmt: skip


def test_cells_add_up_but_for_memory() -> None:
    found, options = made(FORECAST, FORECAST), PlanOptions(price_per_hour=2.0)
    assert as_object(rows(found, options), found, options)["sum"] == {
        "hours": 11.0, "gpu_hours": 11.0, "peak_memory_bytes": 3 * 2**30, "disk_bytes": 2**31, "price": 22.0
    }  # fmt: skip


def test_cell_name_has_run_and_evaluation() -> None:
    cell = changed(VALID, run_name="lora_20k", evaluation_name="max_samples=2")
    assert row(cell, FORECAST, PlanOptions(), BATCHES)["name"] == "lora_20k__evaluate.max_samples=2"
    assert row(changed(cell, evaluation_name="default"), FORECAST, PlanOptions(), BATCHES)["name"] == "lora_20k"


def test_table_marks_hours_counted_with_another_cell() -> None:
    found, options = made(FORECAST, FORECAST), PlanOptions()
    shared = rows(found, options)
    alone = as_text(shared, found, options).splitlines()
    shared[1]["trained_by"] = shared[0]["name"]
    assert len(as_text(shared, found, options).splitlines()) == len(alone) + 1


def test_what_does_not_fit_is_said() -> None:
    options = PlanOptions()
    found = made(dataclasses.replace(FORECAST, examples_cut=0.625), FORECAST)
    (shown,) = [line for line in as_text(rows(found, options), found, options).splitlines() if "max_length" in line]
    assert "62.5% of the training examples (lora_20k)" in shown
    assert [each["examples_cut"] for each in rows(found, options)] == [0.625, 0.0]


def test_several_gpus_cost_the_hours_of_each() -> None:
    found = row(VALID, FORECAST, PlanOptions(price_per_hour=2.0), BATCHES, gpus=2)
    assert (found["gpus"], found["seconds"], found["price"]) == (2, 19800.0, 22.0)
    whole = as_object([found], made(FORECAST), PlanOptions(price_per_hour=2.0))["sum"]
    assert (whole["hours"], whole["gpu_hours"], whole["price"]) == (5.5, 11.0, 22.0)


@pytest.mark.slow
def test_gpus_of_a_cell_are_planned_with_and_without_a_matrix(tmp_path: Path, micro_model: Path) -> None:
    typed = ("profile=demo", "model=local", f"model.path={micro_model}", "data.scale=0.001", "method=lora",
             "data=20k", "gpu=t4", "format=json")  # fmt: skip
    cells = []
    for asked in (["gpus=2"], ["hydra.launcher.gpus_per_cell=2"], ["-m", "hydra.launcher.gpus_per_cell=2"], []):
        done = run(*typed, *asked, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        cells.append(json.loads(done.stdout)["cells"][0])
    assert [cell["gpus"] for cell in cells] == [2, 2, 2, 1]
    assert {cell["train_seconds"] for cell in cells[:3]} == {cells[0]["train_seconds"]}


def test_unknown_price_is_null() -> None:
    found, options = made(FORECAST), PlanOptions()
    content = as_object(rows(found, options), found, options)
    assert content["cells"][0]["price"] is None
    assert content["sum"]["price"] is None
    assert "price" not in as_text(rows(found, options), found, options)


def test_the_table_says_what_it_rests_on() -> None:
    options = PlanOptions(price_per_hour=2.0)
    estimated = as_text(rows(made(FORECAST), options), made(FORECAST), options)
    assert "lora_20k  5.5h" in estimated
    assert "3.0 GiB  1.0 GiB  11.00" in estimated
    assert "plan.probe=true measures" in estimated
    measured = made(FORECAST, trials=1, without_weights=("qwen2.5-3b",))
    text = as_text(rows(measured, options), measured, options)
    assert "Measured here" in text
    assert "Random weights replace those of qwen2.5-3b" in text
    assert "TFLOP/s (fp32)" in text  # and not `auto`, which says nothing


def test_exceeded_budget_is_refused_with_figures() -> None:
    found = made(FORECAST, FORECAST)
    options = PlanOptions(budget_hours=10.0)
    (fault,) = excess_faults(rows(found, options), found, options)
    assert (fault.code, fault.key, fault.got) == ("over-budget", "plan.budget_hours", 10.0)
    for figure in ("11 hours", "lora_20k 5.5h", "qlora_20k 5.5h"):
        assert figure in fault.problem
    assert excess_faults(rows(found, options), found, PlanOptions(budget_hours=11.0)) == []
    assert excess_faults(rows(found, options), found, PlanOptions()) == []


def test_a_disk_that_is_too_small_is_refused() -> None:
    fault = Fault("disk-full", "1 run may need 3 GiB", key="outputs", got="x")
    found = made(FORECAST, faults=(fault,))
    assert excess_faults(rows(found, PlanOptions()), found, PlanOptions()) == [fault]


@pytest.mark.parametrize(
    ("typed", "code", "key", "got", "allowed"),
    [
        ("plan.budget_hours=0", "out-of-range", "plan.budget_hours", 0.0, ()),
        ("plan.price_per_hour=.inf", "out-of-range", "plan.price_per_hour", float("inf"), ()),
        ("plan.probe=perhaps", "wrong-type", "plan.probe", "perhaps", ()),
        ("plan.budget_hours=much", "wrong-type", "plan.budget_hours", "much", ()),
        ("plan.hours=3", "unknown-key", "plan.hours", "3", KEYS),
        ("plan.format=json", "unknown-key", "plan.format", "json", KEYS),
        ("plan.probe", "not-key-value", None, "plan.probe", ()),
        ("gpu=k80", "not-allowed", "gpu", "k80", tuple(CARDS)),
        ("gpu=", "not-allowed", "gpu", "", tuple(CARDS)),
        ("format=xml", "not-allowed", "format", "xml", ("text", "json")),
    ],
)
def test_impossible_choice_is_refused_before_anything_is_composed(
    typed: str, code: str, key: str | None, got: Any, allowed: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(["-m", "profile=demo", typed])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got, fault.allowed) == (code, key, got, allowed)


def test_card_elsewhere_cannot_be_measured() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(["-m", "profile=demo", "gpu=t4", "plan.probe=true"])
    assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "plan.probe")


def test_precision_that_a_card_lacks_is_refused() -> None:
    cells = [changed(VALID, precision="bf16"), changed(VALID, precision="auto"), changed(VALID, precision="bf16")]
    (fault,) = precision_faults(cells, PlanOptions(gpu="t4"))
    assert (fault.code, fault.key, fault.allowed) == ("not-supported", "precision", ("auto", "fp16", "fp32"))
    assert [*precision_faults(cells, PlanOptions(gpu="a100"))] == []
    assert [*precision_faults(cells, PlanOptions())] == []


def test_help_says_what_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(["--help"]) == 0
    assert "plan.budget_hours=N" in capsys.readouterr().out


# A thousandth of the sizes of the experiments.
DEMO = ["none", *(f"{method}_{size}" for method in ("retrieval", "lora", "qlora") for size in ("n20", "n50", "n100"))]


@pytest.mark.slow
def test_demo_plans_its_cells_and_leaves_nothing(tmp_path: Path, micro_model: Path) -> None:
    model = f"model.path={micro_model}"
    done = run("-m", *TINY, model, "format=json", "plan.budget_hours=0.0001", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    content = json.loads(done.stdout)
    kinds = [cell["name"].partition("__")[0] for cell in content["cells"]]
    assert kinds == DEMO
    without_model = [cell for cell in content["cells"] if cell["name"].startswith("retrieval")]
    assert [cell["train_seconds"] for cell in without_model] == [0.0] * 3
    # No torch, no model: what it holds is Python, the pairs and their scores.
    assert all(cell["peak_memory_bytes"] < 10**9 and 0 < cell["seconds"] < 300 for cell in without_model)
    assert content["basis"] == "estimated"
    (fault,) = content["faults"]
    assert (content["error"], content["exit_code"], fault["code"]) == ("ConfigError", 2, "over-budget")
    assert f"error: {fault['message']}" in done.stderr
    assert all(cell["seconds"] > 0 and cell["peak_memory_bytes"] > 10**8 for cell in content["cells"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_cells_that_share_training_count_its_hours_once(tmp_path: Path, micro_model: Path) -> None:
    typed = (*TINY, f"model.path={micro_model}", "method=lora", "data=20k", "train.epochs=200", "train.max_steps=null")
    one, two = (
        json.loads(run("-m", *typed, f"evaluate.max_samples={most}", "format=json", cwd=tmp_path).stdout)
        for most in ("null", "null,2")
    )
    (alone,), (first, second) = one["cells"], two["cells"]
    assert (first["name"], second["name"]) == (alone["name"], f"{alone['name']}__evaluate.max_samples=2")
    assert (first["trained_by"], second["trained_by"]) == (None, first["name"])
    assert first["train_seconds"] > 0
    assert {key: second[key] for key in second if key.startswith(("train", "validation", "disk"))} == {
        "trained_by": first["name"], "train_seconds": 0, "validation_seconds": 0, "training_memory_bytes": 0,
        "disk_bytes": 0, "validations": 0, "validation_samples": 0,
        "training_limit": None, "training_parts": {}, "training_utilization": None,
    }  # fmt: skip
    assert second["seconds"] == pytest.approx(second["start_seconds"] + second["evaluation_seconds"], abs=0.2)
    assert two["sum"]["disk_bytes"] == one["sum"]["disk_bytes"]
    assert two["sum"]["hours"] == pytest.approx((first["seconds"] + second["seconds"]) / HOUR)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_cells_without_a_model_are_measured_without_training(tmp_path: Path) -> None:
    done = run("-m", "profile=demo", "method=retrieval", "data=20k,50k", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Not trained, answers are looked up: retrieval n200, retrieval n500; measured here" in done.stdout
    assert "plan.probe=true measures" not in done.stdout
    starts = ("cell", "retrieval n200", "retrieval n500", "sum")
    assert [line[: len(start)] for line, start in zip(done.stdout.splitlines(), starts, strict=False)] == list(starts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # trains a little
def test_model_without_weights_is_rehearsed_with_random_ones(tmp_path: Path, micro_model: Path) -> None:
    folder = Path(shutil.copytree(micro_model, tmp_path / "bare"))
    (folder / "model.safetensors").unlink()
    typed = (*TINY, f"model.path={folder}", "method=lora", "data=20k", "plan.probe=true")
    done = run(*typed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Random weights replace those of bare" in done.stdout
    assert "LoRA n20" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]
    # A run still needs them.
    refused = python("-m", "medqa_finetune.train", *typed[:-1], cwd=tmp_path)
    assert refused.returncode == 2


def test_without_a_config_the_hint_helps(tmp_path: Path) -> None:
    done = run("corpus=embedded", "model=qwen2.5-3b", "format=json", cwd=tmp_path)
    assert done.returncode == 2
    (fault,) = json.loads(done.stdout)["faults"]
    assert "`medqa-download model=qwen2.5-3b`" in fault["hint"]
    assert "Error executing job" not in done.stderr
    assert run("corpus=embedded", "model=qwen2.5-3b", cwd=tmp_path).stdout == ""
