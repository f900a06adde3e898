"""Numbers from elsewhere: sacrebleu 2.6 (`PairedTest`, bootstrap), R 4 (`p.adjust`, `qt`)."""

import math
from typing import Any

import numpy as np
import pytest
from sacrebleu import BLEU
from sacrebleu.significance import PairedTest
from scipy.special import ndtri

from medqa_finetune.evaluation.metrics.bleu import corpus_bleu
from medqa_finetune.evaluation.metrics.perplexity import perplexity
from medqa_finetune.report.stats.bootstrap import (
    Sample,
    _kept_counts,
    bootstrap,
    bounds,
    holm,
    mean,
    randomisation,
)

LETTERS = list("头痛发热咳嗽腹泻药物治疗建议休息多喝水检查血压")
SACREBLEU = BLEU(tokenize="zh", force=True)


def texts(count: int, wrong: tuple[float, ...]) -> tuple[list[str], list[list[str]]]:
    """References, and answers with so large a share of wrong characters."""
    rng = np.random.default_rng(0)
    right = rng.choice(LETTERS, (count, 40))
    said = [np.where(rng.random(right.shape) < share, rng.choice(LETTERS, right.shape), right) for share in wrong]
    return ["".join(row) for row in right], [["".join(row) for row in each] for each in said]


def sample(answers: list[str], references: list[str]) -> Sample:
    scored = [SACREBLEU.sentence_score(*pair) for pair in zip(answers, ([text] for text in references), strict=True)]
    counts = [(score.sys_len, score.ref_len, *score.counts, *score.totals) for score in scored]
    return Sample(np.array(counts, dtype=float), corpus_bleu)


def paired_test(kind: str, references: list[str], systems: list[list[str]], trials: int) -> list[Any]:
    named: Any = [(str(place), answers) for place, answers in enumerate(systems)]
    found: list[Any] = list(PairedTest(named, {"bleu": SACREBLEU}, [references], kind, trials)()[1]["BLEU"])
    return found


def test_bleu_is_sacrebleus() -> None:
    rng = np.random.default_rng(0)
    total = rng.integers(0, 6, (500, 4))
    counts = np.concatenate([rng.integers(0, 30, (500, 2)), rng.integers(0, total + 1), total], axis=1)
    wanted = [
        BLEU.compute_bleu(row[2:6], row[6:], row[0], row[1], smooth_method="exp").score for row in counts.tolist()
    ]
    assert corpus_bleu(counts.astype(float), 1) == pytest.approx(wanted, abs=1e-9)


def test_the_randomisation_test_is_sacrebleus() -> None:
    references, systems = texts(150, (0.4, 0.405, 0.42))
    first, *others = [sample(answers, references) for answers in systems]
    ours = randomisation([(first, other) for other in others], 10_000, 12345)
    wanted = [result.p_value for result in paired_test("ar", references, systems, 10_000)[1:]]
    # The same coins, so the same p.
    assert ours == pytest.approx(wanted, abs=1e-12)
    assert 0.001 < ours[0] < 0.9


def test_the_bootstrap_is_sacrebleus() -> None:
    references, systems = texts(150, (0.4, 0.42))
    draws = bootstrap([sample(answers, references) for answers in systems], 1000, 12345)
    for ours, wanted in zip(draws, paired_test("bs", references, systems, 1000), strict=True):
        assert ours.mean() == pytest.approx(wanted.mean, abs=1e-4)  # sacrebleu sums in float32
        ordered = np.sort(ours)
        assert (ordered[-26] - ordered[25]) / 2 == pytest.approx(wanted.ci, abs=1e-4)
        low, high = bounds(ours, 150, 0.95)
        assert (high - low) / 2 == pytest.approx(wanted.ci, rel=0.03)


def test_equal_systems_are_not_different() -> None:
    one = Sample(np.arange(20.0)[:, None], mean)
    assert randomisation([(one, one)], 100, 0) == pytest.approx([1.0])


def test_p_is_exact_where_all_swaps_can_be_counted() -> None:
    # Five questions, all for the first: of 32 ways to swap, 2 are as large.
    first, second = Sample(np.full((5, 1), 3.0), mean), Sample(np.ones((5, 1)), mean)
    assert randomisation([(first, second)], 20_000, 1)[0] == pytest.approx(2 / 32, abs=0.005)


def test_little_memory_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pair = (Sample(rng.normal(size=(50, 1)), mean), Sample(rng.normal(size=(50, 1)), mean))
    before = bootstrap(pair, 300, 1), randomisation([pair], 300, 1)
    monkeypatch.setattr("medqa_finetune.report.stats.bootstrap.AT_ONCE", 700)
    _kept_counts.cache_clear()
    # How a product is summed up depends on its shape, and so does the last bit.
    np.testing.assert_allclose(bootstrap(pair, 300, 1), before[0], rtol=1e-12, atol=1e-15)
    assert np.array_equal(randomisation([pair], 300, 1), before[1])


def test_coins_drawn_in_parts_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medqa_finetune.report.stats.bootstrap.COINS_AT_ONCE", 700)
    one = Sample(np.arange(50.0)[:, None], mean)
    # Every trial counts: (1 + 300) / (1 + 300).
    assert randomisation([(one, one)], 300, 1) == pytest.approx([1.0])


@pytest.mark.parametrize(("n", "quantile"), [(4, 3.182446), (5, 2.776445), (30, 2.045230)])
def test_few_questions_have_students_interval(n: int, quantile: float) -> None:
    """For means of normal values, whose draws are too narrow by sqrt((n - 1) / n); quantiles are R's `qt`."""
    error = 0.5  # the standard deviation of the n values, over sqrt(n)
    places = (np.arange(1_000_000) + 0.5) / 1_000_000
    low, high = bounds(3 + error * ((n - 1) / n) ** 0.5 * ndtri(places), n, 0.95)
    assert ((low - 3) / error, (high - 3) / error) == pytest.approx((-quantile, quantile), rel=1e-3)


def test_every_sample_has_the_same_resamples() -> None:
    values = np.random.default_rng(0).normal(size=(40, 1))
    low, high = bootstrap([Sample(values, mean), Sample(values + 1, mean)], 50, 7)
    assert high - low == pytest.approx(np.ones(50))


def test_perplexity_is_over_tokens() -> None:
    columns = np.array([[4.0, 2.0], [2.0, 4.0]])
    assert Sample(columns, perplexity).value == pytest.approx(math.e)


def test_holm_is_rs() -> None:
    # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
