"""Benchmarks of lm-evaluation-harness: how much a model still knows of what it was not trained on.

The harness is an extra (`pip install 'medqa_finetune[zero-shot]'`). No example is shown; choices are told apart by
their likelihood. A score says the task's own version: figures of two versions of a task do not compare.
"""

import importlib.metadata
import importlib.util
from typing import Any

from medqa_finetune.compat import lm_eval
from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.record.schema import Score

PACKAGE = "lm_eval"
MANY = 8


def check_installed(settings: EvaluateConfig) -> None:
    """Refuse tasks where there is no harness.

    Raises:
        ConfigError: it is not installed.
    """
    if settings.zero_shot and importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError(Fault(
            "not-installed", "lm-evaluation-harness is not installed", key="evaluate.zero_shot",
            got=list(settings.zero_shot), hint="Run `pip install 'medqa_finetune[zero-shot]'`, or leave it out.",
        ))  # fmt: skip


def check_tasks(settings: EvaluateConfig) -> None:
    """Refuse tasks that cannot be done, before anything is trained.

    Raises:
        ConfigError: the harness is not installed, or it knows no such task.
    """
    if not settings.zero_shot:
        return
    check_installed(settings)
    known = lm_eval.task_names(settings.zero_shot_folder)
    unknown = [name for name in settings.zero_shot if name not in known]
    if unknown:
        stem = unknown[0][:4].lower()
        like = sorted(name for name in known if name.lower().startswith(stem))[:MANY]
        where = f" nor in evaluate.zero_shot_folder={settings.zero_shot_folder}" if settings.zero_shot_folder else ""
        hint = f"Tasks with a similar name: {', '.join(like)}." if like else "It has none with a similar name."
        problem = f"no such task in lm-evaluation-harness{where}"
        raise ConfigError(Fault("unknown-task", problem, key="evaluate.zero_shot", got=unknown, hint=hint))


def zero_shot_scores(model: Any, tokenizer: Any, settings: EvaluateConfig) -> dict[str, Score]:
    """Run tasks, and return one score per task and metric, `<task>/<metric>`, as the harness gives it.

    Args:
        model: As it answers questions: merged, or with its adapter.
        tokenizer: Its own.
        settings: Name the tasks; of each, the first `max_samples` items are asked where that is not null.
    """
    found = lm_eval.evaluate(model, tokenizer, settings.zero_shot, settings.zero_shot_folder, settings.max_samples)
    return {f"{result.task}/{_name(result)}": Score(result.value, _signature(result)) for result in found}


def _name(result: lm_eval.Result) -> str:
    # Some tasks read an answer in several ways.
    return result.metric if result.readings == 1 else f"{result.metric},{result.reading}"


def _signature(result: lm_eval.Result) -> str:
    samples = "?" if result.samples is None else result.samples
    return (
        f"lm-eval {importlib.metadata.version(PACKAGE)}|task:{result.task}|version:{result.version}"
        f"|metric:{result.metric}|filter:{result.reading}|shots:0|n:{samples}"
    )
