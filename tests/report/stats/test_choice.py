"""Settings that were swept are chosen by validation loss, whatever the test set says."""

import dataclasses
from pathlib import Path
from typing import Any

from medqa_finetune.record.schema import Record, SetManifest
from medqa_finetune.report.analysis import chosen_cells
from medqa_finetune.report.comparability import unfair
from medqa_finetune.report.grouping import cells_of
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.choice import choose, is_number
from tests.report.builders import evaluation, record, runs_of, train

RATE = "train.learning_rate"


def tried(rate: float, loss: float | None, rouge: float = 20.0, seed: int = 0, method: str = "lora") -> Record:
    config: dict[str, Any] = record(method).config
    config = config | {"method": {"name": method, "trains": "adapter", "rank": 8}, "train": {"learning_rate": rate}}
    name = f"{method}_20k__{RATE}={rate}" + (f"__seed={seed}" if seed else "")
    cost = dataclasses.replace(train(100.0, None), best_validation_loss=loss)
    return record(
        method, name=name, identity=name, config=config, train=cost, seed=seed, evaluation=evaluation(rouge, 5.0)
    )


def cells(tmp_path: Path, *records: Record) -> list[Cell]:
    return cells_of(runs_of(tmp_path, *records))


def test_the_lowest_validation_loss_is_chosen_not_the_best_score(tmp_path: Path) -> None:
    found = choose(cells(tmp_path, tried(1e-4, 2.0, rouge=50.0), tried(3e-4, 1.5, rouge=20.0), tried(1e-3, 1.9)))
    (choice,) = found.choices
    assert choice.keys == (RATE,)
    assert [each.values for each in choice.tries] == [(1e-4,), (3e-4,), (1e-3,)]
    assert (choice.chosen, choice.edge) == (f"lora_20k__{RATE}=0.0003", None)
    assert [cell.name for cell in found.cells] == [choice.chosen]


def test_seeds_are_averaged_before_the_choice(tmp_path: Path) -> None:
    records = [tried(1e-4, 1.0), tried(1e-4, 3.0, seed=1), tried(3e-4, 1.8), tried(3e-4, 1.9, seed=1)]
    (choice,) = choose(cells(tmp_path, *records)).choices
    assert choice.chosen == f"lora_20k__{RATE}=0.0003"
    assert [each.seeds for each in choice.tries] == [2, 2]
    assert all(each.sd for each in choice.tries)


def test_a_choice_at_the_end_of_a_sweep_says_so(tmp_path: Path) -> None:
    (choice,) = choose(cells(tmp_path, tried(1e-4, 2.0), tried(3e-4, 1.5), tried(9e-4, 1.4))).choices
    assert choice.edge == RATE


def test_of_two_values_one_is_always_at_the_end(tmp_path: Path) -> None:
    (choice,) = choose(cells(tmp_path, tried(1e-4, 2.0), tried(3e-4, 1.5))).choices
    assert choice.edge is None


def test_without_a_validation_loss_nothing_is_chosen(tmp_path: Path) -> None:
    found = choose(cells(tmp_path, tried(1e-4, None), tried(3e-4, None)))
    assert [choice.chosen for choice in found.choices] == [None]
    assert len(found.cells) == 2


def test_methods_are_no_tries_of_each_other(tmp_path: Path) -> None:
    assert choose(cells(tmp_path, tried(1e-4, 2.0), tried(1e-4, 1.0, method="qlora"))).choices == ()


def test_losses_on_other_validation_examples_are_no_tries(tmp_path: Path) -> None:
    first, second = tried(1e-4, 2.0), tried(3e-4, 1.0)
    assert first.data_manifest is not None
    other = dataclasses.replace(first.data_manifest, validation=SetManifest(1000, "d" * 64))
    assert choose(cells(tmp_path, first, second.updated(data_manifest=other))).choices == ()


def test_a_setting_that_validation_cannot_choose_makes_no_tries(tmp_path: Path) -> None:
    first, second = tried(1e-4, 2.0), tried(3e-4, 1.0)
    longer = second.config | {"train": second.config["train"] | {"max_length": 64}}
    assert choose(cells(tmp_path, first, second.updated(config=longer))).choices == ()


def test_a_cell_of_which_a_seed_has_no_loss_is_not_chosen(tmp_path: Path) -> None:
    records = [tried(1e-4, 1.0), tried(1e-4, None, seed=1), tried(1e-4, 1.1, seed=2), tried(3e-4, 1.8)]
    (choice,) = choose(cells(tmp_path, *records)).choices
    assert [(each.loss, each.sd) for each in choice.tries] == [(None, None), (1.8, None)]
    # Of one value there is no end.
    assert (choice.chosen, choice.edge) == (f"lora_20k__{RATE}=0.0003", None)


def test_a_truth_value_is_no_number() -> None:
    assert [is_number(value) for value in (1, 0.5, True, False, None, "1")] == [True, True, *[False] * 4]


def test_chosen_cells_compare_although_their_settings_differ(tmp_path: Path) -> None:
    first, second = cells(tmp_path, tried(1e-4, 2.0), tried(3e-4, 1.0, method="qlora"))
    assert RATE in {each.what for each in unfair(first, second, "rougeL")}
    assert RATE not in {each.what for each in unfair(first, second, "rougeL", {RATE})}


def test_of_too_many_cells_the_chosen_are_kept(tmp_path: Path) -> None:
    many = cells(tmp_path, *(tried(rate / 1e4, float(rate), rouge=rate) for rate in range(1, 40)))
    kept, rest = chosen_cells(many, {many[0].name})
    assert many[0] in kept
    assert len(rest) == 39 - len(kept)
