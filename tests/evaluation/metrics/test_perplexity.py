import math

import numpy as np
import pytest

from medqa_finetune.errors import DataError
from medqa_finetune.evaluation.metrics.perplexity import perplexity
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.evaluation.score import score_predictions
from medqa_finetune.record.schema import Score
from tests.faulty import only_fault


def answer(name: str, nll: float | None = None, tokens: int | None = None) -> Prediction:
    return Prediction(name, "", ("r",), "p", reference_nll=nll, reference_tokens=tokens)


def scores(*predictions: Prediction) -> dict[str, Score]:
    return score_predictions(predictions, ["perplexity"])[0].scores


def test_mean_is_over_tokens_not_over_answers() -> None:
    # Uniform over 8 tokens, 3 of them, and over 2 tokens, 1 of them: exp((3 ln 8 + ln 2) / 4) = 2 ** (10 / 4).
    got = scores(answer("a", 3 * math.log(8), 3), answer("b", math.log(2), 1))["perplexity"]
    assert got.value == pytest.approx(2**2.5)
    assert got.signature == "perplexity|reference:first|tokens:answer+end|mean:token"


def test_it_is_the_same_from_sums_as_the_bootstrap_has_them() -> None:
    sums = np.array([[3 * math.log(8) + math.log(2), 4.0], [math.log(8), 1.0]])
    assert perplexity(sums, 2) == pytest.approx([2**2.5, 8.0])


def test_an_answer_without_tokens_adds_nothing() -> None:
    assert scores(answer("a", 0.0, 0), answer("b", math.log(8), 1))["perplexity"].value == pytest.approx(8)


def test_no_likelihoods_no_score() -> None:
    assert scores(answer("a"), answer("b")) == {}


def test_some_likelihoods_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        scores(answer("a", 1.0, 1), answer("b"))
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("missing-key", "reference_nll")
    assert "1 of 2" in fault.problem
    assert "'b'" in fault.problem


def test_a_figure_beyond_numbers_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        scores(answer("a", 1000.0, 1))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("out-of-range", "reference_nll", 1000.0)
