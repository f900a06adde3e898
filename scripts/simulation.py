"""Calibration of the report's statistics: simulated test sets with a known truth, through the code of `summarize`.

python scripts/simulation.py --comparisons 1000

Under a true null, at most 5 % of comparisons may be called different; 95 % intervals must hold the truth in 95 % of
cases. Exit code 1 where a row that makes this promise breaks it by more than 1,000 simulations can err.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, islice

import numpy as np

from medqa_finetune.evaluation.metrics.bleu import corpus_bleu
from medqa_finetune.evaluation.metrics.perplexity import perplexity
from medqa_finetune.report.stats.bootstrap import Array, Sample, bootstrap, bounds, holm, mean
from medqa_finetune.report.stats.compare import Measured, measure
from medqa_finetune.report.stats.intervals import Resampled, Settings, interval_of, mean_draws

LEVEL = 0.95
COVERAGE_OFF = 0.015
BATCH = 40
# Number of questions that approximate the population if a true value has no formula.
POPULATION = 1_000_000
Maker = Callable[[np.random.Generator, int, Array], list[Array]]
Cells = list[tuple[Resampled, list[Sample]]]


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    Attributes:
        make: Gives columns (n, k) per run from a generator, n, and an effect per run.
        aggregate: Of the columns.
        n: Questions.
        seeds: Runs of a cell.
        seed_sd: Standard deviation between trainings, in the maker's unit.
        cells: Compared with each other, all pairs.
        gap: True difference between a cell and the next, in the maker's unit.
        promised: Whether the row must hold; otherwise it is for comparison.
    """

    title: str
    make: Maker
    aggregate: Callable[[Array, int], Array]
    n: int
    seeds: int = 1
    seed_sd: float = 0.0
    cells: int = 2
    gap: float = 0.0
    promised: bool = True


@dataclass
class Counted:
    """Counts of outcomes over the simulations."""

    sets: int = 0
    false: int = 0
    holds: list[bool] = field(default_factory=list)
    gap_holds: list[bool] = field(default_factory=list)
    resampled_holds: list[bool] = field(default_factory=list)


def means(rng: np.random.Generator, n: int, effects: Array) -> list[Array]:
    """Like ROUGE-L: shared difficulty of questions, noise per prediction, skewed, nearly always in [0, 100]."""
    hard = rng.gamma(4, 5, n)
    return [(10 + hard + effect + 7 * rng.standard_normal(n))[:, None] for effect in effects]


def mean_truth(effect: float) -> float:
    """Population mean of `means`."""
    return 10 + 20 + effect


def bleu_counts(rng: np.random.Generator, n: int, effects: Array) -> list[Array]:
    """Like predictions of 20 to 200 tokens; an effect raises the probability of a match."""
    reference = rng.integers(20, 200, n)
    hard = rng.normal(0, 0.5, n)
    return [_bleu_columns(rng, reference, 1 / (1 + np.exp(-(hard + effect)))) for effect in effects]


def _bleu_columns(rng: np.random.Generator, reference: np.ndarray, chance: Array) -> Array:
    length = np.maximum(4, (reference * rng.uniform(0.6, 1.3, len(reference))).astype(int))
    total = [length - order for order in range(4)]
    matched = [rng.binomial(total[0], chance)]
    for order in range(1, 4):
        matched.append(np.minimum(rng.binomial(matched[-1], 0.4 + 0.5 * chance), total[order]))
    return np.stack([length, reference, *matched, *total], axis=1).astype(float)


def perplexity_counts(rng: np.random.Generator, n: int, effects: Array) -> list[Array]:
    """Like references of 20 to 200 tokens at 2.2 nats each."""
    tokens = rng.integers(20, 200, n)
    hard = rng.gamma(20, 2.2 / 20, n)
    return [
        np.stack([tokens * (hard + effect + 0.1 * rng.standard_normal(n)), tokens], axis=1).astype(float)
        for effect in effects
    ]


SCENARIOS = (
    Scenario("ROUGE-L", means, mean, 100),
    Scenario("ROUGE-L", means, mean, 300),
    Scenario("ROUGE-L", means, mean, 1000),
    Scenario("ROUGE-L, truly 0.5 apart", means, mean, 1000, gap=0.5),
    Scenario("BLEU", bleu_counts, corpus_bleu, 300),
    Scenario("BLEU", bleu_counts, corpus_bleu, 1000),
    Scenario("BLEU, truly 0.9 apart", bleu_counts, corpus_bleu, 1000, gap=0.05),
    Scenario("perplexity", perplexity_counts, perplexity, 300),
    Scenario("perplexity, truly 0.1 apart", perplexity_counts, perplexity, 300, gap=0.01),
    Scenario("ROUGE-L, six cells, 15 pairs", means, mean, 300, cells=6),
    Scenario("ROUGE-L, training again moves it by 0.5", means, mean, 1000, 3, 0.5),
    Scenario("ROUGE-L, training again moves it by 0.5", means, mean, 1000, 5, 0.5),
    Scenario("ROUGE-L, training again moves it by 1.5", means, mean, 1000, 3, 1.5),
    Scenario("ROUGE-L, training again changes answers only", means, mean, 1000, 3),
    Scenario("BLEU, training again moves it by 0.5", bleu_counts, corpus_bleu, 1000, 3, 0.04),
    Scenario("perplexity, training again moves it by 0.1", perplexity_counts, perplexity, 300, 3, 0.01),
    Scenario("ROUGE-L, six cells of three seeds, 15 pairs", means, mean, 300, 3, 0.5, 6),
    Scenario("for contrast: one seed, training again moves it by 0.5", means, mean, 1000, 1, 0.5, promised=False),
)


def simulate(scenario: Scenario, comparisons: int, seed: int) -> Counted:
    """Count how often equal cells were called different, and how often intervals contained the truth."""
    rng, counted, settings = np.random.default_rng(seed), Counted(), Settings()
    truths = [
        _truth(scenario.make, scenario.aggregate, scenario.gap * place, scenario.seed_sd)
        for place in range(scenario.cells)
    ]
    for start in range(0, comparisons, BATCH):
        sets = [_cells(scenario, rng) for _ in range(min(BATCH, comparisons - start))]
        flat = [sample for cells in sets for cell in cells for sample in cell]
        draws = bootstrap(flat, settings.resamples, settings.seed)
        whole: list[Cells] = []
        for number, cells in enumerate(sets):
            first = number * scenario.cells * scenario.seeds
            resampled = [
                Resampled(
                    f"{start + number} {place}",
                    np.array([sample.value for sample in cell]),
                    draws[first + place * scenario.seeds :][: scenario.seeds],
                    scenario.n,
                )
                for place, cell in enumerate(cells)
            ]
            whole.append(list(zip(resampled, cells, strict=True)))
        _count(counted, whole, truths, settings)
    return counted


def _count(counted: Counted, sets: list[Cells], truths: list[float], settings: Settings) -> None:
    numbers = list(combinations(range(len(truths)), 2))
    # All sets at once, since drawing the coins takes longest.
    measured = iter(measure([(cells[one], cells[two]) for cells in sets for one, two in numbers], settings))
    for cells in sets:
        for (resampled, _), truth in zip(cells, truths, strict=True):
            found = interval_of(mean_draws(resampled, settings), resampled.n, settings)
            counted.holds.append(found.low <= truth <= found.high)
            counted.resampled_holds.append(_resampled_holds(resampled, truth, settings))
        _count_pairs(counted, list(islice(measured, len(numbers))), truths, settings)


def _count_pairs(counted: Counted, measured: list[Measured], truths: list[float], settings: Settings) -> None:
    counted.sets += 1
    numbers = list(combinations(range(len(truths)), 2))
    called = [p < 1 - settings.level for p in holm([each.p for each in measured])]
    counted.false += any(yes for yes, (one, two) in zip(called, numbers, strict=True) if truths[one] == truths[two])
    for each, (one, two) in zip(measured, numbers, strict=True):
        counted.gap_holds.append(each.interval.low <= truths[two] - truths[one] <= each.interval.high)


def _resampled_holds(resampled: Resampled, truth: float, settings: Settings) -> bool:
    """Return whether the interval of the hierarchical bootstrap, which also resamples seeds, contains the truth."""
    seeds, resamples = resampled.draws.shape
    if seeds == 1:
        return False
    chosen = np.random.default_rng(settings.seed).integers(0, seeds, (seeds, resamples))
    low, high = bounds(np.take_along_axis(resampled.draws, chosen, axis=0).mean(axis=0), resampled.n, settings.level)
    return bool(low <= truth <= high)


def _cells(scenario: Scenario, rng: np.random.Generator) -> list[list[Sample]]:
    again = rng.normal(0, scenario.seed_sd, (scenario.cells, scenario.seeds)) if scenario.seed_sd else 0.0
    effects = np.zeros((scenario.cells, scenario.seeds)) + scenario.gap * np.arange(scenario.cells)[:, None] + again
    columns = scenario.make(rng, scenario.n, effects.ravel())
    samples = [Sample(each, scenario.aggregate) for each in columns]
    return [samples[place * scenario.seeds :][: scenario.seeds] for place in range(scenario.cells)]


@cache
def _truth(make: Maker, aggregate: Callable[[Array, int], Array], effect: float, seed_sd: float) -> float:
    if make is means:
        return mean_truth(effect)
    # The mean over all seeds there are, by Gauss-Hermite quadrature.
    places, weights = np.polynomial.hermite_e.hermegauss(5 if seed_sd else 1)
    runs = make(np.random.default_rng(0), POPULATION, effect + seed_sd * places)
    return float(np.average([Sample(columns, aggregate).value for columns in runs], weights=weights))


def error(share: float, count: int) -> float:
    """Return the 95 % margin of error of a share over `count` simulations."""
    return float(1.96 * (share * (1 - share) / count) ** 0.5)


def broken(scenario: Scenario, counted: Counted) -> bool:
    """Return whether a row breaks its promise."""
    if not scenario.promised:
        return False
    false = scenario.gap == 0 and counted.false / counted.sets > 0.05 + error(0.05, counted.sets)
    shares = [float(np.mean(found)) for found in (counted.holds, counted.gap_holds)]
    allowed = max(COVERAGE_OFF, error(LEVEL, counted.sets))
    return false or any(abs(share - LEVEL) > allowed for share in shares)


def row(scenario: Scenario, counted: Counted) -> str:
    """Return a line of the table."""
    false = f"{counted.false / counted.sets:.1%}" if scenario.gap == 0 else "–"
    resampled = f"{np.mean(counted.resampled_holds):.1%}" if scenario.seeds > 1 else "–"
    cells = [
        scenario.title, f"{scenario.n:,}", str(scenario.seeds), false, f"{np.mean(counted.holds):.1%}",
        f"{np.mean(counted.gap_holds):.1%}", resampled,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> int:
    """Print the table; return 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=1000, help="per row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated data (default: %(default)s)")
    options = parser.parse_args(arguments)
    off = error(0.05, options.comparisons)
    print(f"{options.comparisons:,} per row, seed {options.seed}; 5 % may be off by {off:.1%}\n")
    print("| score | questions | seeds | called different under the null | interval of a score holds the truth | "
          "of a difference | of a score, were seeds resampled |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|")
    bad = 0
    for scenario in SCENARIOS:
        counted = simulate(scenario, options.comparisons, options.seed)
        bad += broken(scenario, counted)
        print(row(scenario, counted), flush=True)
    print(f"{bad} rows break their promise" if bad else "every row keeps its promise")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
