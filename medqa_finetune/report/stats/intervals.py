"""Defines scores with intervals and comparisons of cells, and computes intervals and differences.

A cell is all runs that differ only in the seed. Its score is the mean of its runs' scores.

**Questions** are resampled, with the same resamples for every run, since all runs have the same questions. **Seeds**:
two to five are too few to resample; intervals from resampled seeds cover the truth too rarely (shown by
`scripts/simulation.py`). The variation between trainings is therefore added as a normal variate whose variance (that of
the seeds' mean) is itself uncertain: the estimate times k - 1 over a chi-square variate with k - 1 degrees of freedom
(Welch's for a difference), or with two more, with a probability equal to the square of the questions' share of the
total variance. Using the share itself instead of its square gives the posterior under a probability matching prior
(Datta & Mukerjee 2004; the first term of Welch's series of 1947), which is exact to second order. That is not enough
for three seeds: if seeds dominate the variance, coverage is 93.5 %. The square covers 94.6 to 95.9 % at any share;
Satterthwaite's degrees of freedom 92 to 95 %, Student's t for the seeds alone 95 to 98 %. The interaction of question
and seed (another seed does better on another question) is already part of the spread between seeds, so the questions'
part is shrunk to what all seeds share. With one seed there is no such part: the interval is about that run, not about
retraining.

**Pairs**: the randomisation test swaps, question by question, the predictions of all seeds of the two cells, so it
tests whether these runs differ. With several seeds that is not enough, since another seed might reverse the order; the
p value is then the larger of the test's and the one at which the interval with the seeds' part reaches 0.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from medqa_finetune.report.comparability import Difference
from medqa_finetune.report.scores import score_info
from medqa_finetune.report.stats.bootstrap import Array, Sample, bounds


class Finding(StrEnum):
    """Result of comparing a pair of cells."""

    DIFFERENT = "different"
    NONE_SHOWN = "no difference shown"
    NOT_COMPARABLE = "not comparable"


class SeedBasis(StrEnum):
    """Number of seeds of the trained cells in a comparison: one each, one in one of them, several in all."""

    ONE = "one"
    SOME = "some"
    SEVERAL = "several"


@dataclass(frozen=True)
class Settings:
    """Settings of the statistics.

    Attributes:
        resamples: Number of bootstrap resamples.
        trials: Number of trials of the randomisation test.
        seed: Seed of both.
        level: Confidence level in (0, 1); p values after Holm's correction are significant below `1 - level`.
        price_per_hour: Price of a machine hour, in any currency; None if unknown.
    """

    resamples: int = 10_000
    trials: int = 10_000
    seed: int = 12345
    level: float = 0.95
    price_per_hour: float | None = None


@dataclass(frozen=True)
class Interval:
    """Bounds of a confidence interval, `low <= high`."""

    low: float
    high: float


@dataclass(frozen=True)
class CellScore:
    """One score of one cell with its interval.

    Attributes:
        cell: Its name as in the table of results, without the seed, prefixed by `study/` if it has a study.
        score: Name of the score, as in the table.
        value: Mean over seeds.
        interval: Confidence interval over questions, and over training seeds if there are several.
        n: Number of test questions.
        seeds: Number of runs of the cell.
        sd: Standard deviation between seeds (n - 1); None for one seed.
    """

    cell: str
    score: str
    value: float
    interval: Interval
    n: int
    seeds: int
    sd: float | None


@dataclass(frozen=True)
class Comparison:
    """Comparison of two cells in one score.

    Attributes:
        first: Name of the first cell.
        second: Name of the second cell.
        score: Name of the score.
        axes: What is compared (`comparability.axes_between`); several if several things differ.
        difference: Score of the second minus the first; None if they are not comparable.
        interval: Interval of the difference, not corrected for the number of comparisons.
        effect: The difference in standard deviations of the per-question difference (Cohen's d_z); for BLEU and
            perplexity, which are not defined per question, that deviation is the standard error times sqrt(n).
        effect_interval: The interval in the same unit, treating the deviation as known.
        p: Two-sided p value.
        p_holm: After Holm's correction over all pairs of this score.
        verdict: Result of the comparison.
        differences: Why they are not comparable.
        seeds: Number of seeds behind the result; None if nothing was trained, or they are not comparable.
    """

    first: str
    second: str
    score: str
    axes: tuple[str, ...]
    difference: float | None
    interval: Interval | None
    effect: float | None
    effect_interval: Interval | None
    p: float | None
    p_holm: float | None
    verdict: Finding
    differences: tuple[Difference, ...] = ()
    seeds: SeedBasis | None = None

    @property
    def axis(self) -> str:
        """The axes joined with ` + `, as in the CSV files."""
        return " + ".join(self.axes)

    @property
    def leaves_out_0(self) -> bool:
        """Return whether the interval, which is not corrected for the number of pairs, excludes 0."""
        return self.interval is not None and not self.interval.low <= 0 <= self.interval.high


@dataclass(frozen=True)
class Resampled:
    """One score of one cell in every resample of the questions.

    Attributes:
        cell: Name of the cell.
        values: Score of each run, shape (seeds,).
        draws: Scores in the resamples, shape (seeds, resamples).
        n: Number of questions.
    """

    cell: str
    values: Array
    draws: Array
    n: int

    @property
    def value(self) -> float:
        """Mean of `values` over seeds."""
        return float(self.values.mean())

    @property
    def sd(self) -> float | None:
        """Standard deviation between seeds (n - 1); None for one."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else None

    @property
    def seed_variance(self) -> float:
        """Variance of the mean over seeds; 0 for one seed, for which it is unknown."""
        return float(self.values.var(ddof=1)) / len(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class Gap:
    """The difference between two cells, second minus first, with its uncertainty.

    Attributes:
        value: The difference.
        draws: Draws of the difference, shape (resamples,).
        spread: Standard deviation of the per-question difference.
    """

    value: float
    draws: Array
    spread: float

    @property
    def p(self) -> float:
        """Two-sided p value at which the interval reaches 0."""
        below, above = (self.draws <= 0).sum(), (self.draws >= 0).sum()
        return float(min(1.0, 2 * (1 + min(below, above)) / (1 + len(self.draws))))


def mean_draws(resampled: Resampled, settings: Settings) -> Array:
    """Return draws of a cell's score, including the seeds' part, shape (resamples,)."""
    questions = _shrunk(resampled.draws.mean(axis=0) - resampled.value, _shared(resampled.draws))
    return resampled.value + _with_seeds(questions, _seeds_of([resampled]), resampled.cell, settings)


def gap_between(first: Resampled, second: Resampled, settings: Settings) -> Gap:
    """Return the difference between two cells with the same questions."""
    value = second.value - first.value
    questions = second.draws.mean(axis=0) - first.draws.mean(axis=0) - value
    spread = float(questions.std()) * first.n**0.5
    if max(len(first.values), len(second.values)) > 1:
        shared = _shared(first.draws) + _shared(second.draws) - 2 * _across(first.draws, second.draws)
        questions = _shrunk(questions, shared)
    draws = value + _with_seeds(questions, _seeds_of([first, second]), f"{first.cell} {second.cell}", settings)
    return Gap(value, draws, spread)


def cell_score(resampled: Resampled, score: str, settings: Settings) -> CellScore:
    """Return a cell's score, the mean over seeds, with its interval."""
    interval = value_interval(mean_draws(resampled, settings), resampled.n, score, settings)
    return CellScore(resampled.cell, score, resampled.value, interval, resampled.n, len(resampled.values), resampled.sd)


def interval_of(draws: Array, n: int, settings: Settings) -> Interval:
    """Return the interval of draws, shape (resamples,), over n questions."""
    low, high = bounds(draws, n, settings.level)
    return Interval(float(low), float(high))


def value_interval(draws: Array, n: int, score: str, settings: Settings) -> Interval:
    """Return the interval of a score (not of a difference), clipped to the score's limits."""
    found, (low, high) = interval_of(draws, n, settings), score_info(score).limits
    return Interval(min(max(found.low, low), high), min(max(found.high, low), high))


def pooled(samples: Sequence[Sample]) -> Sample:
    """Average the columns over a cell's seeds; the randomisation test swaps these."""
    columns = np.mean([sample.columns for sample in samples], axis=0) if len(samples) > 1 else samples[0].columns
    return Sample(columns, samples[0].aggregate)


def _shared(draws: Array) -> float:
    """Return the variance shared by a cell's seeds: the mean covariance of two; for one seed, its variance."""
    seeds = len(draws)
    variances = float(draws.var(axis=1).sum())
    if seeds == 1:
        return variances
    return (float(draws.mean(axis=0).var()) * seeds**2 - variances) / (seeds * (seeds - 1))


def _across(first: Array, second: Array) -> float:
    one, other = first.mean(axis=0), second.mean(axis=0)
    return float(((one - one.mean()) * (other - other.mean())).mean())


def _shrunk(deviations: Array, variance: float) -> Array:
    whole = float(deviations.var())
    return deviations * min(1.0, max(0.0, variance) / whole) ** 0.5 if whole else deviations


def _seeds_of(cells: Sequence[Resampled]) -> tuple[float, float]:
    """Return the seeds' variance of a sum over cells (0 if every cell has one seed), and its degrees of freedom."""
    parts = [(each.seed_variance, len(each.values) - 1) for each in cells if each.seed_variance > 0]
    variance = sum(part for part, _ in parts)
    if not parts:
        return 0.0, 1.0
    # Welch (1947): this form is unbiased, the usual one too small for few seeds (coverage 96 to 97 %).
    return variance, variance**2 / sum(part**2 / (freedom + 2) for part, freedom in parts) - 2


def _with_seeds(questions: Array, seeds: tuple[float, float], name: str, settings: Settings) -> Array:
    """Add the seeds' part, given by variance and degrees of freedom, to the questions' part, shape (resamples,)."""
    variance, freedom = seeds
    if not variance:
        return questions
    # Each cell, and each pair, has its own variates.
    rng = np.random.default_rng([settings.seed, zlib.crc32(name.encode("utf-8", "replace"))])
    others = float(questions.var()) / (variance + float(questions.var()))
    more = rng.random(settings.resamples) < others**2
    scale = freedom / rng.chisquare(np.where(more, freedom + 2, freedom))
    return np.asarray(questions + np.sqrt(variance * scale) * rng.standard_normal(settings.resamples))
