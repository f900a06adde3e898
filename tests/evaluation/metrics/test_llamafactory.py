import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medqa_finetune.evaluation.metrics import llamafactory
from medqa_finetune.evaluation.metrics.llamafactory import METRIC
from medqa_finetune.evaluation.predictions import Prediction, read_predictions
from tests.evaluation.golden import GOLDEN, golden_rows, needs_golden

texts = st.text(st.sampled_from("头痛发热药物过敏每日一次a1. \n\r\u3000℃😊，。？！”’…-%"), max_size=40)


def peers(prediction: str, reference: str) -> list[float]:
    """What LLaMA-Factory's `ComputeSimilarity` does with one pair, by the libraries that it calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
        from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
        from rouge_chinese import Rouge

        said, wanted = " ".join(jieba.cut(prediction)), " ".join(jieba.cut(reference))
        figures = [0.0, 0.0, 0.0]
        if said.split() and wanted.split():
            scores = Rouge().get_scores(said, wanted)[0]
            figures = [scores[name]["f"] for name in ("rouge-1", "rouge-2", "rouge-l")]
        smooth = SmoothingFunction().method3
        bleu = sentence_bleu([list(reference)], list(prediction), smoothing_function=smooth) if prediction else 0.0
    return [round(100 * figure, 4) for figure in (*figures, bleu)]


def score(prediction: str, reference: str) -> list[float]:
    item = METRIC.items([Prediction("a", "", (reference,), prediction)])[0]
    return [item[name] for name in METRIC.names]


@given(texts, texts)
@settings(deadline=None)
@example("药物.......过敏", "药物……….过敏。”是")
@example("头痛\n\n \n发热。", "头痛\r\n发热")
def test_equals_the_libraries_that_llamafactory_calls(prediction: str, reference: str) -> None:
    assert score(prediction, reference) == pytest.approx(peers(prediction, reference), abs=1e-9)


@needs_golden
def test_golden_pairs() -> None:
    # Tools: jieba 0.42.1, rouge-chinese 1.0.3, nltk 3.10.4, called as LLaMA-Factory (ff6d4d1) calls them.
    compared = 0
    for item, row in zip(METRIC.items(read_predictions(GOLDEN)), golden_rows(), strict=True):
        peer = row.get("peer_llamafactory")
        if peer is not None:
            wanted = [peer[name] for name in ("rouge1", "rouge2", "rougeL", "bleu4")]
            assert [item[name] for name in METRIC.names] == pytest.approx(wanted, abs=1e-6), row["id"]
            compared += 1
    assert compared == 22


def test_pinned_without_the_libraries() -> None:
    # 恶心/呕吐/腹泻 and 腹泻/呕吐/恶心: all three words, no pair of words, one word in order; characters as in `bleu`.
    assert score("恶心呕吐腹泻", "腹泻呕吐恶心") == [100.0, 0.0, 33.3333, 28.1171]


def test_empty_answers_stay_in_the_mean() -> None:
    answers = [Prediction("a", "", ("是",), "是"), Prediction("b", "", ("是",), ""), Prediction("c", "", ("",), "是")]
    scores = METRIC.corpus(answers, METRIC.items(answers))
    assert scores["lf_rouge1"].value == pytest.approx(100 / 3)
    assert "jieba-0.42.1" in scores["lf_rougel"].signature


def test_an_answer_with_several_references_has_no_such_score() -> None:
    answers = [Prediction("a", "", ("是",), "是"), Prediction("b", "", ("是", "否"), "是")]
    items = METRIC.items(answers)
    assert items[1] == {}
    assert METRIC.corpus(answers, items) == {}


def test_of_equally_likely_cuts_jiebas_is_taken() -> None:
    import jieba

    # Every word has the probability 1, as has every sequence of words.
    ours, theirs = llamafactory._faster(jieba.Tokenizer)(), jieba.Tokenizer()
    theirs.FREQ = dict.fromkeys(["头痛", "头痛发", "痛发", "发热", "热咳", "咳嗽"], 1)
    theirs.total, theirs.initialized = 1, True
    ours.weights, ours.least = dict.fromkeys(theirs.FREQ, 0.0), 0.0
    graph = theirs.get_DAG("头痛发热咳嗽")
    routes: list[dict[int, tuple[float, int]]] = [{}, {}]
    for tokenizer, route in zip((ours, theirs), routes, strict=True):
        tokenizer.calc("头痛发热咳嗽", graph, route)
    assert routes[0] == routes[1]


def test_no_dictionary_is_written_where_others_could_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    llamafactory._jieba.cache_clear()
    assert score("恶心呕吐腹泻", "腹泻呕吐恶心")[0] == 100
    assert list(tmp_path.iterdir()) == []
