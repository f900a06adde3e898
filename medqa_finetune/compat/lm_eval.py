"""lm-evaluation-harness: the names of its tasks, and the format of its results.

`simple_evaluate`, `HFLM` and `TaskManager` are documented; the keys and values of the results are not.
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
        task: Name of the task, or of a group for which the harness has a figure.
        metric: Name of the metric, such as `acc`.
        reading: The harness's filter, which extracts answers before they are scored; `none` without one.
        value: A finite number.
        version: Version of the task; None where it has none.
        samples: Number of items; None where the harness does not give it.
        readings: Number of filters with a figure of this metric in this task (`strict-match`, `flexible-extract`).
    """

    task: str
    metric: str
    reading: str
    value: float
    version: str | float | None
    samples: int | None
    readings: int


def task_names(folder: str | None) -> frozenset[str]:
    """Return the names of all tasks and groups, including those in the user's folder."""
    return frozenset(_manager(folder).all_tasks)


def evaluate(model: Any, tokenizer: Any, tasks: Sequence[str], folder: str | None, limit: int | None) -> list[Result]:
    """Evaluate a model zero-shot, one item at a time; return the figures by task and metric.

    Args:
        model: A model on its device.
        tokenizer: Tokenizer of the model.
        tasks: Names of tasks or groups.
        folder: Folder with the user's own tasks; None for none.
        limit: Most items per task; None for all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the harness and its imports, none of ours
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
    """Yield the figures in the result of `simple_evaluate`, without standard errors and values that are not numbers.

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
