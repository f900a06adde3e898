"""Values of a verdict: the gain and cost of more data, and which cell to take; `messages` puts them into words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from medqa_finetune.report.comparability import Difference
from medqa_finetune.report.stats.choice import Choice
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval


class Estimate(NamedTuple):
    """A number with its confidence interval."""

    value: float
    interval: Interval


class Curve(StrEnum):
    """Kind of fitted curve."""

    POWER_LAW = "power law"
    LOG_LINEAR = "log-linear"


class NoFit(StrEnum):
    """Reason why there is no curve."""

    ONE_SIZE = "one size"
    NOT_COMPARABLE = "not comparable"


class Machine(StrEnum):
    """Machine whose hours training is counted in."""

    GPU = "GPU"
    CPU = "CPU"


class Cost(StrEnum):
    """Cost that a score is plotted against: machine hours of training, memory, or money."""

    HOURS = "hours"
    MEMORY = "memory"
    MONEY = "money"


class Unit(StrEnum):
    """Unit of a cost."""

    GPU_HOURS = "GPU-hours"
    CPU_HOURS = "CPU-hours"
    VRAM = "GiB VRAM"
    RSS = "GiB RSS"
    MONEY = "money"


class Caution(StrEnum):
    """What the scores of a verdict do not measure."""

    SAFETY = "safety"
    RUNNING_TEXT = "running text"


class RunState(StrEnum):
    """Why a run is not done; in the order in which these are listed."""

    FAILED = "failed"
    INTERRUPTED = "interrupted"
    # It says that it runs, and no process works in its folder.
    STOPPED = "stopped"
    UNREADABLE = "unreadable"
    RUNNING = "running"
    # In the queue of a cluster.
    QUEUED = "queued"
    NOT_STARTED = "not started"


class AdviceKind(StrEnum):
    """Which cell to take, or why none is recommended.

    `BEST_…` and `CHEAPER` name a trained cell, `BASELINE_WINS` an untrained one; the others name none.
    """

    # No score has a direction.
    NO_SCORE = "no score"
    NOTHING_TRAINED = "nothing trained"
    ONE_CELL = "one cell"
    # An untrained cell scores better than the best trained one.
    BASELINE_WINS = "baseline wins"
    NO_DIFFERENCE_TO_BASELINE = "no difference to baseline"
    # The best is comparable with no other trained cell.
    NOT_COMPARABLE = "not comparable"
    # No two trained cells differ significantly.
    NONE_SHOWN = "none shown"
    # The best significantly beats every other.
    BEST_OF_ALL = "best of all"
    # Every interval excludes 0, but some differences are significant only before the correction.
    BEST_BEFORE_CORRECTION = "best before correction"
    # No cell level with the best costs less.
    BEST_OF_LEVEL = "best of level"
    # What the best and the cells level with it cost does not compare.
    BEST_OF_UNTIMED = "best of untimed"
    # Cells level with the best that cost less were beaten by another cell, or beat no baseline.
    BEST_OF_SPOILED = "best of spoiled"
    # A cell level with the best costs less.
    CHEAPER = "cheaper"


@dataclass(frozen=True)
class Fit:
    """Fit of a score against the number of training examples, for cells that differ in nothing else.

    Attributes:
        series: What the cells share, e.g. `lora`.
        score: Name of the score.
        cells: Names of the cells, by size.
        sizes: Number of training examples of each cell.
        values: Score of each cell.
        model: Kind of curve; None if there is none.
        parameters: `offset`, `factor`, `exponent` of `offset - factor * examples ** -exponent` (`+` if lower is
            better), or `offset` and `per_doubling` of `offset + per_doubling * log2(examples)`; for a perplexity, of
            its natural logarithm.
        curve: Points to draw, from the smallest size to twice the largest: examples, score, low, high.
        no_fit: Why there is no curve; None if there is one.
        unlike: The first two cells that are not comparable, if that is the reason.
        differences: Differences between these.
        limit: Asymptote of a power law: the score that no amount of data exceeds.
        tested: Whether a power law has more sizes than parameters, so that the data could contradict it.
        without_power_law: Share of resamples, in [0, 1], without a power law, if a line was fitted for that reason;
            None with too few sizes to try.
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
        """The largest size of the curve, and the predicted score there."""
        size, value, low, high = self.curve[-1]
        return round(size), Estimate(value, Interval(low, high))

    @property
    def change_shown(self) -> bool:
        """Whether the interval of a line's slope excludes 0."""
        bound = self.parameters["per_doubling"].interval
        return bound.low > 0 or bound.high < 0


@dataclass(frozen=True)
class ParetoPoint:
    """One cell as a point of cost and score.

    Attributes:
        on_front: Whether no other cell scores at least as well for at most the cost, and is better in one of them.
        share: Share of resamples in which it is on the front, in [0, 1].
    """

    cell: str
    cost: float
    value: float
    on_front: bool
    share: float


@dataclass(frozen=True)
class Front:
    """Pareto front of a score against one cost.

    Attributes:
        points: By ascending cost.
        left_out: Cells that are not comparable, since test set, signature, device or batch differ.
    """

    score: str
    cost: Cost
    unit: Unit
    points: tuple[ParetoPoint, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A step from one data size to the next, all else equal.

    Attributes:
        sizes: Names of the two sizes, e.g. `20k`.
        gain: Score of the second cell minus the first's.
        machine: Machine whose hours `hours` are.
        hours: Additional machine hours of training; None if not measured or not comparable.
        money: Cost of these hours; None without a price.
        differences: Why the two cells are not comparable.
        uncorrected: Number of pairs of this score, if the text must state that the interval is not corrected for it:
            it excludes 0 although the difference is not significant. Set at one place of a verdict, else None.
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
class Contrast:
    """The second of two cells against the first.

    Attributes:
        first: What the first is called beside the second (`Cell.entry`), as the size is known.
        second: What the second is called.
        gain: Score of the second minus the first's; None if they are not comparable.
        differences: Why they are not.
    """

    first: str
    second: str
    gain: float | None
    interval: Interval | None
    verdict: Finding
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class SizeAnswer:
    """What the methods make of one training size.

    Attributes:
        size: Its name, e.g. `20k`, with the model, where there are several.
        between: Other methods against the first, e.g. QLoRA − LoRA.
        over: Every method against the untuned base.
        over_retrieval: Every method against retrieval from the same training examples.
    """

    size: str
    score: str
    between: tuple[Contrast, ...]
    over: tuple[Contrast, ...]
    over_retrieval: tuple[Contrast, ...] = ()


@dataclass(frozen=True)
class Unfinished:
    """Runs of a study that are not done.

    Attributes:
        study: Empty if all runs are of one study.
        done: Number of those that are.
        count: Number of all.
        runs: Labels by state.
        missing: Labels of cells of which there is no run, although their method and their size occur in others.
    """

    study: str
    done: int
    count: int
    runs: Mapping[RunState, tuple[str, ...]]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advice:
    """The recommended cell and the reasons.

    Attributes:
        kind: Kind of advice.
        cell: The recommended cell; None if there is none.
        score: The score it is based on; empty if none has a direction.
        best: The trained cell with the best score; None if nothing was trained.
        other: The cell that the best is compared with: the baseline, the next best, the cheaper one, or the first that
            is not comparable.
        lead: Score of `best` minus that of `other`.
        level: Cells that do not differ significantly from the best and cost no less; for `BEST_BEFORE_CORRECTION`,
            those that do not although the interval excludes 0.
        beaten: Cells level with the best that another trained cell significantly beats.
        idle: The other cells level with the best that beat no baseline.
        hours: Training hours of `cell` and `best` on `machine`; None if not measured or not comparable.
        machine: Machine whose hours these are.
        unlike: Cells that are not comparable with the best.
        differences: Differences between the best and the first of these.
        uncorrected: Number of pairs of this score, if the text must state that the interval of `lead` is not corrected
            for it; else None.
        one_seed: Whether any trained cell has only one seed.
        of_chosen: Whether cells that were not chosen by validation loss are left out.
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
    of_chosen: bool = False


@dataclass(frozen=True)
class Refusals:
    """Pairs of cells that are not comparable in one score; `first` is one of them."""

    count: int
    first: Comparison


@dataclass(frozen=True)
class Verdict:
    """The verdict on the cells of one study, corpus and task.

    Attributes:
        title: Study, models and corpus.
        score: The score that the advice is based on; empty if none has a direction.
        cells: Names of the cells covered.
        sizes: What the methods make of each size, in every headline score.
        choices: Which of several settings that were swept was chosen; advice, steps and curves are about these.
    """

    title: str
    score: str
    fit: tuple[Fit, ...]
    pareto: tuple[Front, ...]
    steps: tuple[Step, ...]
    advice: Advice
    caution: Caution
    cells: tuple[str, ...] = ()
    sizes: tuple[SizeAnswer, ...] = ()
    choices: tuple[Choice, ...] = ()
