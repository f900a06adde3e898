"""The simulation itself: it counts what it says, and it fails where a promise is broken."""

import numpy as np
import pytest

from medqa_finetune.report.stats.bootstrap import mean
from scripts import simulation
from scripts.simulation import SCENARIOS, Counted, Scenario, broken, error, means, row, simulate


def counted(false: int, held: int, sets: int = 1000) -> Counted:
    holds = [True] * held + [False] * (sets - held)
    return Counted(sets, false, holds, list(holds), [])


@pytest.mark.parametrize(
    ("false", "held", "bad"),
    [(50, 950, False), (63, 950, False), (64, 950, True), (50, 935, False), (50, 934, True), (50, 966, True)],
)
def test_a_broken_promise_is_seen(false: int, held: int, bad: bool) -> None:
    assert broken(Scenario("", means, mean, 100), counted(false, held)) is bad
    assert broken(Scenario("", means, mean, 100, promised=False), counted(false, held)) is False


def test_error_is_that_of_a_share() -> None:
    assert error(0.05, 1000) == pytest.approx(0.0135, abs=1e-4)


def test_truths_are_means_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "POPULATION", 200_000)
    rng = np.random.default_rng(1)
    (columns,) = means(rng, 200_000, np.array([0.5]))
    assert columns.mean() == pytest.approx(simulation.mean_truth(0.5), abs=0.1)


def test_a_true_difference_is_found_and_not_called_false() -> None:
    found = simulate(Scenario("", means, mean, 300, gap=20.0), 5, 0)
    assert (found.sets, found.false) == (5, 0)
    assert sum(found.gap_holds) >= 3


def test_one_seed_is_not_enough_and_the_simulation_shows_it() -> None:
    contrast = SCENARIOS[-1]
    found = simulate(contrast, 60, 0)
    assert not contrast.promised
    assert found.false / found.sets > 0.1
    assert row(contrast, found).startswith("| for contrast")


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.promised], ids=lambda each: each.title)
def test_promises_hold_in_short(scenario: Scenario) -> None:
    assert not broken(scenario, simulate(scenario, 200, 1))
