import dataclasses
from typing import Any

import pytest

from medqa_finetune.record.schema import Score
from medqa_finetune.report.cells import Cell
from medqa_finetune.report.fairness import axis_between, unfair, unfair_costs
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
    assert axis_between(first, second) == axis
    assert axis_between(second, first) == axis
    assert unfair(first, second, "rougeL") is None


@pytest.mark.parametrize(
    ("facts", "said", "zh"),
    [
        ({"steps": 999}, "steps (1,250, 999)", "训练步数（1,250，999）"),
        ({"epochs": 2.0, "steps": 2500}, "epochs (1.0, 2.0)", "训练轮数（1.0，2.0）"),
        ({"batch_size": 32}, "pairs per step (16, 32)", "每步样本数（16，32）"),
        ({"batch_tokens": 2500.0}, "tokens per step (2,400, 2,500)", "每步 token 数（2,400，2,500）"),
        ({"precision": "bf16"}, "precision (fp16, bf16)", "精度（fp16，bf16）"),
        ({"device": "A100"}, "device (made up, A100)", "设备（made up，A100）"),
        ({"versions": {"python": "3.11", "torch": "2.13"}}, "torch (unknown, 2.13)", "torch（unknown，2.13）"),
        ({"n": 999}, "questions (1,000, 999)", "题数（1,000，999）"),
        ({"environment": None}, "precision (fp16, unknown)", "精度（fp16，unknown）"),
        (
            {"scores": {"rougeL": Score(25.0, "rougeL|words")}},
            "signature (rougeL|chars, rougeL|words)",
            "评分签名（rougeL|chars，rougeL|words）",
        ),
    ],
)
@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_anything_else_that_differs_is_named(facts: dict[str, Any], said: str, zh: str, method: str) -> None:
    fault = unfair(cell("lora", 20_000), cell(method, 20_000, rank=8, **facts), "rougeL")
    assert fault is not None
    assert said in fault.en
    assert zh in fault.zh


@pytest.mark.parametrize("method", ["none", "lora"])
def test_what_loads_no_model_has_neither_device_nor_precision(method: str) -> None:
    facts: dict[str, Any] = {"train": None, "device": "cpu", "precision": None, "versions": {}}
    found = cell("retrieval", 20_000, **facts)
    model = cell(method, 50_000)
    assert unfair(found, model, "rougeL") is not None  # a model on another device
    found = with_setting(found, "method.trains", "lookup")
    assert unfair(found, model, "rougeL") is None
    assert unfair(model, found, "rougeL") is None
    assert unfair(found, cell(method, 50_000, n=999), "rougeL") is not None


def test_another_test_set_is_named() -> None:
    first, second = cell("lora", 20_000), cell("qlora", 20_000)
    manifest = second.first.data_manifest
    assert manifest is not None
    other = dataclasses.replace(manifest, test=dataclasses.replace(manifest.test, sha256="0" * 64))
    fault = unfair(first, cell("qlora", 20_000, data_manifest=other), "rougeL")
    assert fault is not None
    assert "test set (1f2e1f2e, 00000000)" in fault.en


@pytest.mark.parametrize("key", ["train.learning_rate", "evaluate.max_new_tokens", "train.epochs", "corpus.sha256"])
def test_another_setting_beside_the_method_is_named(key: str) -> None:
    # Of epochs the record's own figure is told.
    second = with_setting(cell("qlora", 20_000, epochs=7.0 if key == "train.epochs" else 1.0), key, 7)
    fault = unfair(cell("lora", 20_000), second, "rougeL")
    assert fault is not None
    assert key.removeprefix("train.") in fault.en


@pytest.mark.parametrize("key", ["evaluate.text", "evaluate.text_sha256", "evaluate.stride", "evaluate.zero_shot"])
def test_what_was_examined_beside_the_answers_is_no_difference_of_theirs(key: str) -> None:
    first, second = cell("none", 0, train=None), cell("lora", 20_000)
    assert unfair(first, with_setting(second, key, 64), "rougeL") is None
    assert unfair(with_setting(cell("qlora", 20_000), key, 64), second, "rougeL") is None


def test_two_settings_at_once_are_named() -> None:
    first = cell("lora", 20_000)
    second = with_setting(with_setting(first, "train.learning_rate", 1), "train.warmup_ratio", 2)
    fault = unfair(first, second, "rougeL")
    assert fault is not None
    assert "train.learning_rate (0.0002, 1); train.warmup_ratio (0.03, 2)" in fault.en


def test_how_a_batch_was_cut_changes_no_score_but_costs() -> None:
    first, second = cell("lora", 20_000), cell("qlora", 20_000, micro_batch=1)
    assert unfair(first, with_setting(second, "train.micro_batch", 1), "rougeL") is None
    assert unfair_costs(first, second)
    assert not unfair_costs(first, cell("lora", 50_000))


def test_other_kernels_beside_the_method_are_named_and_cost_otherwise() -> None:
    first = with_setting(cell("lora", 20_000), "train.kernels", "torch")
    second = with_setting(cell("qlora", 20_000), "train.kernels", "liger")
    fault = unfair(first, second, "rougeL")
    assert fault is not None
    assert "train.kernels (torch, liger)" in fault.en
    assert unfair_costs(first, second)
    assert not unfair_costs(first, with_setting(second, "train.kernels", "torch"))


def test_more_data_may_mean_more_steps_or_fewer_epochs_not_both() -> None:
    first = cell("lora", 20_000)
    assert unfair(first, cell("lora", 40_000, steps=1250, epochs=0.5), "rougeL") is None
    fault = unfair(first, cell("lora", 40_000, steps=1250 * 4, epochs=2.0), "rougeL")
    assert fault is not None
    assert "steps (1,250, 5,000); epochs (1.0, 2.0)" in fault.en


def test_pairs_of_another_size_may_be_a_little_longer() -> None:
    first = cell("lora", 20_000)
    assert unfair(first, cell("lora", 50_000, batch_tokens=2500.0), "rougeL") is None
    assert unfair(first, cell("lora", 50_000, batch_tokens=2700.0), "rougeL") is not None


def test_perplexities_of_two_tokenizers_do_not_compare() -> None:
    first, second = cell("lora", 20_000), cell("lora", 20_000, model="other")
    assert unfair(first, second, "rougeL") is None
    fault = unfair(first, second, "perplexity")
    assert fault is not None
    assert "tokenizer (made-up, other)" in fault.en


def test_a_baseline_need_not_have_trained_alike() -> None:
    assert unfair(cell("none", 20_000), cell("lora", 50_000, batch_size=99), "rougeL") is None
    assert unfair(cell("none", 20_000), cell("lora", 50_000, device="A100"), "rougeL") is not None


def test_seeds_that_differ_in_more_than_the_seed_are_a_difference() -> None:
    mixed = cell("lora", 20_000, seeds=2)
    other = dataclasses.replace(mixed.runs[1], record=with_facts(mixed.runs[1].record, device="A100"))
    fault = unfair(Cell(mixed.name, (mixed.runs[0], other)), cell("qlora", 20_000), "rougeL")
    assert fault is not None
    assert "device (A100 / made up, made up)" in fault.en


def test_many_differences_are_counted() -> None:
    facts: dict[str, Any] = {"steps": 1, "batch_size": 1, "precision": "fp32", "device": "A100", "epochs": 3.0}
    fault = unfair(cell("lora", 20_000), cell("qlora", 20_000, **facts), "rougeL")
    assert fault is not None
    assert fault.en.endswith("; and 1 more.")
    assert fault.zh.endswith("等共 5 项。")


def test_a_record_of_little_is_compared_all_the_same() -> None:
    bare = record_without_settings()
    assert axis_between(bare, bare) == "baseline"
    assert unfair(bare, bare, "rougeL") is None


def record_without_settings() -> Cell:
    each = cell("lora", 20_000)
    bare = each.first.updated(config={}, data_manifest=None, train=None)
    return Cell("bare", (dataclasses.replace(each.runs[0], record=bare),))


@pytest.mark.parametrize("other", [cell("lora", 50_000), cell("qlora", 20_000), cell("none", 20_000)])
def test_answers_of_two_backends_do_not_compare(other: Cell) -> None:
    ours = with_setting(cell("lora", 20_000), "evaluate.backend", "transformers")
    assert unfair(ours, with_setting(other, "evaluate.backend", "transformers"), "rougeL") is None
    said = unfair(ours, with_setting(other, "evaluate.backend", "vllm"), "rougeL")
    assert said is not None
    assert "evaluate.backend (transformers, vllm)" in said.en


def test_another_backend_alone_is_no_axis() -> None:
    first, second = (with_setting(cell("lora", 20_000), "evaluate.backend", name) for name in ("transformers", "vllm"))
    assert axis_between(first, second) == ""
    assert unfair(first, second, "rougeL") is not None
