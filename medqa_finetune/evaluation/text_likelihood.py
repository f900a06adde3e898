"""How likely the blocks of a running text are to a model, every batch on disk before the next."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.data.examples import Encoded
from medqa_finetune.evaluation.decode import Model
from medqa_finetune.evaluation.generate import Generated, clock, keep_whole_batches
from medqa_finetune.evaluation.reference_likelihood import reference_likelihoods
from medqa_finetune.evaluation.reuse import reused_rows
from medqa_finetune.record.evaluation_dir import EvaluationDir

log = logging.getLogger(__name__)


def measure_blocks(
    model: Model, blocks: Sequence[Encoded], settings: EvaluateConfig, folder: EvaluationDir
) -> dict[str, Any]:
    """Append to `folder.predictions_path`, for every block, its negative log-likelihood (nats) and tokens predicted.

    Batches that an earlier start measured are kept, and so is what another evaluation has measured.

    Returns:
        The fields of an evaluation record that speak of cost, restarts included; samples are blocks.
    """
    model.eval()
    reused = {row.get("id") for row in reused_rows(folder)}
    asked = [number for number in range(len(blocks)) if block_id(number) not in reused]
    batches = list(batches_of(blocks, settings, asked))
    done = keep_whole_batches(folder, [[block_id(number) for number in batch] for batch in batches], len(reused))
    if done:
        log.info("%d of %d batches were measured before", done, len(batches))
    measured = len(reused) + sum(map(len, batches[:done]))
    for batch in tqdm(batches[done:], desc="measuring", unit="batch", disable=None, leave=False):
        started = clock(model)
        rows = measure_batch(model, blocks, batch, settings)
        seconds = clock(model) - started
        folder.append_predictions(rows)
        measured += len(batch)
        tokens = sum(row["tokens"] for row in rows)
        folder.log_answered({"answered": measured, "questions": len(blocks), "seconds": seconds, "tokens": tokens})
    costs = folder.read_answered()
    seconds, tokens = (sum(row[key] for row in costs) for key in ("seconds", "tokens"))
    return Generated(seconds, len(asked), tokens).speed()


def measure_batch(
    model: Model, blocks: Sequence[Encoded], batch: Sequence[int], settings: EvaluateConfig
) -> list[dict[str, Any]]:
    """Return, for the blocks of a batch, the lines of `predictions.jsonl`: negative log-likelihood (nats), tokens."""
    likelihoods = reference_likelihoods(model, [blocks[number] for number in batch], settings.batch_tokens)
    rows = zip(batch, likelihoods, strict=True)
    return [{"id": block_id(number), "nll": nll, "tokens": tokens} for number, (nll, tokens) in rows]


def batches_of(
    blocks: Sequence[Encoded], settings: EvaluateConfig, numbers: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Yield numbers of blocks, all or those given, as many at once as a batch has room for; one at least.

    All but the last are of one length, the first one's.
    """
    numbers = range(len(blocks)) if numbers is None else numbers
    if not numbers:
        return
    size = min(settings.batch_size, max(1, settings.batch_tokens // len(blocks[0].input_ids)))
    for begin in range(0, len(numbers), size):
        yield list(numbers[begin : begin + size])


def block_id(number: int) -> str:
    """Return how a block of running text is called, by its number from 0."""
    return f"block-{number}"
