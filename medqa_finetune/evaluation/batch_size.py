"""Resolves `evaluate.batch_tokens=auto`: chosen once for the free memory, recorded, and reused by every restart."""

import dataclasses
import logging

import torch

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.evaluation.decode import Model
from medqa_finetune.model.auto_batch import USUAL_BATCH_TOKENS, batch_tokens_in
from medqa_finetune.record.evaluation_dir import EvaluationDir

log = logging.getLogger(__name__)


def settle_batches(
    settings: EvaluateConfig, model: Model, size: ModelSize | None, folder: EvaluationDir | None = None
) -> EvaluateConfig:
    """Return the settings with `batch_tokens=auto` resolved.

    A restart divides the questions as before, so that the batches on disk are its own.

    Args:
        settings: Of the evaluation.
        model: The model that answers, on its device.
        size: Its size; None if not known.
        folder: Folder of the evaluation, whose record keeps the choice; None for an evaluation without a record.
    """
    if settings.batch_tokens != AUTO:
        return settings
    own = None if folder is None else folder.read()
    tokens = None if own is None else own.batch_tokens
    if tokens is None:
        tokens = _chosen(settings, model, size)
        log.info("auto: evaluate.batch_tokens=%d", tokens)
        if folder is not None and own is not None:
            folder.update(batch_tokens=tokens)
    return dataclasses.replace(settings, batch_tokens=tokens)


def _chosen(settings: EvaluateConfig, model: Model, size: ModelSize | None) -> int:
    if size is None or model.device.type != "cuda":
        return USUAL_BATCH_TOKENS
    # What training has left in the allocator's hands is free as well.
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    return batch_tokens_in(free, size, torch.finfo(model.dtype).bits // 8, settings.batch_size)
