"""Intervals of several seeds. Numbers from elsewhere: scipy 1.17 (`scipy.stats.t.ppf`), Welch (1947) by hand."""

from statistics import NormalDist, fmean, stdev

import numpy as np
import pytest

from medqa_finetune.report.stats.bootstrap import Array, Sample, mean
from medqa_finetune.report.stats.intervals import (
    Comparison,
    Finding,
    Gap,
    Interval,
    Resampled,
    Settings,
    gap_between,
    interval_of,
    mean_draws,
    pooled,
)

MANY = 1_000_000
SETTINGS = Settings(resamples=MANY)


def cell(values: list[float], questions: float, name: str = "cell") -> Resampled:
    """A cell whose runs share the questions' part, of the standard deviation given."""
    seeds = np.array(values)
    part = questions * np.random.default_rng(1).standard_normal(MANY)
    return Resampled(name, seeds, seeds[:, None] + part, MANY)


def half_width(draws: Array) -> float:
    found = interval_of(draws, MANY, SETTINGS)
    return (found.high - found.low) / 2


@pytest.mark.parametrize(("count", "quantile"), [(3, 4.302653), (5, 2.776445)])
def test_seeds_alone_are_students(count: int, quantile: float) -> None:
    values = [10.0, 11.0, 12.5, 9.0, 10.5][:count]
    error = np.std(values, ddof=1) / count**0.5
    assert half_width(mean_draws(cell(values, 0.0), SETTINGS)) == pytest.approx(quantile * error, rel=0.01)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98])
def test_three_seeds_hold_the_truth_whatever_their_share(share: float) -> None:
    """Computed without a simulation: over the quantiles of the seeds' variance, chi-square with two degrees."""
    few = Settings(resamples=40_000)
    places = (np.arange(150) + 0.5) / 150
    part = (1 - share) ** 0.5 * np.random.default_rng(1).standard_normal(few.resamples)
    held = []
    for number, variance in enumerate(-share * np.log(places)):
        seeds = (3 * variance) ** 0.5 * np.array([-1.0, 0.0, 1.0])
        found = interval_of(mean_draws(Resampled(str(number), seeds, seeds[:, None] + part, MANY), few), MANY, few)
        held.append(NormalDist().cdf(found.high) - NormalDist().cdf(found.low))
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)


def test_one_seed_has_no_part_of_its_own() -> None:
    one = cell([10.0], 0.5)
    assert mean_draws(one, SETTINGS) == pytest.approx(one.draws[0])
    assert half_width(mean_draws(one, SETTINGS)) == pytest.approx(1.959964 * 0.5, rel=0.005)


def interacting(shared: float, own: float, count: int, name: str, seed: int, common: float = 0.0) -> Resampled:
    """A cell whose seeds agree; its draws have a part that seeds share, one of each, and one that all cells share."""
    few, rng = 400_000, np.random.default_rng(seed)
    draws = 10 + shared * rng.standard_normal(few) + own * rng.standard_normal((count, few))
    return Resampled(name, np.full(count, 10.0), draws + common * np.random.default_rng(0).standard_normal(few), MANY)


@pytest.mark.parametrize("count", [2, 4])
def test_what_a_seed_does_otherwise_on_a_question_is_not_counted_twice(count: int) -> None:
    found = mean_draws(interacting(0.5, 2.0, count, "cell", 1), Settings(resamples=400_000))
    assert half_width(found) == pytest.approx(1.959964 * 0.5, rel=0.02)


def test_a_difference_has_the_questions_part_of_either_cell_and_not_what_both_share() -> None:
    first, second = interacting(0.3, 1.0, 2, "first", 1, common=0.7), interacting(0.4, 2.0, 3, "second", 2, common=0.7)
    gap = gap_between(first, second, Settings(resamples=400_000))
    # Of variances that add: 0.3² + 0.4² = 0.5².
    assert half_width(gap.draws) == pytest.approx(1.959964 * 0.5, rel=0.02)


def test_deviations_of_seeds_are_the_samples() -> None:
    values = [10.0, 11.0, 12.5]
    found = Resampled("cell", np.array(values), np.zeros((3, 1)), 5)
    assert found.value == pytest.approx(fmean(values))
    assert found.sd == pytest.approx(stdev(values))
    assert found.seed_variance == pytest.approx(stdev(values) ** 2 / 3)
    two = Resampled("cell", np.array(values[:2]), np.zeros((2, 1)), 5)
    assert two.sd == pytest.approx(0.5**0.5)
    assert two.seed_variance == pytest.approx(0.25)
    one = Resampled("cell", np.array(values[:1]), np.zeros((1, 1)), 5)
    assert (one.sd, one.seed_variance) == (None, 0)


@pytest.mark.parametrize(
    ("draws", "p"),
    [
        # Twice the smaller tail, the result itself among the draws: 2 (1 + 1) / (1 + 9).
        ([-1.0, 1, 2, 3, 4, 5, 6, 7, 8], 0.4),
        ([1.0, -1, -2, -3, -4, -5, -6, -7, -8], 0.4),
        # What is 0 is on both sides.
        ([0.0, 1, 2, 3, 4, 5, 6, 7, 8], 0.4),
        ([0.0, -1, -2, -3, -4, -5, -6, -7, -8], 0.4),
        ([0.5, 1, 2, 3, 4, 5, 6, 7, 8], 0.2),
        ([0.0] * 9, 1.0),
    ],
)
def test_p_is_the_share_of_draws_on_the_other_side(draws: list[float], p: float) -> None:
    assert Gap(1.0, np.array(draws), 1.0).p == pytest.approx(p)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [((0.1, 1.0), True), ((-1.0, -0.1), True), ((-1.0, 1.0), False), ((0.0, 1.0), False), ((-1.0, 0.0), False),
     ((0.5, 0.9), True), (None, False)],
)  # fmt: skip
def test_an_interval_that_touches_0_does_not_leave_it_out(bounds: tuple[float, float] | None, expected: bool) -> None:
    interval = None if bounds is None else Interval(*bounds)
    found = Comparison("a", "b", "bleu", ("data", "method"), 0.5, interval, None, None, 1, 1, Finding.NONE_SHOWN)
    assert found.leaves_out_0 is expected
    assert found.axis == "data + method"


def test_seeds_are_pooled_by_their_mean() -> None:
    runs = [Sample(np.array([[1.0], [2.0]]), mean), Sample(np.array([[3.0], [6.0]]), mean)]
    assert pooled(runs).columns.tolist() == [[2.0], [4.0]]
    assert pooled(runs).value == 3
    assert pooled(runs[:1]).columns.tolist() == [[1.0], [2.0]]


def test_seeds_that_agree_have_no_part() -> None:
    assert half_width(mean_draws(cell([10.0, 10.0, 10.0], 0.5), SETTINGS)) == pytest.approx(0.98, rel=0.005)


def test_what_questions_share_goes_out_of_a_difference_and_seeds_do_not() -> None:
    first, second = cell([10.0, 11.0, 12.0], 5.0, "first"), cell([12.0, 13.0, 14.0], 5.0, "second")
    gap = gap_between(first, second, SETTINGS)
    # Welch (1947): 2 * 2 / (1 / 4 + 1 / 4) - 2 = 6 degrees of freedom for variances that agree; scipy's quantile.
    assert gap.value == 2.0
    assert half_width(gap.draws) == pytest.approx(2.446912 * (2 / 3) ** 0.5, rel=0.01)
    assert gap.spread == pytest.approx(0.0, abs=1e-9)


def test_an_interval_without_0_and_its_p_agree() -> None:
    first = cell([10.0, 10.1, 10.2], 0.3, "first")
    for lead in (0.1, 0.5, 1.0, 2.0):
        gap = gap_between(first, cell([10.0 + lead], 0.3, "second"), SETTINGS)
        found = interval_of(gap.draws, MANY, SETTINGS)
        assert (found.low > 0) == (gap.p < 0.05)
