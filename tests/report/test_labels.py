"""What runs and cells are called, and which of them are not done."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.folder_names import shortened
from medqa_finetune.config.labels import value_label
from medqa_finetune.record.schema import Record
from medqa_finetune.report.labels import in_reading_order
from medqa_finetune.report.messages import name_of
from medqa_finetune.report.unfinished import unfinished_of
from medqa_finetune.report.verdict import RunState
from tests.report.builders import failed, record, runs_of

RATES = ("0.0001", "0.001", "0.0003")


def named(tmp_path: Path, *records: Record) -> list[str]:
    return [run.values["label"] for run in runs_of(tmp_path, *records)]


def swept(rate: str, **changes: Any) -> Record:
    name = f"lora_20k__train.learning_rate={rate}"
    return record("lora", "20k", name=name, identity=rate, **changes)


def test_labels_are_short_and_of_people(tmp_path: Path) -> None:
    found = named(tmp_path, record("none"), record("lora"), record("qlora", "50k"))
    assert found == ["untuned base", "LoRA 20k", "QLoRA 50k"]


def test_a_size_that_is_not_its_name_is_shown(tmp_path: Path) -> None:
    scaled = {"data": {"name": "20k", "train_size": 20000, "scale": 0.01}}
    each = record("lora", config=record("lora").config | scaled, data_manifest=None)
    assert named(tmp_path, each) == ["LoRA n200"]


def test_swept_settings_have_short_names(tmp_path: Path) -> None:
    assert named(tmp_path, *map(swept, RATES)) == ["LoRA 20k lr 1e-4", "LoRA 20k lr 3e-4", "LoRA 20k lr 1e-3"]


def test_a_default_among_swept_values_is_shown(tmp_path: Path) -> None:
    usual = record("lora", config=record("lora").config | {"train": {"learning_rate": 0.0002}})
    assert set(named(tmp_path, usual, swept("0.001"))) == {"LoRA 20k lr 2e-4", "LoRA 20k lr 1e-3"}


def test_names_too_long_for_folders_lose_no_settings(tmp_path: Path) -> None:
    shared = "corpus.question=" + "q" * 150
    config = record("lora").config

    def cut(method: str, rate: str) -> Record:
        whole = f"{method}_20k__{shared}__train.max_length=256__corpus.group=department__train.learning_rate={rate}"
        train = {"learning_rate": float(rate), "max_length": 256}
        known = config | {"train": train, "corpus": {"name": "csv", "question": "q" * 150, "group": "department"}}
        return record(method, "20k", name=shortened(whole), identity=f"{method} {rate}", config=known)

    base = record("none", name=f"none__{shared}__corpus.group=department__train.max_length=256")
    runs = [base, *(cut(method, rate) for method in ("lora", "qlora") for rate in ("0.008", "0.002"))]
    found = named(tmp_path, *runs)
    assert found == ["untuned base", *(f"{name} 20k lr {lr}" for name in ("LoRA", "QLoRA") for lr in ("2e-3", "8e-3"))]


def test_values_are_shown_as_they_are_typed(tmp_path: Path) -> None:
    runs = [record("lora", name=f"lora_20k__evaluate.max_samples={value}", identity=value) for value in ("None", "9")]
    assert set(named(tmp_path, *runs)) == {"LoRA 20k max samples null", "LoRA 20k max samples 9"}


def test_another_evaluation_renames_nothing(tmp_path: Path) -> None:
    other = record("lora", name="lora_20k__evaluate.max_samples=9", identity="9")
    usual = record("lora", config=record("lora").config | {"evaluate": {"max_samples": None}})
    assert set(named(tmp_path, usual, other)) == {"LoRA 20k", "LoRA 20k max samples 9"}


def test_what_all_share_is_left_out(tmp_path: Path) -> None:
    runs = [record(method, name=f"{method}_20k__train.epochs=3.0") for method in ("lora", "qlora")]
    assert named(tmp_path, *runs) == ["LoRA 20k", "QLoRA 20k"]


def test_cells_of_two_studies_have_two_labels(tmp_path: Path) -> None:
    runs_of(tmp_path / "a", record("lora"))
    assert set(named(tmp_path, record("lora").updated(name="b/lora_20k"))) == {"LoRA 20k (a)", "LoRA 20k (b)"}


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0.0001, "1e-4"), (2.5e-5, "2.5e-5"), (0.05, "0.05"), (16.0, "16"), (0.0, "0"), (math.inf, "inf")],
)
def test_numbers_are_written_as_people_do(number: float, shown: str) -> None:
    assert value_label(number) == shown


def test_numbers_are_read_in_order() -> None:
    labels = ["LoRA lr 1e-3", "LoRA lr 3e-4", "LoRA lr 1e-4"]
    assert sorted(labels, key=in_reading_order) == labels[::-1]


def test_labels_have_chinese_words() -> None:
    assert name_of("LoRA n300 lr 1e-4 rank 8").zh == "LoRA n300 学习率 1e-4 秩 8"
    assert name_of("untuned base").zh != "untuned base"
    assert name_of("myrank lrx").zh == "myrank lrx"


def test_what_is_not_done_is_listed_by_its_state(tmp_path: Path) -> None:
    states = {"interrupted": "50k", "pending": "100k", "running": "20k"}
    others = [
        failed("qlora", size).updated(status=state, failure=None, name=f"qlora_{size}")
        for state, size in states.items()
    ]
    (found,) = unfinished_of(runs_of(tmp_path, record("lora"), failed("lora", "50k"), *others))
    assert (found.done, found.count) == (1, 5)
    assert found.runs == {
        RunState.FAILED: ("LoRA 50k",),
        RunState.INTERRUPTED: ("QLoRA 50k",),
        RunState.STOPPED: ("QLoRA 20k",),
        RunState.NOT_STARTED: ("QLoRA 100k",),
    }
    assert found.missing == ("LoRA 100k",)


def test_what_is_in_a_queue_is_listed_apart(tmp_path: Path) -> None:
    interrupted = failed("qlora", "50k").updated(status="interrupted", failure=None, name="qlora_50k")
    runs = runs_of(tmp_path, record("lora"), interrupted, failed("lora", "50k"))
    places = {"qlora_50k": "queued", "lora_50k": "running"}
    (found,) = unfinished_of([dataclasses.replace(run, in_queue=places.get(run.name, "")) for run in runs])
    assert found.runs == {RunState.RUNNING: ("LoRA 50k",), RunState.QUEUED: ("QLoRA 50k",)}


def test_a_finished_matrix_is_not_unfinished(tmp_path: Path) -> None:
    assert unfinished_of(runs_of(tmp_path, record("lora"), record("qlora"))) == ()
