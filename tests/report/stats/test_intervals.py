"""Intervals of several seeds. Numbers from elsewhere: scipy 1.17 (`scipy.stats.t.ppf`), Welch (1947) by hand."""

from statistics import NormalDist

import numpy as np
import pytest

from medqa_finetune.report.stats.bootstrap import Array
from medqa_finetune.report.stats.intervals import Resampled, Settings, gap_between, interval_of, mean_draws

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
