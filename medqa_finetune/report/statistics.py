"""What the scores of a set of cells can bear: intervals, differences, and whether two cells may be compared at all.

A cell is all runs that differ in nothing but the seed. Its score is the mean over its runs of each run's score.
"""

from dataclasses import dataclass
from typing import Literal

from medqa_finetune.report.words import Text

Difference = Literal["different", "no difference shown", "not comparable"]


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
        axis: What is compared: `method`, `data`, `model`, `baseline` (one of the two is not trained), joined with ` + `
            where several differ.
        difference: Of the second less the first; None where they do not compare.
        interval: Of the difference, not corrected for the number of comparisons.
        effect: The difference in standard deviations of the per-question difference (Cohen's d_z).
        effect_interval: The interval in the same unit.
        p: Two-sided, of the randomisation test.
        p_holm: After Holm's correction over all pairs of this score.
        verdict: The outcome.
        reason: Why they do not compare, or what the outcome is about.
    """

    first: str
    second: str
    score: str
    axis: str
    difference: float | None
    interval: Interval | None
    effect: float | None
    effect_interval: Interval | None
    p: float | None
    p_holm: float | None
    verdict: Difference
    reason: Text
