"""Who is trained on and who is evaluated: nested, disjoint, and without the leaks planted here."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medqa_finetune.data.splits import (
    PERMUTATIONS,
    RECALL,
    Division,
    ExampleKeys,
    HeldOutIndex,
    Rows,
    SplitRules,
    bands_for,
    divide,
    jaccard,
    key_of,
    normalised_question,
    trigrams,
)
from medqa_finetune.errors import DataError
from tests.faulty import only_fault

QA = tuple[str, str]


def split(
    examples: Sequence[QA], test: int = 5, validation: int = 5, seed: int = 0, threshold: float = 0.8
) -> Division:
    normal = [normalised_question(question) for question, _ in examples]
    keys = ExampleKeys(
        np.array([key_of(n, seed) for n in normal], np.uint64),
        np.array([key_of(f"{n}\0{answer}") for n, (_, answer) in zip(normal, examples, strict=True)], np.uint64),
        np.array([key_of(answer) for _, answer in examples], np.uint64),
    )

    def texts(rows: Rows) -> list[str]:
        return [normal[row] for row in rows]

    return divide(keys, texts, SplitRules(test, validation, seed, threshold))


def corpus(n: int, seed: int = 0) -> list[QA]:
    rng = random.Random(seed)  # noqa: S311
    han = [chr(code) for code in range(0x4E00, 0x5E00)]
    return [("".join(rng.choices(han, k=20)) + "？", f"答案{i}") for i in range(n)]


def texts_of(examples: Sequence[QA], rows: Rows) -> list[QA]:
    return [examples[row] for row in rows]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("高血压怎么办？", "高血压 怎么办"),
        ("ＢＭＩ是什么", "bmi是什么！"),
        ("？！", "? !"),
        ("ﬁn", "FIN"),
        ("a_b", "ab"),
    ],
)
def test_same_question(one: str, other: str) -> None:
    assert normalised_question(one) == normalised_question(other)


def test_a_question_of_signs_is_still_a_question() -> None:
    assert normalised_question("？？") != normalised_question("……")
    assert normalised_question("\u3000 ") != ""


def test_key_is_the_same_on_every_machine() -> None:
    assert key_of("感冒", 0) == 16128295830574133744
    assert key_of("感冒", 0) != key_of("感冒", 1)


def test_sizes_and_disjointness() -> None:
    examples = corpus(200)
    found = split(examples, 10, 20)
    assert (len(found.test), len(found.validation), len(found.pool)) == (10, 20, 170)
    assert len({*found.test, *found.validation, *found.pool}) == 200


def test_order_of_the_corpus_does_not_matter() -> None:
    examples = corpus(200)
    shuffled = random.Random(1).sample(examples, len(examples))  # noqa: S311
    one, other = split(examples), split(shuffled)
    for name in ("test", "validation", "pool"):
        assert texts_of(examples, getattr(one, name)) == texts_of(shuffled, getattr(other, name))


def test_more_pairs_leave_most_of_the_order_alone() -> None:
    examples = corpus(200)
    all_of_them, fewer = split(examples), split(examples[:150])
    kept = [example for example in texts_of(examples, all_of_them.pool) if example in texts_of(examples, fewer.pool)]
    assert kept == [example for example in texts_of(examples, fewer.pool) if example in kept]


def test_seed_changes_the_split() -> None:
    examples = corpus(200)
    assert set(split(examples, seed=0).test) != set(split(examples, seed=1).test)


def test_exact_duplicates_are_removed_and_counted() -> None:
    examples = corpus(100)
    doubled = [*examples, *[(question.replace("？", " ?"), answer) for question, answer in examples[:30]]]
    found = split(doubled)
    assert found.counts["exact_duplicates"] == 30
    assert texts_of(doubled, found.pool) == texts_of(examples, split(examples).pool)


def test_other_answers_to_a_held_out_question_are_left_out_of_everything() -> None:
    examples = corpus(100)
    more = [*examples, *[(question, f"另一个{answer}") for question, answer in examples]]
    found = split(more)
    assert found.counts["other_answers_to_held_out_questions"] == 10
    assert texts_of(more, found.test) == texts_of(
        examples, split(examples).test
    )  # the first answer in the corpus's order
    held_out = {more[row][0] for row in (*found.test, *found.validation)}
    assert not held_out & {more[row][0] for row in found.pool}
    assert len(found.pool) == 180


def test_all_pairs_of_a_question_are_neighbours() -> None:
    examples = corpus(50)
    more = [*examples, *[(question, f"另一个{answer}") for question, answer in examples]]
    questions = [more[row][0] for row in split(more).pool]
    assert questions[0::2] == questions[1::2]


def test_planted_near_duplicates_are_found_counted_and_removed() -> None:
    examples = corpus(300)
    clean = split(examples, 10, 10)
    test, validation = texts_of(examples, clean.test), texts_of(examples, clean.validation)
    # One character more at the end: 18 of 19 trigrams shared.
    leaks = [(question[:-1] + "呢", "泄漏") for question, _ in (*test, *validation)]
    found = split([*examples, *leaks], 10, 10)
    assert not near_pairs([*examples, *leaks], found)
    counts = found.counts
    removed = counts["training_pairs_near_duplicates_of_test"] + counts["training_pairs_near_duplicates_of_validation"]
    assert removed + counts["validation_pairs_near_duplicates_of_test"] > 10
    total = sum(map(len, (found.test, found.validation, found.pool)))
    assert total + removed + counts["validation_pairs_near_duplicates_of_test"] == 320


def near_pairs(examples: Sequence[QA], found: Division) -> list[tuple[str, str]]:
    """Compare every question with every held-out one, without any index."""
    grams = [trigrams(normalised_question(question)) for question, _ in examples]
    test, validation, pool = (list(map(int, rows)) for rows in (found.test, found.validation, found.pool))
    compared = [(a, b) for a in test for b in (*validation, *pool)] + [(a, b) for a in validation for b in pool]
    return [(examples[a][0], examples[b][0]) for a, b in compared if jaccard(grams[a], grams[b]) >= 0.8]


def test_validation_size_is_exact_when_near_duplicates_are_replaced() -> None:
    rng = random.Random(3)  # noqa: S311
    stems = corpus(40)
    # Six variants of each question, so that many validation candidates resemble a test question.
    examples = [(question[:-1] + ending, answer) for question, answer in stems for ending in "吗呢吧啊呀嘛"]
    rng.shuffle(examples)
    found = split(examples, 5, 20)
    assert len(found.validation) == 20
    assert found.counts["validation_questions_near_duplicates_of_test"] > 0
    assert not near_pairs(examples, found)


def test_test_answers_seen_in_training() -> None:
    examples = corpus(100)
    copies = [*examples, *[(question + "新的内容不同", "答案") for question, _ in corpus(3, seed=9)]]
    found = split(copies)
    same = [(question, "同样的答案") if i in (found.test[0], found.test[1], found.pool[7]) else (question, answer)
            for i, (question, answer) in enumerate(copies)]  # fmt: skip
    assert split(same).test_answers_first_seen == [7, 7]
    assert split(same).counts["test_answers_seen_in_training_pool"] == 2


def test_too_few_questions() -> None:
    with pytest.raises(DataError) as caught:
        split(corpus(10))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("corpus-too-small", "data.test_size", 5)
    assert "data.validation_size=5" in fault.problem
    assert "10 distinct questions" in fault.problem
    for way_out in ("data.test_size=", "data.validation_size=", "data.scale="):
        assert way_out in fault.hint
    assert len(split(corpus(11)).pool) == 1
    alike = [(question[:-1] + ending, answer) for question, answer in corpus(5) for ending in "吗呢吧啊呀嘛"]
    with pytest.raises(DataError) as caught:
        split(alike, 20, 5)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("corpus-too-small", "data.validation_size", 5)
    assert "data.near_duplicate_threshold=" in fault.problem


# ---------------------------------------------------------------- near-duplicates


def test_trigrams_of_short_texts() -> None:
    assert trigrams("感冒") == {"感冒"}
    assert trigrams("感冒了") == {"感冒了"}
    assert trigrams("感冒了吗") == {"感冒了", "冒了吗"}
    assert jaccard(trigrams("感冒了吗"), trigrams("感冒了呢")) == pytest.approx(1 / 3)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_reach_the_recall(threshold: float) -> None:
    bands = bands_for(threshold)
    rows = 128 / bands
    assert rows == int(rows)
    assert 1 - (1 - threshold**rows) ** bands >= 0.99


def test_index_against_brute_force() -> None:
    rng = random.Random(5)  # noqa: S311
    held_out = [question for question, _ in corpus(60)]
    asked = []
    for question in held_out * 3:
        characters = list(question)
        for _ in range(rng.randrange(4)):
            characters[rng.randrange(len(characters))] = "改"
        asked.append("".join(characters))
    exact = [any(jaccard(trigrams(a), trigrams(h)) >= 0.6 for h in held_out) for a in asked]
    assert 20 < sum(exact) < 170
    assert HeldOutIndex(held_out, 0.6).near(asked) == exact


@given(
    st.lists(st.text("感冒发烧头痛怎么办", min_size=1, max_size=8), min_size=12, max_size=60, unique=True),
    st.integers(0, 3),
)
@settings(deadline=None, max_examples=60)
def test_any_corpus_is_accounted_for(questions: list[str], seed: int) -> None:
    examples = [(question, f"答{i % 7}") for i, question in enumerate(questions)]
    try:
        found = split(examples, 3, 3, seed)
    except DataError:
        return
    counts = found.counts
    assert (len(found.test), len(found.validation)) == (3, 3)
    assert not near_pairs(examples, found)
    left_out = [counts[name] for name in (
        "exact_duplicates", "other_answers_to_held_out_questions", "validation_pairs_near_duplicates_of_test",
        "training_pairs_near_duplicates_of_test", "training_pairs_near_duplicates_of_validation")]  # fmt: skip
    assert 6 + len(found.pool) + sum(left_out) == len(examples)


def test_bands_are_the_fewest_that_reach_the_recall() -> None:
    def probability(threshold: float, bands: int) -> float:
        return float(1 - (1 - threshold ** (PERMUTATIONS / bands)) ** bands)

    assert [bands_for(threshold) for threshold in (1.0, 0.95, 0.8, 0.5, 0.3)] == [1, 8, 32, 64, 64]
    for threshold in (0.95, 0.8, 0.5):
        bands = bands_for(threshold)
        assert probability(threshold, bands // 2) < RECALL <= probability(threshold, bands)


def test_similarity_at_the_threshold_is_a_near_duplicate() -> None:
    # Trigrams abc, bcd, cde and abc, bcd, cdx: 2 of 4 are shared.
    assert jaccard(trigrams("abcde"), trigrams("abcdx")) == 0.5
    assert HeldOutIndex(["abcde"], 0.5).near(["abcdx"]) == [True]
    assert HeldOutIndex(["abcde"], 0.51).near(["abcdx"]) == [False]
