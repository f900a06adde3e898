"""The trivial baseline: every question gets the answer of the training question that is most like it. No model."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.process import cdist

from medqa_finetune.data.examples import Example
from medqa_finetune.data.splits import normalised_question
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.evaluation.predictions import Prediction, to_row
from medqa_finetune.evaluation.reuse import reused_rows
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.files import keep_lines

log = logging.getLogger(__name__)

# Questions compared with all training questions at once: a float32 each, 13 MB beside 100,000 of them.
BATCH = 32


def look_up(
    train: Sequence[Example], pairs: Sequence[Example], folder: EvaluationDir, threads: int | None = None
) -> dict[str, Any]:
    """Write the answer to every pair's question to `folder.predictions_path`; return what that cost.

    Likeness is rapidfuzz's `ratio` of the questions, normalised as for finding leaks: 2 · LCS / (length + length),
    i.e. a character ROUGE-L between questions. Of equally similar ones the first counts, which every larger training
    set has too.

    Args:
        train: What is looked through, in order.
        pairs: Whose questions are answered.
        folder: Where the answers go; those of an earlier start are made again, not those of another evaluation.
        threads: At most; None for as many as there are cores.

    Returns:
        The fields of an evaluation record that speak of cost.

    Raises:
        DataError: there is nothing to look through.
    """
    if not len(train):
        raise DataError(
            Fault("no-training-pairs", "there is no training question whose answer could be taken",
                  key="data.train_size", got=0)
        )  # fmt: skip
    known, answers = [], []
    for pair in train:
        known.append(normalised_question(pair.question))
        answers.append(pair.answer)
    reused = {row.get("id") for row in reused_rows(folder)}
    keep_lines(folder.predictions_path, len(reused))
    left = [pair for pair in pairs if pair.id not in reused]
    started = time.perf_counter()
    for begin in range(0, len(left), BATCH):
        batch = left[begin : begin + BATCH]
        asked = [normalised_question(pair.question) for pair in batch]
        likeness = cdist(asked, known, scorer=fuzz.ratio, dtype=np.float32, workers=threads or -1)
        nearest = [answers[int(place)] for place in likeness.argmax(axis=1)]
        folder.append_predictions([to_row(_answer(*each)) for each in zip(batch, nearest, strict=True)])
    seconds = time.perf_counter() - started
    log.info("%d questions looked up among %d in %.1f s", len(left), len(known), seconds)
    return {"seconds": seconds, "samples_per_second": len(left) / seconds} if left else {}


def _answer(pair: Example, found: str) -> Prediction:
    return Prediction(
        id=pair.id,
        question=pair.question,
        references=(pair.answer,),
        prediction=found,
        hit_limit=False,
        timed_out=False,
    )
