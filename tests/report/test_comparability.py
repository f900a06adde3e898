import dataclasses
from typing import Any

import pytest

from medqa_finetune.record.schema import Score, Validated
from medqa_finetune.report.comparability import Axis, Difference, Fact, axes_between, unfair, unfair_costs, unfair_times
from medqa_finetune.report.runs import Cell, Run, settings_of
from tests.report.builders import record
from tests.report.made import cell, with_setting
from tests.report.made import changed as with_facts


@pytest.mark.parametrize(
    ("first", "second", "axis"),
    [
        (cell("lora", 20_000), cell("qlora", 20_000), "method"),
        (cell("lora", 20_000), cell("lora", 50_000), "data"),
        (cell("lora", 20_000), cell("qlora", 50_000), "method + data"),
        (cell("lora", 20_000), cell("lora", 20_000, rank=8), "method"),
        (cell("lora", 20_000), cell("lora", 20_000, model="other"), "model"),
        (cell("none", 20_000), cell("lora", 50_000), "baseline"),
        (cell("retrieval", 20_000, train=None), cell("lora", 50_000), "baseline"),
        (cell("lora", 20_000), with_setting(cell("lora", 20_000), "train.learning_rate", 1e-4), "train.learning_rate"),
        (
            with_setting(cell("lora", 20_000), "data.near_duplicate_threshold", 0.8),
            with_setting(cell("lora", 20_000), "data.near_duplicate_threshold", 0.7),
            "data.near_duplicate_threshold",
        ),
        (
            with_setting(cell("lora", 20_000), "train.micro_batch", 4),
            with_setting(cell("lora", 20_000), "train.micro_batch", 1),
            "train.micro_batch",
        ),
        (
            with_setting(cell("lora", 20_000), "train.kernels", "torch"),
            with_setting(cell("lora", 20_000), "train.kernels", "liger"),
            "train.kernels",
        ),
    ],
)
def test_what_is_compared(first: Cell, second: Cell, axis: str) -> None:
    assert axes_between(first, second) == tuple(axis.split(" + "))
    assert axes_between(second, first) == axes_between(first, second)
    assert unfair(first, second, "rougeL") == ()


@pytest.mark.parametrize(
    ("facts", "difference"),
    [
        ({"steps": 999}, Difference(Fact.STEPS, (1250,), (999,))),
        ({"epochs": 2.0, "steps": 2500}, Difference(Fact.EPOCHS, (1.0,), (2.0,))),
        ({"batch_size": 32}, Difference(Fact.PAIRS_PER_STEP, (16,), (32,))),
        ({"batch_tokens": 2500.0}, Difference(Fact.TOKENS_PER_STEP, (2400,), (2500,))),
        ({"precision": "bf16"}, Difference(Fact.PRECISION, ("fp16",), ("bf16",))),
        ({"device": "A100"}, Difference(Fact.DEVICE, ("made up",), ("A100",))),
        ({"versions": {"python": "3.11", "torch": "2.13"}}, Difference("torch", (None,), ("2.13",))),
        ({"n": 999}, Difference(Fact.QUESTIONS, (1000,), (999,))),
        ({"environment": None}, Difference(Fact.PRECISION, ("fp16",), (None,))),
        (
            {"scores": {"rougeL": Score(25.0, "rougeL|words")}},
            Difference(Fact.SIGNATURE, ("rougeL|chars",), ("rougeL|words",)),
        ),
    ],
)
@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_anything_else_that_differs_is_named(facts: dict[str, Any], difference: Difference, method: str) -> None:
    assert difference in unfair(cell("lora", 20_000), cell(method, 20_000, rank=8, **facts), "rougeL")


@pytest.mark.parametrize("method", ["none", "lora"])
def test_what_loads_no_model_has_neither_device_nor_precision(method: str) -> None:
    facts: dict[str, Any] = {"train": None, "device": "cpu", "precision": None, "versions": {}}
    found = cell("retrieval", 20_000, **facts)
    model = cell(method, 50_000)
    assert unfair(found, model, "rougeL") != ()  # a model on another device
    found = with_setting(found, "method.trains", "lookup")
    assert unfair(found, model, "rougeL") == ()
    assert unfair(model, found, "rougeL") == ()
    assert unfair(found, cell(method, 50_000, n=999), "rougeL") != ()


def test_another_test_set_is_named() -> None:
    first, second = cell("lora", 20_000), cell("qlora", 20_000)
    manifest = second.first.data_manifest
    assert manifest is not None
    other = dataclasses.replace(manifest, test=dataclasses.replace(manifest.test, sha256="0" * 64))
    found = unfair(first, cell("qlora", 20_000, data_manifest=other), "rougeL")
    assert found == (Difference(Fact.TEST_SET, ("1f2e1f2e",), ("00000000",)),)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("train.learning_rate", "train.learning_rate"),
        ("evaluate.max_new_tokens", "evaluate.max_new_tokens"),
        ("train.epochs", Fact.EPOCHS),  # the record's own figure, not the setting
        ("corpus.sha256", "corpus.sha256"),
    ],
)
def test_another_setting_than_the_method_is_named(key: str, what: str) -> None:
    second = with_setting(cell("qlora", 20_000, epochs=7.0 if what is Fact.EPOCHS else 1.0), key, 7)
    (found,) = unfair(cell("lora", 20_000), second, "rougeL")
    assert (found.what, found.second) == (what, (7,))


@pytest.mark.parametrize("key", ["evaluate.text", "evaluate.text_sha256", "evaluate.stride", "evaluate.zero_shot"])
def test_other_benchmarks_are_no_difference_of_the_answers(key: str) -> None:
    first, second = cell("none", 0, train=None), cell("lora", 20_000)
    assert unfair(first, with_setting(second, key, 64), "rougeL") == ()
    assert unfair(with_setting(cell("qlora", 20_000), key, 64), second, "rougeL") == ()


def test_two_settings_at_once_are_named() -> None:
    first = cell("lora", 20_000)
    second = with_setting(with_setting(first, "train.learning_rate", 1), "train.warmup_ratio", 2)
    assert unfair(first, second, "rougeL") == (
        Difference("train.learning_rate", (0.0002,), (1,)),
        Difference("train.warmup_ratio", (0.03,), (2,)),
    )


def test_how_a_batch_was_cut_changes_no_score_but_costs() -> None:
    first, second = cell("lora", 20_000), cell("qlora", 20_000, micro_batch=1)
    assert unfair(first, with_setting(second, "train.micro_batch", 1), "rougeL") == ()
    assert unfair_costs(first, second)
    assert not unfair_costs(first, cell("lora", 50_000))


def test_several_processes_change_no_score_but_costs() -> None:
    first, second = cell("lora", 20_000), cell("qlora", 20_000, processes=2)
    assert unfair(first, second, "rougeL") == ()
    assert unfair_costs(first, second)


def test_seeds_of_an_earlier_version_are_of_the_same_cell() -> None:
    former: dict[str, Any] = {"train": {"micro_batch": 4, "gradient_checkpointing": True}}
    auto: dict[str, Any] = {"train": {"micro_batch": "auto", "gradient_checkpointing": "auto"}}
    first, second = (
        record("lora", seed=seed, config=record("lora").config | train) for seed, train in enumerate((former, auto))
    )
    assert settings_of(first) == settings_of(second)
    typed = first.updated(name="lora_20k__train.micro_batch=4")
    assert settings_of(typed) != settings_of(first)
    # But where seeds were trained with different batches, the cell's costs do not compare.
    mixed = Cell(
        "lora", tuple(Run("lora", "", with_facts(each, micro_batch=size)) for each, size in ((first, 4), (second, 16)))
    )
    assert unfair_costs(mixed, mixed)


def test_validation_on_more_examples_than_another_is_a_difference() -> None:
    """Except between sizes, which it follows."""
    auto = {"train": {"validations": "auto", "validation_samples": "auto"}}
    before = {"train": {"validations": 5}}

    def of(method: str, data: str, train: dict[str, Any], validation: Validated | None) -> Cell:
        each = record(method, data, config=record(method, data).config | train, validation=validation)
        return Cell(each.name, (Run(each.name, "", each),))

    small, large = Validated(2, 32, 1000, 0.2), Validated(5, 1000, 1000, 0.25)
    assert unfair(of("lora", "20k", auto, small), of("qlora", "20k", auto, small), "rougeL") == ()
    assert unfair(of("lora", "20k", auto, small), of("lora", "50k", auto, large), "rougeL") == ()
    found = unfair(of("lora", "20k", before, None), of("qlora", "20k", auto, small), "rougeL")
    assert found == (Difference("data.effective_validations", ("5 x 1000",), ("2 x 32",)),)
    # An earlier version came to the same for large sets.
    assert unfair(of("lora", "50k", before, None), of("qlora", "50k", auto, large), "rougeL") == ()


@pytest.mark.parametrize("rate", ["cpu_taken_rate", "gpu_throttled_rate", "gpu_shared_rate"])
def test_times_of_a_busy_machine_do_not_compare(rate: str) -> None:
    quiet, busy = (
        Cell("lora", (Run("lora", "", with_facts(cell("lora").first, **{rate: share})),)) for share in (0.05, 0.3)
    )
    other = cell("qlora", 20_000)
    assert not unfair_times(quiet, other)
    assert unfair_times(busy, other)
    assert unfair_times(other, busy)
    assert not unfair_costs(other, busy)


def test_other_kernels_than_the_method_alone_are_named_and_cost_otherwise() -> None:
    first = with_setting(cell("lora", 20_000), "train.kernels", "torch")
    second = with_setting(cell("qlora", 20_000), "train.kernels", "liger")
    assert unfair(first, second, "rougeL") == (Difference("train.kernels", ("torch",), ("liger",)),)
    assert unfair_costs(first, second)
    assert not unfair_costs(first, with_setting(second, "train.kernels", "torch"))


def test_more_data_may_mean_more_steps_or_fewer_epochs_not_both() -> None:
    first = cell("lora", 20_000)
    assert unfair(first, cell("lora", 40_000, steps=1250, epochs=0.5), "rougeL") == ()
    assert unfair(first, cell("lora", 40_000, steps=1250 * 4, epochs=2.0), "rougeL") == (
        Difference(Fact.STEPS, (1250,), (5000,)),
        Difference(Fact.EPOCHS, (1.0,), (2.0,)),
    )


def test_pairs_of_another_size_may_be_a_little_longer() -> None:
    first = cell("lora", 20_000)
    assert unfair(first, cell("lora", 50_000, batch_tokens=2500.0), "rougeL") == ()
    assert unfair(first, cell("lora", 50_000, batch_tokens=2700.0), "rougeL") != ()


def test_perplexities_of_two_tokenizers_do_not_compare() -> None:
    first, second = cell("lora", 20_000), cell("lora", 20_000, model="other")
    assert unfair(first, second, "rougeL") == ()
    assert unfair(first, second, "perplexity") == (Difference(Fact.TOKENIZER, ("made-up",), ("other",)),)


def test_a_baseline_need_not_have_trained_alike() -> None:
    assert unfair(cell("none", 20_000), cell("lora", 50_000, batch_size=99), "rougeL") == ()
    assert unfair(cell("none", 20_000), cell("lora", 50_000, device="A100"), "rougeL") != ()


def test_seeds_that_differ_in_more_than_the_seed_are_a_difference() -> None:
    mixed = cell("lora", 20_000, seeds=2)
    other = dataclasses.replace(mixed.runs[1], record=with_facts(mixed.runs[1].known, device="A100"))
    found = unfair(Cell(mixed.name, (mixed.runs[0], other)), cell("qlora", 20_000), "rougeL")
    assert found == (Difference(Fact.DEVICE, ("A100", "made up"), ("made up",)),)


def test_many_differences_are_all_found() -> None:
    facts: dict[str, Any] = {"steps": 1, "batch_size": 1, "precision": "fp32", "device": "A100", "epochs": 3.0}
    found = unfair(cell("lora", 20_000), cell("qlora", 20_000, **facts), "rougeL")
    assert {each.what for each in found} == {
        Fact.PRECISION, Fact.DEVICE, Fact.STEPS, Fact.EPOCHS, Fact.PAIRS_PER_STEP
    }  # fmt: skip


def test_a_record_of_little_is_compared_all_the_same() -> None:
    bare = record_without_settings()
    assert axes_between(bare, bare) == (Axis.BASELINE,)
    assert unfair(bare, bare, "rougeL") == ()


def record_without_settings() -> Cell:
    each = cell("lora", 20_000)
    bare = each.first.updated(config={}, data_manifest=None, train=None)
    return Cell("bare", (dataclasses.replace(each.runs[0], record=bare),))


@pytest.mark.parametrize("other", [cell("lora", 50_000), cell("qlora", 20_000), cell("none", 20_000)])
def test_answers_of_two_backends_do_not_compare(other: Cell) -> None:
    ours = with_setting(cell("lora", 20_000), "evaluate.backend", "transformers")
    assert unfair(ours, with_setting(other, "evaluate.backend", "transformers"), "rougeL") == ()
    found = unfair(ours, with_setting(other, "evaluate.backend", "vllm"), "rougeL")
    assert found == (Difference("evaluate.backend", ("transformers",), ("vllm",)),)


def test_another_backend_alone_is_no_axis() -> None:
    first, second = (with_setting(cell("lora", 20_000), "evaluate.backend", name) for name in ("transformers", "vllm"))
    assert axes_between(first, second) == ()
    assert unfair(first, second, "rougeL") != ()
