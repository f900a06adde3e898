"""Zero-shot benchmarks of lm-evaluation-harness, which show how much general knowledge a fine-tuned model keeps.

The harness is an extra (`pip install 'medqa_finetune[zero-shot]'`). Prompts contain no examples; multiple-choice tasks
compare likelihoods. A score names its task's version, since versions of a task are not comparable.
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
    """Check that lm-evaluation-harness is installed if tasks are configured.

    Raises:
        ConfigError: it is not.
    """
    if settings.zero_shot and importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError(Fault(
            "not-installed", "lm-evaluation-harness is not installed", key="evaluate.zero_shot",
            got=list(settings.zero_shot), hint="Run `pip install 'medqa_finetune[zero-shot]'`, or leave it out.",
        ))  # fmt: skip


def check_tasks(settings: EvaluateConfig) -> None:
    """Check the configured tasks before training.

    Raises:
        ConfigError: the harness is not installed, or does not know a task.
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
    """Run the tasks and return one score per task and metric, keyed `<task>/<metric>`, as the harness computes it.

    Args:
        model: The model as it generates predictions: merged, or with its adapter.
        tokenizer: The model's tokenizer.
        settings: Names the tasks; `max_samples` limits each to its first items unless null.
    """
    found = lm_eval.evaluate(model, tokenizer, settings.zero_shot, settings.zero_shot_folder, settings.max_samples)
    return {f"{result.task}/{_name(result)}": Score(result.value, _signature(result)) for result in found}


def _name(result: lm_eval.Result) -> str:
    # Some tasks extract the prediction in several ways (the harness's filters).
    return result.metric if result.readings == 1 else f"{result.metric},{result.reading}"


def _signature(result: lm_eval.Result) -> str:
    samples = "?" if result.samples is None else result.samples
    return (
        f"lm-eval {importlib.metadata.version(PACKAGE)}|task:{result.task}|version:{result.version}"
        f"|metric:{result.metric}|filter:{result.reading}|shots:0|n:{samples}"
    )
