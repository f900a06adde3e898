"""What belongs together: cells, groups, tables, and what they are called."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.record.schema import Record, Score
from medqa_finetune.report.grouping import cell_names, cells_of, groups_of
from medqa_finetune.report.names import two_lines
from medqa_finetune.report.outputs.csv import cells_table
from medqa_finetune.report.runs import Run
from medqa_finetune.report.table import results_table
from tests.report.builders import failed, group_of, record, runs_of


def named(*records: Record, study: str = "") -> list[str]:
    return cell_names([Run(each.name, study, each) for each in records])


def with_scores(each: Record, **signatures: str | None) -> Record:
    """Return a record with other signatures of scores, or (None) without a score."""
    assert each.evaluation is not None
    scores = dict(each.evaluation.scores)
    for name, signature in signatures.items():
        if signature is None:
            del scores[name]
        else:
            scores[name] = Score(scores[name].value, signature)
    return each.updated(evaluation=dataclasses.replace(each.evaluation, scores=scores))


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("lora_20k__seed=2", "lora_20k"),
        ("lora_20k__seed=2__train.epochs=2", "lora_20k__train.epochs=2"),
        ("lora_20k__data.split_seed=2", "lora_20k__data.split_seed=2"),
        ("none", "none"),
    ],
)
def test_cells_are_called_after_the_run_without_its_seed(name: str, cell: str) -> None:
    assert named(record(name=name)) == [cell]
    assert named(record(name=name), study="demo") == [f"demo/{cell}"]


def test_seeds_are_one_cell_called_after_the_lowest() -> None:
    runs = [record(seed=2), record(seed=1, name="first__seed=1"), record(data="50k")]
    assert named(*runs) == ["first", "first", "lora_50k"]


def test_settings_of_one_name_are_two_cells() -> None:
    other = record(seed=1)
    config: dict[str, Any] = other.config | {"train": {"epochs": 2.0}}
    assert named(record(), other.updated(config=config), record(seed=2)) == ["lora_20k", "lora_20k (2)", "lora_20k"]


def test_another_signature_is_another_cell_but_a_score_that_lacks_is_not() -> None:
    runs = [record(), with_scores(record(seed=1), rougeL="words"), with_scores(record(seed=2), perplexity=None)]
    assert named(*runs) == ["lora_20k", "lora_20k (2)", "lora_20k"]


def test_table_statistics_and_charts_have_the_same_cells(tmp_path: Path) -> None:
    config: dict[str, Any] = record().config | {"train": {"epochs": 2.0}}
    runs = [
        *(record("lora", data, seed) for data in ("20k", "50k") for seed in (0, 1, 2)),
        # Of the same names but for the seed, and of other settings: once the pictures put it with the others.
        record("lora", "20k", seed=7).updated(config=config),
        with_scores(record("qlora", "20k"), perplexity=None),
        record("qlora", "20k", seed=1),
        record("none"),
    ]
    found = runs_of(tmp_path, *runs)
    sizes = {"none": 1, "lora_20k": 3, "lora_20k (2)": 1, "lora_50k": 3, "qlora_20k": 2}
    assert {cell.name: len(cell.runs) for cell in cells_of(found)} == sizes
    table = cells_table(results_table(found))
    assert dict(zip(table["cell"], table["seeds"], strict=True)) == sizes
    (group,) = groups_of(found)
    assert {cell.name: len(cell.runs) for cell in group.cells} == sizes
    # A mean over some of the seeds is none.
    assert table.set_index("cell")["perplexity_mean"].to_dict()["qlora_20k"] is None


def test_labels_of_long_names_differ_where_they_are_cut(tmp_path: Path) -> None:
    """Names whose first settings agree; the second is cut at 200 bytes and ends in a digest."""
    shared = "lora_20k__method.rank=4__method.alpha=8"
    rest = "__data.scale=0.003__train.epochs=1.0__train.warmup_ratio=0.1__train.weight_decay=0.01"
    cut = f"{shared}__method.rslora=True{rest}__train.max_gradient_norm=0.5__train.learning_rate=0.00012__evaluate.m"
    cut = f"{cut[:190]}__6f6dc123"
    names = [f"{shared}{rest}", cut, f"{shared}{rest}__train.max_length=8", f"{shared}{rest}__train.max_length=9"]
    assert len(cut) == 200
    group = group_of(tmp_path, *(record().updated(name=name, identity=name) for name in names))
    assert len(group.entries) == len({two_lines(entry) for entry in group.entries}) == 4
    assert not any("train.learning" in entry for entry in group.entries)


def test_legends_name_only_settings_that_differ(tmp_path: Path) -> None:
    asked = "__evaluate.text=wikitext2"
    runs = [record(method, "20k").updated(name=f"{method}_20k{asked}") for method in ("lora", "qlora")]
    # It loads no model, so settings of a model are not in its name.
    retrieval = record("retrieval", "20k", train=None)
    assert group_of(tmp_path, *runs, retrieval, record("none")).entries == ["LoRA", "QLoRA", "retrieval"]


def test_a_row_says_whether_its_run_trains(tmp_path: Path) -> None:
    runs = [record("lora"), record("none"), record("retrieval", train=None), failed("qlora", "20k")]
    found = {run.known.method: run.trains for run in runs_of(tmp_path, *runs)}
    # What failed would have trained, as far as its row says.
    assert found == {"lora": True, "none": False, "retrieval": False, "qlora": True}
