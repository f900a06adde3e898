"""Metrics of how answers look, without a look at what is right."""

import pytest

from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.evaluation.score import score_predictions


def answer(prediction: str, reference: str = "头痛应多休息") -> Prediction:
    return Prediction("a", "", (reference,), prediction)


def value(metric: str, *answers: Prediction) -> float | None:
    scores = score_predictions(answers, [metric])[0].scores
    return next((score.value for score in scores.values()), None)


def test_length_ratio_is_of_the_sums() -> None:
    # (3 + 0) / (6 + 6); the mean of the ratios would be the same here, and not below: (3 + 2) / (6 + 1).
    assert value("length_ratio", answer("头 痛\n应"), answer("")) == 0.25
    assert value("length_ratio", answer("头痛应"), answer("好的", "好")) == pytest.approx(5 / 7)
    assert value("length_ratio", answer("头痛", " ")) is None


def test_distinct_counts_over_all_answers() -> None:
    # 好的, 的好, 好的, 的好 and 好的, 的呀: three different of six; none across answers.
    assert value("distinct", answer("好的好的好"), answer("好的呀")) == 0.5
    assert value("distinct", answer("好"), answer("")) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("建议就诊<|im_end|>", 1),
        ("<|im_start|>assistant\n多休息<|im_end|><|endoftext|>", 3),
        ("<｜end▁of▁sentence｜>", 1),
        ("</s>多喝水<unk>[PAD]", 3),
        ("<think>先问</think>", 2),
        ("血压<140/90，肌酐>100；[1]；<strong>", 0),
        ("", 0),
    ],
)
def test_leaked_tokens_are_counted(text: str, count: int) -> None:
    assert value("special_tokens", answer(text), answer("好")) == count
