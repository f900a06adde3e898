import random
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import BLEU

from medqa_finetune.config.schema import DEFAULT_METRICS
from medqa_finetune.evaluation.metrics.bleu import COUNTS, METRIC, corpus_bleu, reference_streams
from medqa_finetune.evaluation.predictions import Prediction, read_predictions
from medqa_finetune.evaluation.score import score_predictions
from tests.evaluation.golden import GOLDEN, golden_rows, needs_golden

texts = st.text(st.sampled_from("头痛发热药日a1. \n\u3000℃“𬌗😊，。"), max_size=25)
answers_lists = st.lists(
    st.builds(
        Prediction,
        id=st.just("a"),
        question=st.just(""),
        references=st.lists(texts, min_size=1, max_size=3).map(tuple),
        prediction=texts,
        hit_limit=st.none(),
        prediction_tokens=st.none(),
        reference_nll=st.none(),
        reference_tokens=st.none(),
    ),
    min_size=1,
    max_size=6,
)


@given(answers_lists)
@settings(deadline=None)
def test_equals_the_public_calls_of_sacrebleu(answers: list[Prediction]) -> None:
    public = BLEU(tokenize="zh")
    wanted = public.corpus_score([answer.prediction for answer in answers], reference_streams(answers))
    items = METRIC.items(answers)
    scores = METRIC.corpus(answers, items)
    got = scores["bleu"]
    assert got.value == wanted.score
    assert got.signature == str(public.get_signature())
    # As the bootstrap computes it from summed counts, many at once.
    sums = np.array([sum(item[f"bleu.{name}"] for item in items) for name in COUNTS], dtype=float)
    assert corpus_bleu(np.stack([sums, 3 * sums]), len(items))[0] == pytest.approx(wanted.score, abs=1e-9)
    sentence = BLEU(tokenize="zh", effective_order=True)
    for item, answer in zip(items, answers, strict=True):
        assert item["bleu"] == sentence.sentence_score(answer.prediction, list(answer.references)).score
    assert scores["sentence_bleu"].value == pytest.approx(sum(item["bleu"] for item in items) / len(items))
    assert "|eff:yes|tok:zh|smooth:exp|" in scores["sentence_bleu"].signature


@needs_golden
def test_golden_pairs() -> None:
    # Tool: sacrebleu 2.6.0, sentence BLEU zh, exp smoothing, effective order; once more from the definition.
    for item, row in zip(METRIC.items(read_predictions(GOLDEN)), golden_rows(), strict=True):
        assert item["bleu"] == pytest.approx(row["bleu_zh_sent"], abs=1e-6), row["id"]


def test_pinned_by_hand() -> None:
    # 恶心呕吐腹泻 / 腹泻呕吐恶心: precisions 6/6, 3/5, 0/4, 0/3; exp smoothing makes the zeros 1/8 and 1/12.
    item = METRIC.items([Prediction("a", "", ("腹泻呕吐恶心",), "恶心呕吐腹泻")])[0]
    assert item["bleu"] == pytest.approx(100 * (1 * 0.6 * (1 / 8) * (1 / 12)) ** 0.25)
    # Stored items have these columns.
    assert [(name, item[f"bleu.{name}"]) for name in COUNTS] == [
        ("sys_len", 6), ("ref_len", 6), ("correct1", 6), ("correct2", 3), ("correct3", 0), ("correct4", 0),
        ("total1", 6), ("total2", 5), ("total3", 4), ("total4", 3),
    ]  # fmt: skip


def test_edges_score_nothing_and_stay() -> None:
    answers = [Prediction("a", "", ("头痛",), ""), Prediction("b", "", ("",), "头痛"), Prediction("c", "", ("",), "")]
    assert [item["bleu"] for item in METRIC.items(answers)] == [0, 0, 0]


def test_references_become_streams() -> None:
    answers = [Prediction("a", "", ("r",), ""), Prediction("b", "", ("s", "t"), "")]
    assert reference_streams(answers) == [["r", "s"], [None, "t"]]
    assert METRIC.signature("bleu", answers).startswith("nrefs:var|case:mixed|eff:no|tok:zh|smooth:exp|version:")
    assert METRIC.signature("bleu", answers[1:]).startswith("nrefs:2|")


def test_hundreds_of_answers_take_seconds() -> None:
    generator = random.Random(0)  # noqa: S311
    alphabet = [chr(0x4E00 + place) for place in range(600)] + list("，。1a ")

    def some(_: Any = None) -> str:
        return "".join(generator.choices(alphabet, k=300))

    answers = [Prediction(str(place), "", (some(),), some()) for place in range(400)]
    start = time.process_time()
    # Cutting random characters into words takes far longer than cutting sentences: `scripts/benchmark.py scores`.
    score_predictions(answers, [name for name in DEFAULT_METRICS if name != "llamafactory"])
    assert time.process_time() - start < 3
