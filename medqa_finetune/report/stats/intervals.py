"""What the scores of a set of cells can bear: intervals, differences, and whether two cells may be compared at all.

A cell is all runs that differ in nothing but the seed. Its score is the mean over its runs of each run's score.

**Questions** are resampled, the same resample for every run, for all answered the same ones. **Seeds**: two to five of
them are too few to be resampled; drawn with replacement they give intervals that hold the truth too seldom
(`scripts/simulation.py` shows it). What training again changes is therefore added as a normal variate, the variance of
which (that of the seeds' mean) is itself uncertain: the estimate times k - 1 over a chi-square variate of k - 1 degrees
of freedom (for a difference Welch's), or of two more with a chance equal to the square of the questions' share of the
whole variance. With the share itself in the place of its square that would be the posterior under a probability
matching prior (Datta & Mukerjee 2004; the first term of Welch's series of 1947), exact to the second order, which for
three seeds is not enough: where they are most of the variance it holds the truth in 93.5 of 100 cases. The square holds
it in 94.6 to 95.9 at any share; Satterthwaite's degrees of freedom in 92 to 95, Student's t for the seeds alone in 95
to 98. What question and seed do together (another seed answers another question well) is in the spread between seeds
already, so the questions' part is shrunk to what all seeds share. One seed has no such part: its interval is about that
run, not about training again.

**Pairs**: the randomisation test swaps, question by question, the answers of all seeds of one cell for those of the
other, so it asks whether these runs differ. With several seeds that is not enough, for another seed might turn the
order; the p value is then the larger of the test's and the one at which the interval with the seeds' part reaches 0.
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
    """What was found for a pair of cells."""

    DIFFERENT = "different"
    NONE_SHOWN = "no difference shown"
    NOT_COMPARABLE = "not comparable"


class SeedBasis(StrEnum):
    """How many seeds the trained cells of a comparison have: one each, one in one of them, several in all."""

    ONE = "one"
    SOME = "some"
    SEVERAL = "several"


@dataclass(frozen=True)
class Settings:
    """How the statistics are done.

    Attributes:
        resamples: Of the bootstrap.
        trials: Of the randomisation test.
        seed: Of both.
        level: Of the intervals, in (0, 1); what a p value (after Holm) must stay below to count is `1 - level`.
        price_per_hour: Money for an hour of the machine, in any currency; None where it is not known.
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
    """One score of one cell.

    Attributes:
        cell: Its name as in the table of results, without the seed; `study/` before it where it has one.
        score: Name of the score, as the table calls it.
        value: Mean over seeds.
        interval: By resampling questions, and with the seeds' part where there are several.
        n: Test questions.
        seeds: Runs of the cell.
        sd: Standard deviation between seeds; None for one seed.
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
    """Two cells, one score.

    Attributes:
        first: Cell.
        second: Cell.
        score: Name of the score.
        axes: What is compared (`comparability.axes_between`); several where several things differ.
        difference: Of the second less the first; None where they do not compare.
        interval: Of the difference, not corrected for the number of comparisons.
        effect: The difference in standard deviations of the per-question difference (Cohen's d_z); for BLEU and
            perplexity, which no question has alone, that deviation is the standard error times sqrt(n).
        effect_interval: The interval in the same unit, the deviation taken as known.
        p: Two-sided, of the randomisation test.
        p_holm: After Holm's correction over all pairs of this score.
        verdict: What was found.
        differences: Why they do not compare.
        seeds: What the finding rests on; None where nothing was trained, or the two do not compare.
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
        """What is compared, as the CSV files have it: the axes joined with ` + `."""
        return " + ".join(self.axes)

    @property
    def leaves_out_0(self) -> bool:
        """Say whether the interval, which is not corrected for the number of pairs, leaves out 0."""
        return self.interval is not None and not self.interval.low <= 0 <= self.interval.high


@dataclass(frozen=True)
class Drawn:
    """One score of one cell in every resample of the questions.

    Attributes:
        cell: Name.
        values: Score of each run, shape (seeds,).
        draws: Shape (seeds, resamples).
        n: Questions.
    """

    cell: str
    values: Array
    draws: Array
    n: int

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(self.values.mean())

    @property
    def sd(self) -> float | None:
        """Standard deviation between seeds; None for one."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else None

    @property
    def seed_variance(self) -> float:
        """Of the mean over seeds; 0 for one seed, of which nothing is known."""
        return float(self.values.var(ddof=1)) / len(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class Gap:
    """The difference between two cells, second less first, with its uncertainty.

    Attributes:
        value: The difference.
        draws: What else it might have been, shape (resamples,).
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


def mean_draws(drawn: Drawn, settings: Settings) -> Array:
    """Return what a cell's score might have been, shape (resamples,)."""
    questions = _shrunk(drawn.draws.mean(axis=0) - drawn.value, _shared(drawn.draws))
    return drawn.value + _with_seeds(questions, _seeds_of([drawn]), drawn.cell, settings)


def gap_between(first: Drawn, second: Drawn, settings: Settings) -> Gap:
    """Return the difference between two cells that answered the same questions."""
    value = second.value - first.value
    questions = second.draws.mean(axis=0) - first.draws.mean(axis=0) - value
    spread = float(questions.std()) * first.n**0.5
    if max(len(first.values), len(second.values)) > 1:
        shared = _shared(first.draws) + _shared(second.draws) - 2 * _across(first.draws, second.draws)
        questions = _shrunk(questions, shared)
    draws = value + _with_seeds(questions, _seeds_of([first, second]), f"{first.cell} {second.cell}", settings)
    return Gap(value, draws, spread)


def cell_score(drawn: Drawn, score: str, settings: Settings) -> CellScore:
    """Return a cell's score with its interval."""
    interval = value_interval(mean_draws(drawn, settings), drawn.n, score, settings)
    return CellScore(drawn.cell, score, drawn.value, interval, drawn.n, len(drawn.values), drawn.sd)


def interval_of(draws: Array, n: int, settings: Settings) -> Interval:
    """Return the interval of draws, shape (resamples,), over n questions."""
    low, high = bounds(draws, n, settings.level)
    return Interval(float(low), float(high))


def value_interval(draws: Array, n: int, score: str, settings: Settings) -> Interval:
    """Return the interval of a score itself, not of a difference: within what the score can be."""
    found, (low, high) = interval_of(draws, n, settings), score_info(score).limits
    return Interval(min(max(found.low, low), high), min(max(found.high, low), high))


def pooled(samples: Sequence[Sample]) -> Sample:
    """Return the seeds of a cell as one, its columns their mean: what the randomisation test swaps."""
    columns = np.mean([sample.columns for sample in samples], axis=0) if len(samples) > 1 else samples[0].columns
    return Sample(columns, samples[0].aggregate)


def _shared(draws: Array) -> float:
    """Return the variance that all seeds of a cell share: the mean covariance of two; one seed's whole variance."""
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


def _seeds_of(cells: Sequence[Drawn]) -> tuple[float, float]:
    """Return the seeds' variance of a sum over cells, and its degrees of freedom; 0 where every cell has one seed."""
    parts = [(each.seed_variance, len(each.values) - 1) for each in cells if each.seed_variance > 0]
    variance = sum(part for part, _ in parts)
    if not parts:
        return 0.0, 1.0
    # Welch (1947): this form is right on average, the usual one too small for few seeds (96 to 97 of 100 hold).
    return variance, variance**2 / sum(part**2 / (freedom + 2) for part, freedom in parts) - 2


def _with_seeds(questions: Array, seeds: tuple[float, float], name: str, settings: Settings) -> Array:
    """Return the questions' part, shape (resamples,), with that of the seeds, whose variance and freedom are given."""
    variance, freedom = seeds
    if not variance:
        return questions
    # Each cell, and each pair, has variates of its own.
    rng = np.random.default_rng([settings.seed, zlib.crc32(name.encode("utf-8", "replace"))])
    others = float(questions.var()) / (variance + float(questions.var()))
    more = rng.random(settings.resamples) < others**2
    scale = freedom / rng.chisquare(np.where(more, freedom + 2, freedom))
    return np.asarray(questions + np.sqrt(variance * scale) * rng.standard_normal(settings.resamples))
