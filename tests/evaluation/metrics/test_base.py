import importlib
import types

import pytest

from medqa_finetune.config.evaluation_checks import metric_names
from medqa_finetune.errors import ConfigError
from medqa_finetune.evaluation.metric_registry import find_metric
from medqa_finetune.evaluation.metrics.base import (
    Better,
    Prominence,
    ScoreInfo,
    ScoreWords,
    characters,
    reference_count,
)
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.evaluation.score import score_predictions
from tests.faulty import only_fault


def test_every_file_is_a_metric_that_is_found() -> None:
    assert metric_names() == sorted(metric_names())
    assert {"bleu", "perplexity", "rouge"} <= set(metric_names())
    for name in metric_names():
        assert find_metric(name).names


@pytest.mark.parametrize("name", ["bluer", "base", "", "..errors", "rouge.METRIC"])
def test_unknown_name_lists_what_exists(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_metric(name)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "metrics", name)
    assert fault.allowed == tuple(metric_names())


def test_a_file_without_metric_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", types.ModuleType)
    with pytest.raises(ConfigError) as caught:
        find_metric("rouge")
    assert (only_fault(caught).code, only_fault(caught).got) == ("not-a-metric", "rouge")


def test_characters_are_code_points_but_white_space() -> None:
    assert characters(" 每日\u3000一次\n\x1c\u00a0\u2003😊\u200b") == "每日一次😊\u200b"


def test_reference_count() -> None:
    one, two = Prediction("a", "", ("r",), ""), Prediction("b", "", ("r", "s"), "")
    assert reference_count([one, one]) == 1
    assert reference_count([one, two]) is None


def test_limits_are_those_of_perfect_answers() -> None:
    text = "头痛三天应多休息"
    perfect = Prediction("a", "", (text,), text, reference_nll=0.0, reference_tokens=9)
    found = score_predictions([perfect], metric_names())[0].scores
    for name in metric_names():
        for info in find_metric(name).scores:
            # One way is better: that limit is reached. Other scores of one answer have no best.
            best = {Better.HIGHER: info.high, Better.LOWER: info.low}.get(info.better)
            if best is not None and not info.running_text:
                assert found[info.name].value == pytest.approx(best), info.name


def test_signatures_are_those_of_stored_records() -> None:
    """Another signature would say that scores of earlier versions do not compare with today's."""
    answers = [Prediction(name, "", ("是的",), "是的", reference_nll=0.0, reference_tokens=1) for name in "ab"]
    found = score_predictions(answers, [name for name in metric_names() if name != "bleu"])[0].scores
    bleu = "nrefs:1|tokens:chars|case:mixed|smooth:none|short:one miss|weights:equal|mean:corpus"
    rouge = "nrefs:1|tokens:chars|case:mixed|f1|mean:items|refs:best|empty:0"
    theirs = "nrefs:1|tokens:jieba-0.42.1|case:mixed|f1"
    expected = {
        **{f"char_bleu{order}": f"char_bleu{order}|{bleu}" for order in (1, 2, 3, 4)},
        **{name: f"{name}|{rouge}" for name in ("rouge1", "rouge2", "rougeL")},
        **{name: f"{name}|{theirs}|ngram-sets|round:4|mean:items|empty:0" for name in ("lf_rouge1", "lf_rouge2")},
        "lf_rougel": f"lf_rougel|{theirs}|lcs|round:4|mean:items|empty:0",
        "lf_bleu4": "lf_bleu4|nrefs:1|tokens:chars+spaces|case:mixed|smooth:nltk3|round:4|mean:items|empty:0",
        "distinct2": "distinct2|tokens:chars|over:all answers|answers:2",
        "length_ratio": "length_ratio|reference:first|tokens:chars|ratio:corpus",
        "leaked_tokens": "leaked_tokens|list:1|sum:answers|answers:2",
        "perplexity": "perplexity|reference:first|tokens:answer+end|mean:token",
    }
    assert {name: score.signature for name, score in found.items()} == expected


def test_a_score_of_which_little_is_said() -> None:
    info = ScoreInfo("kappa")
    assert (info.key, info.limits, info.sign, info.digits) == ("kappa", (0, float("inf")), 1, 2)
    assert (info.aggregate, info.per_tokenizer, info.running_text) == (None, False, False)
    assert info.words_in("zh") == ScoreWords("kappa", "kappa", "kappa", "kappa")


def test_words_stand_in_for_those_that_are_missing() -> None:
    info = ScoreInfo("x", Better.LOWER, words={"en": ScoreWords("X", short="x")}, recorded_as="y")
    assert (info.key, info.sign) == ("y", -1)
    assert info.words_in("zh") == ScoreWords("X", "X", "X", "x")
    assert ScoreInfo("x", Better.NEITHER).sign == 0


def test_prominence_has_an_order() -> None:
    assert sorted(Prominence) == [Prominence.HEADLINE, Prominence.MAIN, Prominence.DETAIL]
    assert len(Prominence) == 3
