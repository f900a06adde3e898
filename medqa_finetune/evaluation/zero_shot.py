"""Exams of others, by lm-evaluation-harness: how much a model still knows of what it was not trained on.

The harness is an extra (`pip install 'medqa_finetune[zero-shot]'`). No example is shown; choices are told apart by
their likelihood. A score says the task's own version: figures of two versions of a task do not compare.
"""

import importlib.metadata
import importlib.util
import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.errors import ConfigError
from medqa_finetune.record.schema import Score

PACKAGE = "lm_eval"
MANY = 8


def check_installed(settings: EvaluateConfig) -> None:
    """Refuse tasks where there is no harness.

    Raises:
        ConfigError: it is not installed.
    """
    if settings.zero_shot and importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError(
            f"evaluate.zero_shot={_listed(settings.zero_shot)}: wants lm-evaluation-harness, which is not installed; "
            "pip install 'medqa_finetune[zero-shot]', or leave it out."
        )


def check_tasks(settings: EvaluateConfig) -> None:
    """Refuse tasks that cannot be done, before anything is trained.

    Raises:
        ConfigError: the harness is not installed, or it knows no such task.
    """
    if not settings.zero_shot:
        return
    check_installed(settings)
    known = set(_tasks(settings).all_tasks)
    unknown = [name for name in settings.zero_shot if name not in known]
    if unknown:
        stem = unknown[0][:4].lower()
        like = sorted(name for name in known if name.lower().startswith(stem))[:MANY]
        where = f" nor in evaluate.zero_shot_folder={settings.zero_shot_folder}" if settings.zero_shot_folder else ""
        raise ConfigError(
            f"evaluate.zero_shot={_listed(unknown)}: no task of lm-evaluation-harness{where}; "
            f"it has {', '.join(like) or 'none of a like name'}."
        )


def zero_shot_scores(model: Any, tokenizer: Any, settings: EvaluateConfig) -> dict[str, Score]:
    """Examine a model, and return one score per task and metric, `<task>/<metric>`, as the harness gives it.

    Args:
        model: As it answers questions: merged, or with its adapter beside it.
        tokenizer: Its own.
        settings: Name the tasks; of each, the first `max_samples` items are asked where that is not null.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the harness and what it loads; nothing of ours
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        logging.getLogger(PACKAGE).setLevel(logging.ERROR)
        wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, backend="causal")
        found = lm_eval.simple_evaluate(
            wrapped,
            tasks=list(settings.zero_shot),
            num_fewshot=0,
            limit=settings.max_samples,
            task_manager=_tasks(settings),
            bootstrap_iters=0,
            log_samples=False,
        )
    return dict(_scores(found))


def _scores(found: Any) -> Iterator[tuple[str, Score]]:
    version = importlib.metadata.version(PACKAGE)
    for task, results in sorted(found["results"].items()):
        n = found.get("n-samples", {}).get(task, {}).get("effective", "?")
        ways = Counter(key.partition(",")[0] for key in results)
        for key, value in sorted(results.items()):
            metric, _, way = key.partition(",")
            number = isinstance(value, int | float) and math.isfinite(value)
            if way and number and not metric.endswith("_stderr"):
                signature = (
                    f"lm-eval {version}|task:{task}|version:{found['versions'].get(task)}|metric:{metric}|filter:{way}"
                    f"|shots:0|n:{n}"
                )
                # Some tasks read an answer in several ways (`strict-match`, `flexible-extract`).
                name = metric if ways[metric] == 1 else f"{metric},{way}"
                yield f"{task}/{name}", Score(float(value), signature)


def _tasks(settings: EvaluateConfig) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.tasks import TaskManager

        return TaskManager(include_path=settings.zero_shot_folder)


def _listed(names: Sequence[str]) -> str:
    return f"[{','.join(names)}]"
