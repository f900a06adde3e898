"""Leaves thoughts out of predictions that come from a file, as a run leaves them out of its own."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from medqa_finetune.data.thoughts import CLOSING, OPENING, is_unclosed, split_thought
from medqa_finetune.evaluation.predictions import Prediction

logger = logging.getLogger(__name__)


def without_thoughts(predictions: Sequence[Prediction], name: str) -> list[Prediction]:
    """Return predictions and references without their thoughts, and log how many there were.

    A prediction that has its thought apart already, as a run writes it, stays as it is. An unclosed thought leaves an
    empty prediction; an unclosed one in a reference stays, as in the references of a run.

    Args:
        predictions: As they were read.
        name: Name of their file, for the log.
    """
    raw = [each for each in predictions if each.thought is None and each.thought_unclosed is None]
    split = [_split(each) for each in raw]
    _say(raw, split, name)
    if any(each.thought is not None for each in split):
        # The share of unclosed thoughts is one of all predictions.
        split = [_thinking(each) for each in split]
    left = iter(split)
    return [next(left) if each.thought is None and each.thought_unclosed is None else each for each in predictions]


def _say(raw: Sequence[Prediction], split: Sequence[Prediction], name: str) -> None:
    """Log what was left out, and what may be a thought and is not left out."""
    n, references = f"{len(raw):,}", [text for each in raw for text in each.references]
    thoughts = sum(each.thought is not None for each in split)
    others = sum(split_thought(text)[0] is not None for text in references)
    if thoughts or others:
        said = "%s: thoughts are left out of %s of %s predictions and of %s of %s references; what follows is scored"
        logger.info(said, name, f"{thoughts:,}", n, f"{others:,}", f"{len(references):,}")
    if unclosed := sum(bool(each.thought_unclosed) for each in split):
        said = "%s: %s of %s predictions open a thought and never close it; they count as empty"
        logger.warning(said, name, f"{unclosed:,}", n)
    opened_by_prompt = any(CLOSING in each.prediction and OPENING not in each.prediction for each in raw)
    bare = sum(each.thought is None and bool(each.prediction.strip()) for each in split)
    if opened_by_prompt and bare:
        said = "%s: %s of %s predictions hold no %s, which others end a thought with; they are scored as they are"
        logger.warning(said, name, f"{bare:,}", n, CLOSING)
    if kept := sum(map(is_unclosed, references)):
        said = "%s: %s of %s references open a thought and never close it; they are scored as they are"
        logger.warning(said, name, f"{kept:,}", f"{len(references):,}")


def _split(prediction: Prediction) -> Prediction:
    references = tuple(split_thought(text)[1] for text in prediction.references)
    text = prediction.prediction
    if is_unclosed(text):
        thought = text.strip().removeprefix(OPENING).strip()
        return replace(prediction, references=references, prediction="", thought=thought, thought_unclosed=True)
    kept, answer = split_thought(text)
    is_closed = None if kept is None else False
    return replace(prediction, references=references, prediction=answer, thought=kept, thought_unclosed=is_closed)


def _thinking(prediction: Prediction) -> Prediction:
    """Return a prediction of a model that writes thoughts, as a run has it where there is none."""
    return replace(prediction, thought=prediction.thought or "", thought_unclosed=bool(prediction.thought_unclosed))
