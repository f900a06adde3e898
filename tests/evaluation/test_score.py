import dataclasses

import pytest

from medqa_finetune.errors import ConfigError, DataError
from medqa_finetune.evaluation.metrics import rouge
from medqa_finetune.evaluation.predictions import Prediction, read_predictions
from medqa_finetune.evaluation.score import is_empty, item_scores, own_scores, score_predictions
from tests.evaluation.golden import GOLDEN, golden_rows, needs_golden
from tests.faulty import only_fault

ALL = ["rouge", "bleu", "perplexity"]


def answer(name: str, prediction: str, hit_limit: bool | None = None) -> Prediction:
    return Prediction(name, "", ("头痛应多休息",), prediction, hit_limit=hit_limit)


def test_rows_have_each_answers_scores() -> None:
    record, rows = score_predictions([answer("a", "头痛应多休息"), answer("b", "")], ALL)
    assert own_scores(rows[0]) == {
        "id": "a",
        "rouge1": 100.0,
        "rouge2": 100.0,
        "rougeL": 100.0,
        "bleu": pytest.approx(100.0),
        "sentence_bleu": pytest.approx(100.0),
    }
    assert set(own_scores(rows[1]).values()) == {"b", 0.0}
    assert record.n == 2
    assert set(record.scores) == {"rouge1", "rouge2", "rougeL", "bleu", "sentence_bleu"}
    assert record.scores["rougeL"].value == 50
    assert record.seconds is None


def test_perplexity_is_a_score_and_no_column() -> None:
    measured = dataclasses.replace(answer("a", "头"), reference_nll=0.0, reference_tokens=3)
    record, rows = score_predictions([measured], ALL)
    assert record.scores["perplexity"].value == 1
    assert set(own_scores(rows[0])) == {"id", "rouge1", "rouge2", "rougeL", "bleu", "sentence_bleu"}


def test_columns_are_means_or_counts() -> None:
    answers = [
        dataclasses.replace(answer(name, "头痛", None), reference_nll=nll, reference_tokens=3)
        for name, nll in (("乙", 0.5), ("甲", 2.0))
    ]
    record, rows = score_predictions(answers, ALL)
    columns = item_scores(rows, "f" * 64)
    assert columns.ids.tolist() == ["乙", "甲"]
    assert {name: array.mean() for name, array in columns.values.items()} == pytest.approx(
        {name: score.value for name, score in record.scores.items() if name not in columns.counts}
    )
    assert set(columns.values) == {"rouge1", "rouge2", "rougeL", "sentence_bleu"}
    assert columns.counts["perplexity"]["nll"].tolist() == [0.5, 2.0]
    assert columns.counts["perplexity"]["tokens"].tolist() == [3, 3]
    assert list(columns.counts["bleu"]) == ["sys_len", "ref_len", *(f"{kind}{order}" for kind in ("correct", "total")
                                            for order in (1, 2, 3, 4))]  # fmt: skip
    assert columns.counts["bleu"]["sys_len"].dtype == "int64"


def test_one_answer_has_columns_too() -> None:
    columns = item_scores(score_predictions([answer("a", "头痛")], ["rouge"])[1], "f" * 64)
    assert {name: array.shape for name, array in columns.values.items()} == {
        "rouge1": (1,), "rouge2": (1,), "rougeL": (1,)
    }  # fmt: skip


def test_two_metrics_have_no_score_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medqa_finetune.evaluation.score.find_metric", lambda _: rouge.METRIC)
    with pytest.raises(ConfigError) as caught:
        score_predictions([answer("a", "")], ["rouge", "mine"])
    assert (only_fault(caught).code, only_fault(caught).got) == ("repeated", "rouge1")


def test_order_of_answers_changes_no_score() -> None:
    answers = [answer(str(place), "头痛多休息" * place) for place in range(6)]
    forth, back = score_predictions(answers, ALL)[0], score_predictions(answers[::-1], ALL)[0]
    assert {name: score.value for name, score in forth.scores.items()} == pytest.approx(
        {name: score.value for name, score in back.scores.items()}
    )


@pytest.mark.parametrize(
    ("text", "empty"),
    [
        ("", True),
        (" \n\t\u3000", True),
        ("\u200b\u200d\ufeff", True),
        ("。", False),
        ("😊", False),
        ("\u200b药", False),
    ],
)
def test_empty_means_nothing_to_see(text: str, empty: bool) -> None:
    assert is_empty(text) == empty


def test_rates() -> None:
    record, _ = score_predictions([answer("a", "好的好的好的", True), answer("b", "\u3000", False)], ["rouge"])
    assert record.empty_rate == 0.5
    assert record.truncated_rate == 0.5
    # 4-grams of 好的好的好的: 好的好的, 的好的好, 好的好的.
    assert record.repetition_rate == pytest.approx(1 / 3)


def test_what_is_not_known_is_none() -> None:
    record, _ = score_predictions([answer("a", "短", True), answer("b", "")], ["rouge"])
    assert record.truncated_rate is None
    assert record.repetition_rate is None


def test_refusals() -> None:
    with pytest.raises(DataError) as no_answers:
        score_predictions([], ALL)
    assert only_fault(no_answers).code == "no-answers"
    with pytest.raises(ConfigError) as caught:
        score_predictions([answer("a", "")], [])
    fault = only_fault(caught)
    assert (fault.code, fault.key, "rouge" in fault.allowed) == ("missing-key", "metrics", True)
    with pytest.raises(ConfigError) as caught:
        score_predictions([answer("a", "")], ["rouge", "blue"])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "metrics", "blue")


@needs_golden
def test_corpus_of_golden_pairs_is_pinned() -> None:
    # ROUGE-L: mean of the file's own values. BLEU: the formula of Papineni et al. written out with Counter over the
    # tokens of sacrebleu 2.6.0's TokenizerZh, several references included.
    record, _ = score_predictions(read_predictions(GOLDEN), ["rouge", "bleu", "rouge"])
    mean = sum(row["rougeL"] for row in golden_rows()) / 24
    assert record.scores["rougeL"].value == pytest.approx(mean, abs=1e-6)
    assert record.scores["bleu"].value == pytest.approx(38.49844255316155, abs=1e-9)


@needs_golden
def test_corpus_bleu_equals_the_command_line_of_sacrebleu() -> None:
    # `sacrebleu refs.txt -i predictions.txt -m bleu -tok zh -w 8`, version 2.6.0, over the pairs with one reference
    # and no line break.
    answers = [
        each
        for each in read_predictions(GOLDEN)
        if len(each.references) == 1 and "\n" not in each.prediction + each.references[0]
    ]
    assert len(answers) == 20
    record, _ = score_predictions(answers, ["bleu"])
    assert record.scores["bleu"].value == pytest.approx(38.15264687, abs=1e-8)
