"""Negative log-likelihood of blocks of running text under a model, each batch written before the next starts."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.data.examples import Encoded
from medqa_finetune.evaluation.decode import Model
from medqa_finetune.evaluation.generate import Generated, clock, keep_whole_batches
from medqa_finetune.evaluation.reference_likelihood import reference_likelihoods
from medqa_finetune.evaluation.reuse import reused_rows
from medqa_finetune.progress import advance, track
from medqa_finetune.record.evaluation_dir import EvaluationDir

log = logging.getLogger(__name__)


def measure_blocks(
    model: Model, blocks: Sequence[Encoded], settings: EvaluateConfig, folder: EvaluationDir
) -> dict[str, Any]:
    """Append each block's negative log-likelihood (nats) and number of predicted tokens to `folder.predictions_path`.

    Batches measured by an earlier start are kept, as are rows reused from another evaluation.

    Returns:
        The cost fields of an evaluation record, including restarts; samples are blocks.
    """
    model.eval()
    reused = {row.get("id") for row in reused_rows(folder)}
    asked = [number for number in range(len(blocks)) if block_id(number) not in reused]
    batches = list(batches_of(blocks, settings, asked))
    done = keep_whole_batches(folder, [[block_id(number) for number in batch] for batch in batches], len(reused))
    if done:
        log.info("%d of %d batches were measured before", done, len(batches))
    measured = len(reused) + sum(map(len, batches[:done]))
    for batch in track(batches[done:], "measuring", of=len(blocks), done=measured):
        started = clock(model)
        rows = measure_batch(model, blocks, batch, settings)
        seconds = clock(model) - started
        folder.append_predictions(rows)
        measured += len(batch)
        advance(measured)
        tokens = sum(row["tokens"] for row in rows)
        folder.log_answered({"answered": measured, "questions": len(blocks), "seconds": seconds, "tokens": tokens})
    costs = folder.read_answered()
    seconds, tokens = (sum(row[key] for row in costs) for key in ("seconds", "tokens"))
    return Generated(seconds, len(asked), tokens).speed()


def measure_batch(
    model: Model, blocks: Sequence[Encoded], batch: Sequence[int], settings: EvaluateConfig
) -> list[dict[str, Any]]:
    """Return the `predictions.jsonl` rows of a batch of blocks: negative log-likelihood (nats) and predicted tokens."""
    likelihoods = reference_likelihoods(model, [blocks[number] for number in batch], settings.batch_tokens)
    rows = zip(batch, likelihoods, strict=True)
    return [{"id": block_id(number), "nll": nll, "tokens": tokens} for number, (nll, tokens) in rows]


def batches_of(
    blocks: Sequence[Encoded], settings: EvaluateConfig, numbers: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Yield batches of block indices, of all blocks or of `numbers`, within `settings.batch_tokens`; at least one each.

    All blocks but the last have the length of the first.
    """
    numbers = range(len(blocks)) if numbers is None else numbers
    if not numbers:
        return
    size = min(settings.batch_size, max(1, settings.batch_tokens // len(blocks[0].input_ids)))
    for begin in range(0, len(numbers), size):
        yield list(numbers[begin : begin + size])


def block_id(number: int) -> str:
    """Return the id of a block of running text; `number` counts from 0."""
    return f"block-{number}"
