"""Evaluates a loaded model on a caller's own questions."""

import dataclasses
from collections.abc import Sequence

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import Example
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.evaluation.batch_size import settle_batches
from medqa_finetune.evaluation.decode import Model
from medqa_finetune.evaluation.generate import generate_predictions
from medqa_finetune.evaluation.predictions import Prediction, read_predictions
from medqa_finetune.evaluation.score import score_predictions
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.schema import EvaluationRecord


def evaluate_model(
    model: Model, encoder: Encoder, pairs: Sequence[Example], settings: EvaluateConfig, folder: EvaluationDir
) -> tuple[EvaluationRecord, list[Prediction]]:
    """Generate a prediction for every example into `folder.predictions_path`, and score the predictions.

    Returns:
        The scores, and the predictions in the order of the examples.

    Raises:
        ConfigError: a backend other than transformers, which would modify the caller's model.
    """
    if settings.backend != "transformers":
        raise ConfigError(
            Fault("not-allowed", "answers for runs alone", key="backend", got=settings.backend,
                  allowed=("transformers",))
        )  # fmt: skip
    settings = settle_batches(settings, model, None)
    generated = generate_predictions(model, encoder, pairs, settings, folder)
    found = {answer.id: answer for answer in read_predictions(folder.predictions_path)}
    answers = [found[pair.id] for pair in pairs]
    scored, _ = score_predictions(answers, settings.metrics)
    return dataclasses.replace(scored, **generated.speed()), answers
