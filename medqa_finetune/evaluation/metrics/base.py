"""What a metric is, and how its scores describe themselves to tables, charts and pages.

A metric is one file of this folder, or of a package of the user's own (entry point group `medqa_finetune.metrics`),
with `METRIC`, an instance of a class derived from `Metric`. `medqa_finetune.evaluation.metric_registry` finds both.
Importing such a file must be quick: a report reads the descriptions of every metric, so that tokenizers and the like
are loaded where they are used.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score

Array = npt.NDArray[np.float64]
# The columns of one prediction, by name.
Item = dict[str, float]


class Better(StrEnum):
    """Which way a score is better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


class Prominence(IntEnum):
    """Where a score is shown: in verdicts and every table, in every table, or in the long tables alone."""

    HEADLINE = 0
    MAIN = 1
    DETAIL = 2


class ScoreWords(NamedTuple):
    """What a score is called in one language: in a heading, at an axis, within a sentence, in a narrow column.

    Where one of the others is empty, the title stands there.
    """

    title: str
    axis: str = ""
    in_sentence: str = ""
    short: str = ""


@dataclass(frozen=True)
class Aggregate:
    """How a score follows from sums over predictions, so that a bootstrap needs no second look at the texts.

    Attributes:
        counts: Names of what is summed: k of the columns `<score>.<count>` that `Metric.items` returns.
        formula: Turns the sums, float64 of shape (…, k), and the number of predictions into scores of shape (…).
    """

    counts: tuple[str, ...]
    formula: Callable[[Array, int], Array]


@dataclass(frozen=True)
class ScoreInfo:
    """The description of one score.

    Attributes:
        name: Its name in tables, files and `Metric.corpus`; without `.`, `/`, `=`, `;` and `#`.
        better: Which way it is better.
        low: Lowest figure possible.
        high: Highest figure possible.
        words: What it is called, by language (`en`, `zh`); English stands in for a language that is missing, and the
            name where there is no English either.
        prominence: Where it is shown.
        digits: Digits behind the point.
        aggregate: How it follows from sums; None for the mean of the predictions' own scores, or for a score that is
            not resampled since it has no such scores.
        per_tokenizer: Whether it compares only within one tokenizer, as perplexities do. They grow by factors, so that
            curves are fitted through their logarithm.
        running_text: Whether it is of running text, whose records have it under `recorded_as`.
        recorded_as: Its name in records, and the beginning of its columns; by default, its name.
    """

    name: str
    better: Better = Better.HIGHER
    low: float = 0.0
    high: float = float("inf")
    words: Mapping[str, ScoreWords] = field(default_factory=dict)
    prominence: Prominence = Prominence.MAIN
    digits: int = 2
    aggregate: Aggregate | None = None
    per_tokenizer: bool = False
    running_text: bool = False
    recorded_as: str = ""

    @property
    def key(self) -> str:
        """Its name in records."""
        return self.recorded_as or self.name

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest figure possible."""
        return self.low, self.high

    @property
    def sign(self) -> int:
        """+1 where higher is better, -1 where lower is, 0 where neither is."""
        return {Better.HIGHER: 1, Better.LOWER: -1}.get(self.better, 0)

    def words_in(self, language: str) -> ScoreWords:
        """Return what it is called in a language, no part of it empty."""
        words = self.words.get(language) or self.words.get("en") or ScoreWords(self.name)
        return ScoreWords(*(word or words.title for word in words))


class Metric(ABC):
    """A way to score predictions.

    What is counted per prediction is separate from the aggregate, so that a bootstrap or a paired test can aggregate
    any choice of predictions without counting again.

    Attributes:
        scores: The scores that it gives, described. A column of an item that has the name of a score is that
            prediction's own score; other columns, `<score>.<count>`, are counts that only the aggregate needs.
        needs: Fields of a prediction that it needs and that may be None. Where no prediction has them, there is no
            score; where some have, scoring is refused.
    """

    scores: tuple[ScoreInfo, ...]
    needs: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores of predictions."""
        return tuple(info.name for info in self.scores if not info.running_text)

    @abstractmethod
    def signature(self, name: str, predictions: Sequence[Prediction]) -> str:
        """Return how the score `name` of these predictions is computed; only equal signatures compare."""

    @abstractmethod
    def items(self, predictions: Sequence[Prediction]) -> list[Item]:
        """Return one dict of columns per prediction, in order."""

    def corpus(self, predictions: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the scores of all predictions: the mean of their own, unless a metric computes something else.

        A score that cannot be had is absent, never 0: by default one that a prediction has no column of.

        Args:
            predictions: n of them, one at least.
            items: What `items` gave for them, n in the same order.
        """
        return {
            name: Score(sum(item[name] for item in items) / len(items), self.signature(name, predictions))
            for name in self.names
            if all(name in item for item in items)
        }


def characters(text: str) -> str:
    """Return the tokens of the character metrics: every code point that is not white space, in order, as one text."""
    return "".join(text.split())


def reference_count(predictions: Sequence[Prediction]) -> int | None:
    """Return how many references each prediction has; None where that varies."""
    counts = {len(prediction.references) for prediction in predictions}
    return counts.pop() if len(counts) == 1 else None
