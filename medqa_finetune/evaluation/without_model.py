"""Predictions of methods without a model, such as retrieval; does not load torch."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from medqa_finetune.data.examples import Example, group_of
from medqa_finetune.data.splits import normalised_question
from medqa_finetune.data.thoughts import split_thought
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.evaluation.predictions import Prediction, to_row
from medqa_finetune.evaluation.reuse import reused_rows
from medqa_finetune.methods.base import MethodWithoutModel
from medqa_finetune.progress import advance, track
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.files import keep_lines

log = logging.getLogger(__name__)

# Questions predicted and written at once: their float32 similarities to 100,000 training questions take 13 MB.
BATCH = 32


def predict_without_model(
    method: MethodWithoutModel,
    train: Sequence[Example],
    questions: Sequence[Example],
    folder: EvaluationDir,
    threads: int | None = None,
) -> dict[str, Any]:
    """Write a prediction for every question to `folder.predictions_path`, and return the cost.

    Args:
        method: The method.
        train: The training examples, in order.
        questions: The questions with their references.
        folder: Folder of the evaluation. Predictions of an earlier start are replaced; reused ones are kept.
        threads: Maximum CPU threads; None for the number of cores.

    Returns:
        The cost fields of an evaluation record.

    Raises:
        DataError: there are no training examples.
    """
    if not len(train):
        raise DataError(
            Fault("no-training-pairs", "there is no training question whose answer could be taken",
                  key="data.train_size", got=0)
        )  # fmt: skip
    # Rows of a large training set are read from disk, so each is read only once.
    predict = method.predictor([(normalised_question(each.question), each.answer) for each in train], threads)
    reused = {row.get("id") for row in reused_rows(folder)}
    keep_lines(folder.predictions_path, len(reused))
    left = [each for each in questions if each.id not in reused]
    started, answered = time.perf_counter(), len(questions) - len(left)
    batches = [left[first : first + BATCH] for first in range(0, len(left), BATCH)]
    for batch in track(batches, "answering", of=len(questions), done=answered):
        predictions = predict([normalised_question(each.question) for each in batch])
        folder.append_predictions(
            [to_row(_prediction(each, said)) | group_of(each) for each, said in zip(batch, predictions, strict=True)]
        )
        answered += len(batch)
        advance(answered)
    seconds = time.perf_counter() - started
    log.info("%d questions predicted from %d training examples in %.1f s", len(left), len(train), seconds)
    return {"seconds": seconds, "samples_per_second": len(left) / seconds} if left else {}


def _prediction(question: Example, predicted: str) -> Prediction:
    return Prediction(
        id=question.id,
        question=question.question,
        references=(split_thought(question.answer)[1],),
        prediction=split_thought(predicted)[1],
        hit_limit=False,
        timed_out=False,
    )
