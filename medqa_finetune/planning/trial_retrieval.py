"""A few questions of a cell that looks its answers up, in a process of its own: what all of them will take here.

No torch is loaded.
"""

import dataclasses
import tempfile
import time
from pathlib import Path

import psutil

from medqa_finetune.config.schema import Config
from medqa_finetune.evaluation.without_model import BATCH, predict_without_model
from medqa_finetune.memory import peak_resident_bytes
from medqa_finetune.methods.base import ModelMethod
from medqa_finetune.methods.registry import method_of
from medqa_finetune.objectives import task_of
from medqa_finetune.planning.cost_model import OUTSIDE_SECONDS, Forecast
from medqa_finetune.record.evaluation_dir import EvaluationDir

# Log, record, scores.
SMALL_FILES_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class LookedUp:
    """What to rehearse: the cell's settings, and a folder of prepared data."""

    config: Config
    cache: str


def rehearse(asked: LookedUp) -> Forecast:
    """Look up and score a batch of questions, or all where there are fewer, and reckon what the cell will take.

    Raises:
        MedQAError: the corpus cannot be used.
    """
    began, config = psutil.Process().create_time(), asked.config
    task, method = task_of(config), method_of(config.method)
    if isinstance(method, ModelMethod):
        raise TypeError(f"{config.method.name} loads a model")
    splits = task.prepare(config, Path(), Path(asked.cache))
    questions = splits.test[: config.evaluate.max_samples]
    probed = questions[:BATCH]
    with tempfile.TemporaryDirectory(prefix=".lookup-", dir=asked.cache) as folder:
        run = EvaluationDir(Path(folder))
        looking = predict_without_model(method, splits.train, probed, run, config.threads)["seconds"]
        task.score(probed, config, run)  # dictionaries are loaded but once
        started = time.perf_counter()
        task.score(probed, config, run)
        scoring = time.perf_counter() - started
        written = sum(path.stat().st_size for path in (run.predictions_path, run.item_scores_path))
    share = len(questions) / len(probed)
    return Forecast(
        start=OUTSIDE_SECONDS + time.time() - began - looking - 2 * scoring,
        train=0.0,
        validate=0.0,
        answer=(looking + scoring) * share,
        memory_bytes=peak_resident_bytes(),
        training_bytes=0,
        disk_bytes=round(written * share) + SMALL_FILES_BYTES,
    )
