"""Resamples test questions by matrix products.

Every score is a function of sums over questions: a mean of its own values, corpus BLEU of ten counts, perplexity of
two. A resample is a row of weights (how often each question was drawn), so that one product gives many scores of many
runs. The same seed gives every run the same resamples, which pairs the runs; for one set of questions, they equal
sacrebleu's resamples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.uint16]

# Maximum weights or sums in memory, in numbers of 8 bytes: 32 MiB.
AT_ONCE = 4_000_000
# Maximum resamples cached for the next score, in numbers of 2 bytes: drawing takes longer than using them.
KEPT = 32_000_000
# Coins drawn at once, one byte each. sacrebleu draws all at once; up to this many, ours are the same.
COINS_AT_ONCE = 64_000_000
# Tolerance within which a randomised difference counts as equal to the observed one.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Sample:
    """Quantities to sum over a run's questions for one score.

    Attributes:
        columns: Shape (n, k): n questions, k quantities.
        aggregate: Maps sums, shape (…, k), and n to scores, shape (…).
    """

    columns: Array
    aggregate: Callable[[Array, int], Array]

    @property
    def value(self) -> float:
        """The score over all questions, without resampling."""
        return float(self.aggregate(self.columns.sum(axis=0), len(self.columns)))


def mean(sums: Array, n: int) -> Array:
    """Divide sums, shape (…, 1), by n: the `aggregate` of a score that is a mean over questions."""
    return np.asarray(sums[..., 0] / n)


def bootstrap(samples: Sequence[Sample], resamples: int, seed: int) -> Array:
    """Return the score of each sample in each resample of the questions, shape (samples, resamples).

    Args:
        samples: Samples of the same n questions in the same order.
        resamples: Number of resamples.
        seed: Two calls with the same seed and n use the same resamples.
    """
    stacked = np.concatenate([sample.columns for sample in samples], axis=1)
    drawn = np.empty((len(samples), resamples))
    for start, weights in _weights(stacked.shape, resamples, seed):
        _fill(drawn[:, start : start + len(weights)], samples, weights @ stacked)
    return drawn


def randomisation(pairs: Sequence[tuple[Sample, Sample]], trials: int, seed: int) -> Array:
    """Return a two-sided p value per pair by paired approximate randomisation (Noreen 1989; Riezler & Maxwell 2005).

    Under the null hypothesis, the two predictions for a question are exchangeable; each trial swaps them by a coin per
    question. p = (1 + trials with a difference at least as large) / (1 + trials), which
    is never 0 (Phipson & Smyth 2010). sacrebleu counts only larger ones, so that two equal systems get its smallest p.

    Args:
        pairs: Pairs of samples of the same n questions in the same order.
        trials: Number of trials.
        seed: Seed of the coins, which all pairs share.
    """
    moved = np.concatenate([first.columns - second.columns for first, second in pairs], axis=1)
    observed = np.array([abs(first.value - second.value) for first, second in pairs])
    as_large = np.zeros(len(pairs))
    seconds = [second for _, second in pairs]
    sums = [first.columns.sum(axis=0) + second.columns.sum(axis=0) for first, second in pairs]
    base = np.concatenate([second.columns.sum(axis=0) for second in seconds])
    for coins in _coins(moved.shape, trials, seed):
        one = coins @ moved + base
        here, there = np.empty((2, len(pairs), len(coins)))
        _fill(here, seconds, one)
        _fill(there, seconds, np.concatenate(sums) - one)
        as_large += (np.abs(here - there) >= observed[:, None] * (1 - ROUNDING) - ROUNDING).sum(axis=1)
    return np.asarray((1 + as_large) / (1 + trials))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values after Holm's correction (Holm 1979), each in [0, 1], in the order given."""
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values)[order] * steps))
    corrected = np.empty(len(p_values))
    corrected[order] = adjusted
    return [float(value) for value in corrected]


def bounds(draws: Array, n: int, level: float) -> tuple[Array, Array]:
    """Return lower and upper bounds of expanded percentile intervals over the last axis.

    Bootstrap percentile intervals are too narrow by a factor of sqrt((n - 1) / n) and use the normal in place of
    Student's distribution; Hesterberg (2015, arXiv:1411.5279, section 4.3) uses percentiles further out instead.

    Args:
        draws: Shape (…, resamples).
        n: Number of questions, at least two.
        level: Nominal coverage, in (0, 1).
    """
    tail = float(ndtr(-((n / (n - 1)) ** 0.5) * stdtrit(n - 1, 0.5 + level / 2)))
    low, high = np.quantile(draws, [tail, 1 - tail], axis=-1)
    return low, high


def _fill(scores: Array, samples: Sequence[Sample], sums: Array) -> None:
    """Compute scores, shape (samples, rows), in place from sums, shape (rows, columns of all samples)."""
    start = 0
    for place, sample in enumerate(samples):
        n, k = sample.columns.shape
        scores[place] = sample.aggregate(sums[:, start : start + k], n)
        start += k


def _weights(shape: tuple[int, int], resamples: int, seed: int) -> Iterator[tuple[int, Array]]:
    """Yield blocks of resamples: index of the first, and how often each question was drawn, shape (block, n)."""
    n, rows = shape[0], max(1, AT_ONCE // max(shape))
    kept = _kept_counts(n, resamples, seed) if n * resamples <= KEPT else _counts(n, resamples, seed)
    start = 0
    for block in kept:
        for first in range(0, len(block), rows):
            part = block[first : first + rows]
            yield start, part.astype(np.float64)
            start += len(part)


@lru_cache(maxsize=1)
def _kept_counts(n: int, resamples: int, seed: int) -> list[Counts]:
    return list(_counts(n, resamples, seed))


def _counts(n: int, resamples: int, seed: int) -> Iterator[Counts]:
    """Yield blocks of resamples: how often each question was drawn, shape (block, n)."""
    rng = np.random.default_rng(seed)
    rows = max(1, AT_ONCE // n)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(0, n, size=(count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(np.uint16)


def _coins(shape: tuple[int, int], trials: int, seed: int) -> Iterator[Array]:
    """Yield blocks of trials: a coin, 0 or 1, per question, shape (block, n)."""
    n = shape[0]
    rng = np.random.default_rng(seed)
    drawn, rows = max(1, COINS_AT_ONCE // n), max(1, AT_ONCE // max(shape))
    for start in range(0, trials, drawn):
        coins = rng.integers(2, size=(min(drawn, trials - start), n), dtype=bool)
        for part in range(0, len(coins), rows):
            yield coins[part : part + rows].astype(np.float64)
