"""How likely the blocks of a running text are to a model, every batch on disk before the next."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.data.encoded_set import Encoded
from medqa_finetune.evaluation.decode import Model
from medqa_finetune.evaluation.generate import clock, keep_answered
from medqa_finetune.evaluation.likelihood import reference_likelihoods
from medqa_finetune.record.run_dir import RunDir

log = logging.getLogger(__name__)


def measure_blocks(model: Model, blocks: Sequence[Encoded], settings: EvaluateConfig, run: RunDir) -> dict[str, Any]:
    """Append to `run.predictions_path`, for every block, its negative log-likelihood (nats) and tokens predicted.

    Batches that an earlier start measured are kept.

    Returns:
        The fields of an evaluation record that speak of cost, restarts included; samples are blocks.
    """
    model.eval()
    batches = list(batches_of(blocks, settings))
    done = keep_answered(run, [[_id(number) for number in batch] for batch in batches])
    if done:
        log.info("%d of %d batches were measured before", done, len(batches))
    measured = sum(map(len, batches[:done]))
    for batch in tqdm(batches[done:], desc="measuring", unit="batch", disable=None, leave=False):
        started = clock(model)
        rows = measure_batch(model, blocks, batch, settings)
        seconds = clock(model) - started
        run.append_predictions(rows)
        measured += len(batch)
        tokens = sum(row["tokens"] for row in rows)
        run.log_answered({"answered": measured, "questions": len(blocks), "seconds": seconds, "tokens": tokens})
    rows_of_cost = run.read_answered()
    seconds, tokens = (sum(row[key] for row in rows_of_cost) for key in ("seconds", "tokens"))
    return {"seconds": seconds, "samples_per_second": len(blocks) / seconds, "tokens_per_second": tokens / seconds}


def measure_batch(
    model: Model, blocks: Sequence[Encoded], batch: Sequence[int], settings: EvaluateConfig
) -> list[dict[str, Any]]:
    """Return, for the blocks of a batch, the lines of `predictions.jsonl`: negative log-likelihood (nats), tokens."""
    likelihoods = reference_likelihoods(model, [blocks[number] for number in batch], settings.batch_tokens)
    rows = zip(batch, likelihoods, strict=True)
    return [{"id": _id(number), "nll": nll, "tokens": tokens} for number, (nll, tokens) in rows]


def batches_of(blocks: Sequence[Encoded], settings: EvaluateConfig) -> Iterator[list[int]]:
    """Yield numbers of blocks, as many at once as `settings` have room for in a batch; one at least.

    All but the last are of one length, the first one's.
    """
    size = min(settings.batch_size, max(1, settings.batch_tokens // len(blocks[0].input_ids)))
    for begin in range(0, len(blocks), size):
        yield list(range(begin, min(begin + size, len(blocks))))


def _id(number: int) -> str:
    return f"block-{number}"
