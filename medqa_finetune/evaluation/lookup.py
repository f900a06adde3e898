"""The trivial baseline: every question gets the answer of the training question that is most like it. No model."""

import logging
import time
from collections.abc import Sequence

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.process import cdist

from medqa_finetune.data.pairs import Pair
from medqa_finetune.data.splits import normalised_question
from medqa_finetune.errors import DataError
from medqa_finetune.evaluation.answers import Answer, to_row
from medqa_finetune.record.files import keep_lines
from medqa_finetune.record.run_dir import RunDir

log = logging.getLogger(__name__)

# Questions compared with all training questions at once: a float32 each, 13 MB beside 100,000 of them.
BATCH = 32


def look_up_answers(train: Sequence[Pair], pairs: Sequence[Pair], run: RunDir, threads: int | None = None) -> float:
    """Write the answer to every pair's question to `run.predictions_path`; return the seconds it took.

    Likeness is rapidfuzz's `ratio` of the questions, normalised as for finding leaks: 2 · LCS / (length + length),
    i.e. a character ROUGE-L between questions. Of equally similar ones the first counts, which every larger training
    set has too.

    Args:
        train: What is looked through, in order.
        pairs: Whose questions are answered.
        run: Where the answers go; those of an earlier start are made again.
        threads: At most; None for as many as there are cores.

    Raises:
        DataError: there is nothing to look through.
    """
    if not len(train):
        raise DataError("data.train_size=0: the answers of training questions are wanted, and there is none.")
    known, answers = [], []
    for pair in train:
        known.append(normalised_question(pair.question))
        answers.append(pair.answer)
    keep_lines(run.predictions_path, 0)
    started = time.perf_counter()
    for begin in range(0, len(pairs), BATCH):
        batch = pairs[begin : begin + BATCH]
        asked = [normalised_question(pair.question) for pair in batch]
        likeness = cdist(asked, known, scorer=fuzz.ratio, dtype=np.float32, workers=threads or -1)
        nearest = [answers[int(place)] for place in likeness.argmax(axis=1)]
        run.append_predictions([to_row(_answer(*each)) for each in zip(batch, nearest, strict=True)])
    seconds = time.perf_counter() - started
    log.info("%d questions looked up among %d in %.1f s", len(pairs), len(known), seconds)
    return seconds


def _answer(pair: Pair, found: str) -> Answer:
    return Answer(
        id=pair.id,
        question=pair.question,
        references=(pair.answer,),
        prediction=found,
        hit_limit=False,
        timed_out=False,
    )
