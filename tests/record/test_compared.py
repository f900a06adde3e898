"""Which runs of a study are compared, and whose batches another one takes over."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.schema import Config
from medqa_finetune.record.compared import asks_alike, choices_of, compared_runs, comparison_of, trained_with
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Environment, Fitted, Record
from tests.config.builders import VALID, changed

AUTO: Config = changed(VALID, train__micro_batch="auto", train__gradient_checkpointing="auto")
PLACE = Environment({}, "card", "bf16", None, [])


def record(name: str = "lora_20k", config: Config = AUTO, **changes: Any) -> Record:
    made = Record(name, "0", "running", "lora", "20k", "tiny", 0, dataclasses.asdict(config), environment=PLACE)
    return made.updated(**changes)


def fitted(micro_batch: int, again: bool = False, **changes: Any) -> Fitted:
    return Fitted(micro_batch, again, **{"chosen_in": "lora_20k"} | changes)


def values(found: list[Fitted]) -> list[tuple[int, bool]]:
    return [(each.micro_batch, each.gradient_checkpointing) for each in found]


@pytest.mark.parametrize(
    ("changes", "compares"),
    [
        ({"seed": 4}, True), ({"data__train_size": 5}, True), ({"method__rank": 4}, True),
        ({"train__learning_rate": 1.0}, True), ({"train__micro_batch": 2}, True),
        ({"train__max_length": 512}, False), ({"train__batch_size": 4}, False), ({"train__packing": False}, False),
        ({"train__kernels": "liger"}, False), ({"precision": "fp32"}, False),
        ({"model__path": "embedded:other"}, False),
    ],
)  # fmt: skip
def test_compared_runs_share_what_decides_what_fits(changes: dict[str, Any], compares: bool) -> None:
    # What `checked` refuses is not asked here.
    other = AUTO
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        inner = dataclasses.replace(getattr(other, section), **{name: value}) if section else value
        other = dataclasses.replace(other, **{section or name: inner})
    first, second = (comparison_of(dataclasses.asdict(each)) for each in (AUTO, other))
    assert (first == second) is compares


def test_trainings_of_the_study_are_found_in_order_of_start(tmp_path: Path) -> None:
    later, none = record(started="2026-02-02"), changed(AUTO, method__trains="nothing")
    for name, made in {
        "b": later, "a": record(started="2026-01-01"), "pending": record(status="pending"),
        "own": record(), "none": record(config=none), "a.old-1": record(),
        "other": record(config=changed(AUTO, train__max_length=512)),
    }.items():  # fmt: skip
        RunDir(tmp_path / name).write(made)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "record.json").write_text("{", encoding="utf-8")
    found = compared_runs(tmp_path, dataclasses.asdict(AUTO), but="own")
    assert [each.name for each in found] == ["a", "b", "pending"]


def test_a_run_trains_with_its_choice_or_with_numbers() -> None:
    assert trained_with(record()) is None
    assert trained_with(record(fitted=fitted(2))) == fitted(2)
    found = trained_with(record(config=VALID))
    assert found == Fitted(4, gradient_checkpointing=True, chosen_in="lora_20k")


def test_the_choice_of_most_runs_comes_first_and_exceptions_last() -> None:
    runs = [record(fitted=fitted(1, instead_of="x")), record(fitted=fitted(2)), record(fitted=fitted(4)),
            record(fitted=fitted(4)), record(fitted=fitted(1, instead_of="x"))]  # fmt: skip
    assert values(choices_of(runs, AUTO.train, "card")) == [(4, False), (2, False), (1, False)]
    assert choices_of(runs, AUTO.train, "another card") == []
    assert choices_of([record(fitted=fitted(4), environment=None)], AUTO.train, "card") == []


def test_values_typed_for_another_run_are_no_choice() -> None:
    typed = changed(AUTO, train__micro_batch=2)
    name = "lora_20k__train.micro_batch=2"
    runs = [record(name, typed, fitted=fitted(2))]
    assert choices_of(runs, AUTO.train, "card") == []
    assert values(choices_of(runs, typed.train, "card")) == [(2, False)]
    # A former default is in no name, and neither is a profile's value.
    assert values(choices_of([record(config=VALID)], AUTO.train, "card")) == [(4, True)]
    # What is typed here must be what the other has.
    assert choices_of([record(fitted=fitted(8))], typed.train, "card") == []
    assert asks_alike(record(), AUTO.train)
    assert not asks_alike(record(), typed.train)
