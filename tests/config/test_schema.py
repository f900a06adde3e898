import dataclasses
import inspect
import re
from typing import Any

import pytest

from medqa_finetune.config.schema import (
    Config,
    CorpusConfig,
    DataConfig,
    EvaluateConfig,
    MethodConfig,
    ModelConfig,
    TrainConfig,
    scaled,
)
from tests.config.builders import VALID, changed, leaf_keys


@pytest.mark.parametrize(
    ("size", "scale", "expected"), [(20000, 0.01, 200), (1000, 1.0, 1000), (15, 0.5, 8), (3, 0.001, 1)]
)
def test_scaled_sizes_are_rounded_and_never_nothing(size: int, scale: float, expected: int) -> None:
    assert scaled(size, scale) == expected


def test_scale_applies_to_every_set() -> None:
    config = changed(VALID, data__scale=0.01, data__validation_size=500, data__test_size=300)
    assert (config.train_size, config.validation_size, config.test_size) == (200, 5, 3)


def test_every_pair_stays_every_pair_under_a_scale() -> None:
    assert changed(VALID, data__train_size=None, data__scale=0.1).train_size is None


@pytest.mark.parametrize("size", [None, 20000])
def test_nothing_is_taken_where_nothing_is_trained(size: int | None) -> None:
    assert changed(VALID, method__trains="nothing", data__train_size=size).train_size == 0


def test_held_out_sizes_ignore_the_method() -> None:
    baseline = changed(VALID, method__trains="nothing")
    assert (baseline.validation_size, baseline.test_size) == (VALID.validation_size, VALID.test_size)


def test_a_configuration_cannot_be_changed_behind_its_checks() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        VALID.train.epochs = 0.0  # type: ignore[misc]


SECTIONS: list[type[Any]] = [Config, MethodConfig, DataConfig, CorpusConfig, ModelConfig, TrainConfig, EvaluateConfig]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_setting_is_described_in_its_class(section: type[Any]) -> None:
    sections = {field.name for field in dataclasses.fields(Config)} if section is Config else set()
    sections -= {key for key in leaf_keys() if "." not in key} | {"interpolated"}
    # Python takes the indentation away by itself, from 3.13 on.
    described = re.findall(r"^    (\w+): ", inspect.cleandoc(str(section.__doc__)), flags=re.MULTILINE)
    assert set(described) - {"ConfigError"} == {field.name for field in dataclasses.fields(section)} - sections
