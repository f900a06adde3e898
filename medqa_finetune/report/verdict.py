"""The answer: what more data buys, what it costs, and which cell to take. Values alone; the words lie in `messages`."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from medqa_finetune.record.short_names import shared_settings
from medqa_finetune.report.comparability import Difference
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval


class Estimate(NamedTuple):
    """A number with its confidence interval."""

    value: float
    interval: Interval


class Curve(StrEnum):
    """Which curve was fitted."""

    POWER_LAW = "power law"
    LOG_LINEAR = "log-linear"


class NoFit(StrEnum):
    """Why there is no curve."""

    ONE_SIZE = "one size"
    NOT_COMPARABLE = "not comparable"


class Machine(StrEnum):
    """What an hour of training is an hour of."""

    GPU = "GPU"
    CPU = "CPU"


class Cost(StrEnum):
    """What a score is held against: hours of the machine for training, memory, or money."""

    HOURS = "hours"
    MEMORY = "memory"
    MONEY = "money"


class Unit(StrEnum):
    """What a cost is counted in."""

    GPU_HOURS = "GPU-hours"
    CPU_HOURS = "CPU-hours"
    VRAM = "GiB VRAM"
    RSS = "GiB RSS"
    MONEY = "money"


class Caution(StrEnum):
    """What the scores of a verdict do not say."""

    SAFETY = "safety"
    RUNNING_TEXT = "running text"


class AdviceKind(StrEnum):
    """Which cell to take, or why none is named.

    `BEST_…` and `CHEAPER` name a trained cell, `BASELINE_WINS` one that is not trained; the others name none.
    """

    # No score says which cell is better.
    NO_SCORE = "no score"
    NOTHING_TRAINED = "nothing trained"
    ONE_CELL = "one cell"
    # An untrained cell scores better than the best trained one.
    BASELINE_WINS = "baseline wins"
    NO_DIFFERENCE_TO_BASELINE = "no difference to baseline"
    # The best compares with no other trained cell.
    NOT_COMPARABLE = "not comparable"
    # No difference is shown between any two trained cells.
    NONE_SHOWN = "none shown"
    # The best was shown to beat every other.
    BEST_OF_ALL = "best of all"
    # The interval of every difference leaves out 0, that of some before the correction alone.
    BEST_BEFORE_CORRECTION = "best before correction"
    # None that is level with the best costs less.
    BEST_OF_LEVEL = "best of level"
    # What is level with the best and costs less was beaten by another cell, or beats no baseline.
    BEST_OF_SPOILED = "best of spoiled"
    # Level with the best for a lower cost.
    CHEAPER = "cheaper"


@dataclass(frozen=True)
class Fit:
    """A score against the number of training examples, for cells that differ in nothing else.

    Attributes:
        series: What the cells share, e.g. `lora`.
        score: Name of the score.
        cells: Names of the cells, by size.
        sizes: Training examples.
        values: Score of each cell.
        model: Which curve was fitted; None where there is none.
        parameters: `offset`, `factor`, `exponent` of `offset - factor * examples ** -exponent` (`+` where lower is
            better), or `offset` and `per_doubling` of `offset + per_doubling * log2(examples)`; those of a perplexity
            are of its natural logarithm.
        curve: Points to draw, from the smallest size to twice the largest: examples, score, low, high.
        no_fit: Why there is no curve; None where there is one.
        unlike: The first two cells that do not compare, where that is why.
        differences: What these differ in.
        limit: Of a power law, the score that no amount of data exceeds.
        tested: Whether a power law has more sizes than parameters, so that the data could contradict it.
        without_power_law: Share of the resamples in which no power law exists, in [0, 1], where a line was fitted for
            that reason; None where there are too few sizes to try.
    """

    series: str
    score: str
    cells: tuple[str, ...]
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    model: Curve | None = None
    parameters: dict[str, Estimate] = field(default_factory=dict)
    curve: tuple[tuple[float, float, float, float], ...] = ()
    no_fit: NoFit | None = None
    unlike: tuple[str, str] | None = None
    differences: tuple[Difference, ...] = ()
    limit: Estimate | None = None
    tested: bool = True
    without_power_law: float | None = None

    @property
    def forecast(self) -> tuple[int, Estimate]:
        """The last size of the curve, and the score that the curve gives it."""
        size, value, low, high = self.curve[-1]
        return round(size), Estimate(value, Interval(low, high))

    @property
    def change_shown(self) -> bool:
        """Whether the interval of a line's slope leaves out 0."""
        bound = self.parameters["per_doubling"].interval
        return bound.low > 0 or bound.high < 0


@dataclass(frozen=True)
class ParetoPoint:
    """One cell in the plane of cost and score.

    Attributes:
        on_front: Whether no other cell scores at least as well for at most the cost, and is better in one of them.
        share: Of the resamples in which it is on the front, in [0, 1].
    """

    cell: str
    cost: float
    value: float
    on_front: bool
    share: float


@dataclass(frozen=True)
class Front:
    """Score against one cost.

    Attributes:
        points: By rising cost.
        left_out: Cells whose test set, signature, device or batch differ, so that they have no place here.
    """

    score: str
    cost: Cost
    unit: Unit
    points: tuple[ParetoPoint, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """From one data size to the next, all else equal.

    Attributes:
        sizes: Names of the two sizes, e.g. `20k`.
        gain: Score of the second cell less the first's.
        machine: What `hours` are hours of.
        hours: More hours of the machine for training; None where not measured, or where they do not compare.
        money: For these; None without a price.
        differences: Why the two cells do not compare.
        uncorrected: Number of pairs of this score, where a reader must know that the interval is not corrected for it:
            no difference is shown though the interval leaves out 0. Said at one place of a verdict, else None.
    """

    series: str
    first: str
    second: str
    sizes: tuple[str, str]
    score: str
    gain: float | None
    interval: Interval | None
    p_holm: float | None
    verdict: Finding
    machine: Machine
    hours: float | None
    money: float | None
    differences: tuple[Difference, ...] = ()
    uncorrected: int | None = None


@dataclass(frozen=True)
class Advice:
    """Which cell to take and why.

    Attributes:
        kind: What is advised.
        cell: The one to take; None where no difference was shown or none may be called.
        score: By which; empty where none says what is better.
        best: The trained cell with the best score; None where nothing was trained.
        other: What the best is held against: the baseline, the next best, the one that costs less, or the first that
            it does not compare with.
        lead: Score of `best` less that of `other`.
        level: Cells to which no difference is shown and that cost no less; of `BEST_BEFORE_CORRECTION`, those to which
            none is shown though the interval leaves out 0.
        beaten: Cells level with the best to which another trained cell was shown to be superior.
        idle: The other cells level with the best that beat no baseline.
        hours: Of training of `cell` and `best` on `machine`; None where not measured, or where they do not compare.
        machine: What these are hours of.
        unlike: Cells that do not compare with the best.
        differences: What the best and the first of these differ in.
        uncorrected: Number of pairs of this score, where a reader must know that the interval of `lead` is not
            corrected for it; else None.
        one_seed: Whether a trained cell has one seed only.
    """

    kind: AdviceKind
    cell: str | None = None
    score: str = ""
    best: str | None = None
    other: str | None = None
    lead: Estimate | None = None
    level: tuple[str, ...] = ()
    beaten: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    hours: tuple[float, float] | None = None
    machine: Machine = Machine.GPU
    unlike: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    uncorrected: int | None = None
    one_seed: bool = False


@dataclass(frozen=True)
class Refusals:
    """Pairs of cells that do not compare in one score; `first` is one of them."""

    count: int
    first: Comparison


@dataclass(frozen=True)
class Verdict:
    """The answer for cells of one study, corpus and task.

    Attributes:
        title: Names study, models and corpus.
        score: By which is recommended; empty where none says what is better.
        cells: Names of the cells that it is about.
    """

    title: str
    score: str
    fit: tuple[Fit, ...]
    pareto: tuple[Front, ...]
    steps: tuple[Step, ...]
    advice: Advice
    caution: Caution
    cells: tuple[str, ...] = ()

    @property
    def shared_settings(self) -> list[str]:
        """Settings in the names of all trained cells: they stand once above the sentences, not in every name."""
        return shared_settings([cell for fit in self.fit for cell in fit.cells], self.cells)
