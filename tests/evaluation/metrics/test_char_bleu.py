import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import corpus_bleu
from sacrebleu import BLEU

from medqa_finetune.evaluation.metrics.bleu import reference_streams
from medqa_finetune.evaluation.metrics.char_bleu import METRIC, brevity_penalty
from medqa_finetune.evaluation.predictions import Prediction, read_predictions
from tests.evaluation.golden import GOLDEN, needs_golden

texts = st.text(st.sampled_from("头痛发热药日a1. \n\u3000℃😊，。"), max_size=25)
answers_lists = st.lists(
    st.builds(
        Prediction,
        id=st.just("a"),
        question=st.just(""),
        references=st.lists(texts, min_size=1, max_size=3).map(tuple),
        prediction=texts,
    ),
    min_size=1,
    max_size=6,
)


def values(answers: list[Prediction]) -> dict[str, float]:
    return {name: score.value for name, score in METRIC.corpus(answers, METRIC.items(answers)).items()}


@given(answers_lists)
@settings(deadline=None)
def test_equals_nltk(answers: list[Prediction]) -> None:
    references = [[list("".join(text.split())) for text in answer.references] for answer in answers]
    predictions = [list("".join(answer.prediction.split())) for answer in answers]
    got = values(answers)
    for order in (1, 2, 3, 4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that an order has no n-gram in common
            wanted = 100 * corpus_bleu(references, predictions, weights=[1 / order] * order)
        assert got[f"char_bleu{order}"] == pytest.approx(wanted, abs=1e-9)


@given(answers_lists.filter(lambda answers: all(len("".join(a.prediction.split())) >= 4 for a in answers)))
@settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_equals_sacrebleu_where_no_answer_is_too_short(answers: list[Prediction]) -> None:
    got = values(answers)
    for order in (1, 2, 3, 4):
        tool = BLEU(tokenize="char", smooth_method="none", max_ngram_order=order, force=True)
        wanted = tool.corpus_score([answer.prediction for answer in answers], reference_streams(answers)).score
        assert got[f"char_bleu{order}"] == pytest.approx(wanted, abs=1e-9)


@needs_golden
def test_golden_pairs_as_a_corpus() -> None:
    # nltk 3.10.4, corpus_bleu over the characters of the 24 pairs.
    assert list(values(read_predictions(GOLDEN)).values()) == pytest.approx(
        [68.45878136, 57.40812018, 48.91907524, 42.28497424], abs=1e-6
    )


def test_pinned_by_hand() -> None:
    # 恶心呕吐腹泻 / 腹泻呕吐恶心: 6 of 6, 3 of 5, 0 of 4; and half as long: e^(1 - 2).
    assert values([Prediction("a", "", ("腹泻呕吐恶心",), "恶心呕吐腹泻")]) == pytest.approx(
        {"char_bleu1": 100, "char_bleu2": 100 * 0.6**0.5, "char_bleu3": 0, "char_bleu4": 0}
    )
    assert values([Prediction("a", "", ("头痛发热",), "头痛")])["char_bleu1"] == pytest.approx(36.787944117)
    # The limit of e^(1 - r/c) for ever shorter predictions.
    assert brevity_penalty(0, 4) == 0


def test_empty_answers_count() -> None:
    assert set(values([Prediction("a", "", ("头痛",), ""), Prediction("b", "", ("",), "")]).values()) == {0.0}
    assert METRIC.signature("char_bleu2", [Prediction("a", "", ("r",), "")]).startswith(
        "char_bleu2|nrefs:1|tokens:chars|"
    )
