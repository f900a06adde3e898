from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rouge_chinese import Rouge
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from medqa_finetune.evaluation.metrics.rouge import METRIC
from medqa_finetune.evaluation.predictions import Prediction, read_predictions
from tests.evaluation.golden import GOLDEN, golden_rows, needs_golden


class CodePoints(Tokenizer):  # type: ignore[misc]
    """Every code point but white space; written apart from `characters` on purpose."""

    def tokenize(self, text: str) -> list[str]:
        return [character for character in text if not character.isspace()]


SCORER = RougeScorer(list(METRIC.names), tokenizer=CodePoints())
# A small alphabet, so that texts share something; astral characters, joiners and exotic spaces among it.
texts = st.text(st.sampled_from("头痛发热药日a1 \n\u3000\u200b\u200d𬌗😊👩🏽\ufe0f，。"), max_size=30) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=30
)

CHINESE = st.characters(min_codepoint=0x4E00, max_codepoint=0x4E20) | st.sampled_from("，。1a")


def score(prediction: str, references: Sequence[str]) -> dict[str, float]:
    return METRIC.items([Prediction("a", "", tuple(references), prediction)])[0]


@given(texts, st.lists(texts, min_size=1, max_size=4))
@example("", [""])
@example("是", ["是"])
@example("头痛三天", ["头痛两天", "头疼三日了吗", "头晕三天"])
@example("建议咨询👩‍⚕️或👨🏽‍⚕️", ["建议咨询👩‍⚕️"])
def test_equals_rouge_score_with_a_character_tokenizer(prediction: str, references: list[str]) -> None:
    wanted = SCORER.score_multi(references, prediction)
    got = score(prediction, references)
    assert got == pytest.approx({name: 100 * wanted[name].fmeasure for name in METRIC.names}, abs=1e-9)


def by_definition(prediction: str, reference: str, order: int) -> float:
    """ROUGE-N from Lin's formula: twice what both have, over all n-grams of both."""
    found, wanted = (
        Counter(text[start : start + order] for start in range(len(text) - order + 1))
        for text in (prediction, reference)
    )
    shared = (found & wanted).total()
    return 200 * shared / (found.total() + wanted.total()) if shared else 0.0


@given(st.text(CHINESE, max_size=200), st.text(CHINESE, max_size=200))
def test_ngrams_of_chinese_text_follow_the_definition(prediction: str, reference: str) -> None:
    got = score(prediction, [reference])
    for order in (1, 2):
        assert got[f"rouge{order}"] == pytest.approx(by_definition(prediction, reference, order), abs=1e-9)


@given(st.permutations("头痛发热咳嗽腹泻药物治疗"), st.permutations("头痛发热失眠多梦"))
def test_equals_rouge_chinese_where_no_character_repeats(prediction: list[str], reference: list[str]) -> None:
    # It compares sets of n-grams, and adds 1e-8 to the sum of precision and recall.
    wanted = Rouge().get_scores(" ".join(prediction), " ".join(reference))[0]
    got = score("".join(prediction), ["".join(reference)])
    names = {"rouge1": "rouge-1", "rouge2": "rouge-2", "rougeL": "rouge-l"}
    assert got == pytest.approx({ours: 100 * wanted[theirs]["f"] for ours, theirs in names.items()}, abs=1e-5)


@needs_golden
def test_golden_pairs() -> None:
    # Tools: rouge-score 0.1.2 with a character tokenizer, and once more from the definitions without a library.
    for item, row in zip(METRIC.items(read_predictions(GOLDEN)), golden_rows(), strict=True):
        assert item == pytest.approx({name: row[name] for name in METRIC.names}, abs=1e-6), row["id"]


def test_pinned_by_hand() -> None:
    # 恶心呕吐腹泻 / 腹泻呕吐恶心: 6 of 6 characters, 3 of 5 bigrams, longest common subsequence 2.
    assert score("恶心呕吐腹泻", ["腹泻呕吐恶心"]) == pytest.approx({"rouge1": 100, "rouge2": 60, "rougeL": 100 / 3})
    assert score("是", ["是"]) == {"rouge1": 100, "rouge2": 0, "rougeL": 100}


def test_mean_counts_empty_answers() -> None:
    answers = [
        Prediction("a", "", ("头痛",), "头痛"),
        Prediction("b", "", ("头痛",), " \n"),
        Prediction("c", "", ("",), "头痛"),
    ]
    scores = METRIC.corpus(answers, METRIC.items(answers))
    assert scores["rougeL"].value == pytest.approx(100 / 3)
    assert scores["rougeL"].signature.startswith("rougeL|nrefs:1|tokens:chars|")


def test_signatures_of_one_and_of_varying_references_differ() -> None:
    one, two = Prediction("a", "", ("r",), ""), Prediction("b", "", ("r", "s"), "")
    found = {METRIC.signature(name, answers) for name in METRIC.names for answers in ([one], [two], [one, two])}
    assert len(found) == 9
