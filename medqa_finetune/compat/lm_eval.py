"""What lm-evaluation-harness knows and says: the names of its tasks, and the form of its results.

`simple_evaluate`, `HFLM` and `TaskManager` are documented; what is in the results, and under which keys, is not.
"""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

STANDARD_ERROR = "_stderr"


@dataclass(frozen=True)
class Result:
    """One figure of one task.

    Attributes:
        task: Its name; also of a group of tasks, where the harness gives the group a figure of its own.
        metric: Such as `acc`.
        reading: How the answers were read before they were scored, the harness's filter; `none` where they were not.
        value: Finite.
        version: Of the task; None where it has none.
        samples: Items that were asked; None where the harness does not say.
        readings: How many filters the metric has a figure of in this task (`strict-match`, `flexible-extract`).
    """

    task: str
    metric: str
    reading: str
    value: float
    version: str | float | None
    samples: int | None
    readings: int


def task_names(folder: str | None) -> frozenset[str]:
    """Return the names of all tasks and groups, those in a folder of the user's own included."""
    return frozenset(_manager(folder).all_tasks)


def evaluate(model: Any, tokenizer: Any, tasks: Sequence[str], folder: str | None, limit: int | None) -> list[Result]:
    """Examine a model without examples, one item at a time, and return what was found, by task and metric.

    Args:
        model: On its device.
        tokenizer: Its own.
        tasks: Names.
        folder: With tasks of the user's own.
        limit: Items of each task at most; None for all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the harness and what it loads; nothing of ours
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, backend="causal")
        found = lm_eval.simple_evaluate(
            wrapped,
            tasks=list(tasks),
            num_fewshot=0,
            limit=limit,
            task_manager=_manager(folder),
            bootstrap_iters=0,
            log_samples=False,
        )
    return list(read_results(found))


def read_results(found: Any) -> Iterator[Result]:
    """Yield the figures in what `simple_evaluate` returns; not standard errors, nor what is no number.

    Relied on: `results` has a dict per task with keys `<metric>,<filter>` and others without a comma, and
    `<metric>_stderr,<filter>`; `versions` and `n-samples` are by task.
    """
    for task, figures in sorted(found["results"].items()):
        readings = Counter(key.partition(",")[0] for key in figures)
        for key, value in sorted(figures.items()):
            metric, _, reading = key.partition(",")
            number = isinstance(value, int | float) and math.isfinite(value)
            if reading and number and not metric.endswith(STANDARD_ERROR):
                samples = found.get("n-samples", {}).get(task, {}).get("effective")
                version = found["versions"].get(task)
                yield Result(task, metric, reading, float(value), version, samples, readings[metric])


def _manager(folder: str | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.tasks import TaskManager

        return TaskManager(include_path=folder)
