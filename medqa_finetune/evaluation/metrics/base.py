"""What a metric is, and how one is found by its name."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

from medqa_finetune.config.evaluation_checks import metric_names
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.evaluation import metrics
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.record.schema import Score

Item = dict[str, float]


class Metric(ABC):
    """A way to score answers.

    What is counted per item is separate from the aggregate, so that a bootstrap or a paired test can aggregate any
    choice of items without counting again.

    Attributes:
        names: Names of the scores that it gives. A column of an item that has such a name is that item's own score;
            other columns, `<score>.<what>`, are counts that only the aggregate needs. A score without counts is the
            mean of the items' own.
    """

    names: tuple[str, ...]

    @abstractmethod
    def signature(self, name: str, answers: Sequence[Prediction]) -> str:
        """Return how the score `name` of these answers is computed; only equal signatures compare."""

    @abstractmethod
    def items(self, answers: Sequence[Prediction]) -> list[Item]:
        """Return one dict of columns per answer, in order."""

    @abstractmethod
    def corpus(self, answers: Sequence[Prediction], items: Sequence[Item]) -> dict[str, Score]:
        """Return the scores of all answers from their items; a score that cannot be had is absent, never 0.

        Args:
            answers: n of them, one at least.
            items: What `items` gave for them, n in the same order.
        """


def find_metric(name: str) -> Metric:
    """Return the metric of a name, i.e. `METRIC` of `evaluation/metrics/<name>.py`.

    Raises:
        ConfigError: there is no such metric; lists those that exist.
    """
    if name not in metric_names():
        allowed = tuple(metric_names())
        raise ConfigError(Fault("not-allowed", "no such metric", key="metrics", got=name, allowed=allowed))
    module = importlib.import_module(f"{metrics.__name__}.{name}")
    metric = getattr(module, "METRIC", None)
    if not isinstance(metric, Metric):
        problem = f"{module.__name__} has no METRIC that is a Metric"
        raise ConfigError(Fault("not-a-metric", problem, key="metrics", got=name))
    return metric


def characters(text: str) -> str:
    """Return the tokens of the character metrics: every code point that is not white space, in order, as one text."""
    return "".join(text.split())


def reference_count(answers: Sequence[Prediction]) -> int | None:
    """Return how many references each answer has; None where that varies."""
    counts = {len(answer.references) for answer in answers}
    return counts.pop() if len(counts) == 1 else None
