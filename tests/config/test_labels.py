"""Short names of the cells of a matrix, by their settings."""

import dataclasses

import pytest

from medqa_finetune.config.labels import as_typed, labels_of, with_size
from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.config.size_names import size_name
from tests.config.builders import VALID, changed

NONE = MethodConfig(name="none", trains="nothing")


def method(settings: MethodConfig, config: Config = VALID) -> Config:
    return dataclasses.replace(config, method=settings)


def test_cells_are_called_by_what_tells_them_apart() -> None:
    rates = [changed(VALID, train__learning_rate=rate, train__max_length=160) for rate in (1e-4, 3e-4)]
    assert labels_of([method(NONE, rates[0]), *rates]) == ["untuned base", "LoRA 20k lr 1e-4", "LoRA 20k lr 3e-4"]


def test_settings_of_a_method_are_told_within_it() -> None:
    qlora = MethodConfig(name="qlora", quantization="nf4")
    ranks = [method(dataclasses.replace(VALID.method, rank=rank)) for rank in (8, 16)]
    assert labels_of([*ranks, method(qlora)]) == ["LoRA 20k rank 8", "LoRA 20k rank 16", "QLoRA 20k"]


def test_seeds_and_evaluations_are_cells_of_their_own() -> None:
    seeds = [dataclasses.replace(VALID, seed=seed, evaluation_name="default") for seed in (1, 2)]
    cells = [*seeds, dataclasses.replace(seeds[1], evaluation_name="max_samples=9")]
    assert labels_of(cells) == ["LoRA 20k seed 1", "LoRA 20k seed 2", "LoRA 20k max samples 9 seed 2"]


@pytest.mark.parametrize(
    ("written", "typed"),
    [("0.0001", "1e-4"), ("3.0", "3"), ("1e-05", "1e-5"), ("0.000123456", "0.000123456"), ("20261130", "20261130"),
     ("1_000", "1_000"), ("12e34567", "12e34567"), ("nan", "nan"), ("inf", "inf"), ("9" * 5000, "9" * 5000)],
)  # fmt: skip
def test_no_value_looks_like_another(written: str, typed: str) -> None:
    assert as_typed(written) == typed


@pytest.mark.parametrize("name", ["9" * 5000, "n" + "9" * 400 + "k", "1e5", "２０k"])
def test_what_is_no_size_keeps_its_name(name: str) -> None:
    assert size_name(name, 300) == name


@pytest.mark.parametrize(
    ("entry", "named"),
    [("LoRA lr 1e-4", "LoRA n300 lr 1e-4"), ("QLoRA 8-bit", "QLoRA 8-bit n300"), ("mine rank 8", "mine n300 rank 8")],
)
def test_a_size_stands_behind_the_method(entry: str, named: str) -> None:
    assert with_size(entry, "n300") == named
