"""What `model/roofline.py` says of a layer, against what our code launches for one, counted without a GPU."""

from typing import Any

import pytest

from medqa_finetune.model.cards import CARDS
from scripts.benchmarks.coefficients import (
    LORA,
    bytes_outside_products,
    decoding_settings,
    flops,
    launches,
    said,
    settings_without_flash,
    training_settings,
)
from scripts.benchmarks.published import FIGURES, predicted
from scripts.benchmarks.roofline import METHODS, count_one_layer
from scripts.fake_cuda.walk import lack


@pytest.mark.slow
@pytest.mark.skipif(lack() is not None, reason=str(lack()))
def test_predicted_work_of_a_layer_is_what_our_code_launches() -> None:
    cases: list[dict[str, Any]] = [
        training_settings(LORA), training_settings(METHODS["full"], again=False), decoding_settings(LORA),
        training_settings(METHODS["qlora"]), decoding_settings(METHODS["qlora"]),
        # A T4: padded attention, keys for every head, fp16.
        settings_without_flash(LORA), settings_without_flash(METHODS["qlora"]),
    ]  # fmt: skip
    for case, counted in zip(cases, count_one_layer(cases), strict=True):
        one, two = said(case, layers=1), said(case, layers=2)
        number, work, moved = (more - less for more, less in zip(two, one, strict=True))
        assert number == pytest.approx(launches(counted), rel=0.15)
        assert work == pytest.approx(flops(counted), rel=0.15)
        if case["step"] == "training":  # a token's own traffic is nothing beside that of the weights
            assert moved == pytest.approx(bytes_outside_products(counted), rel=0.15)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.work)
def test_prediction_is_within_a_factor_of_two_of_the_published(figure: Any) -> None:
    assert figure.gpu in CARDS
    assert figure.least / 2 < predicted(figure) < figure.most * 2
