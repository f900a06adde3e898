"""The answer: what more data buys, what it costs, and which cell to take."""

from dataclasses import dataclass
from typing import Literal

from medqa_finetune.report.statistics import Difference, Interval
from medqa_finetune.report.words import Text


@dataclass(frozen=True)
class Fit:
    """A score against the number of training pairs, for cells that differ in nothing else.

    Attributes:
        series: What the cells share, e.g. `lora`.
        score: Name of the score.
        cells: Names of the cells, by size.
        sizes: Training pairs.
        values: Score of each cell.
        model: Which curve was fitted; None where fewer than two sizes exist.
        parameters: `offset`, `factor`, `exponent` of `offset - factor * pairs ** -exponent` (`+` where lower is
            better), or `offset` and `per_doubling` of `offset + per_doubling * log2(pairs)`, each with its interval;
            those of a perplexity are of its natural logarithm.
        curve: Points to draw, from the smallest size to twice the largest: pairs, score, low, high.
        text: What it says, and what it cannot say.
    """

    series: str
    score: str
    cells: tuple[str, ...]
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    model: Literal["power law", "log-linear"] | None
    parameters: dict[str, tuple[float, Interval]]
    curve: tuple[tuple[float, float, float, float], ...]
    text: Text


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
    """Score against one cost: `hours` of the machine for training, `memory` (GiB) or `money`.

    Attributes:
        unit: Of the cost: `GPU-hours`, `CPU-hours`, `GiB VRAM`, `GiB RSS`, `money`.
        points: By rising cost.
    """

    score: str
    cost: Literal["hours", "memory", "money"]
    unit: str
    points: tuple[ParetoPoint, ...]
    text: Text


@dataclass(frozen=True)
class Step:
    """From one data size to the next, all else equal.

    Attributes:
        gain: Score of the second cell less the first's.
        hours: More hours of the machine for training; None where not measured.
        money: For these; None without a price.
    """

    series: str
    first: str
    second: str
    score: str
    gain: float | None
    interval: Interval | None
    p_holm: float | None
    verdict: Difference
    hours: float | None
    money: float | None
    text: Text


@dataclass(frozen=True)
class Recommendation:
    """Which cell to take and why; `cell` is None where no difference was shown or none may be called."""

    cell: str | None
    text: Text


@dataclass(frozen=True)
class Verdict:
    """The answer for cells of one study, corpus and task.

    Attributes:
        title: Names study, models and corpus.
        score: By which is recommended.
    """

    title: str
    score: str
    fit: tuple[Fit, ...]
    pareto: tuple[Front, ...]
    steps: tuple[Step, ...]
    recommendation: Recommendation
    caution: Text
