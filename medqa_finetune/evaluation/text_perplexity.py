"""The perplexity of running text: exp(summed negative log-likelihood / number of tokens predicted).

Jelinek et al. 1977; over independent blocks, as in transformers' guide to perplexity. With a stride shorter than the
block (a sliding window), tokens have more context, and the perplexity is lower.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medqa_finetune.errors import DataError, Fault
from medqa_finetune.record.schema import EvaluationRecord, Score

METRIC = "perplexity"
# Columns that the aggregate is computed from.
COUNTS = ("nll", "tokens")


def text_signature(length: int, stride: int | None, separator: str) -> str:
    """Return a signature of how the perplexity is computed; only scores with equal signatures are comparable.

    Args:
        length: Tokens per block.
        stride: Tokens from the start of one block to the start of the next; None for `length`.
        separator: Text between two rows of the corpus.
    """
    stride = length if stride is None else stride
    return f"perplexity|text:blocks|length:{length}|stride:{stride}|joined:{separator!r}|mean:token"


def score_blocks(
    rows: Sequence[dict[str, Any]], signature: str, path: Path
) -> tuple[EvaluationRecord, list[dict[str, Any]]]:
    """Return the perplexity over all blocks, and each block's own with its counts.

    Args:
        rows: Rows of `predictions.jsonl`.
        signature: From `text_signature`.
        path: File of the rows, for error messages.

    Raises:
        DataError: there are no rows, or a row is not that of a block.
    """
    for number, row in enumerate(rows, start=1):
        nll, tokens = row.get("nll"), row.get("tokens")
        whole = type(tokens) is int and tokens > 0
        if not (whole and isinstance(nll, int | float) and math.isfinite(nll) and nll >= 0):
            key, least = ("nll", "a number ≥ 0") if whole else ("tokens", "an integer ≥ 1")
            raise DataError(Fault(
                "out-of-range", f"must be {least} in the line of a block", key=key, got=row.get(key), file=str(path),
                line_number=number,
            ))  # fmt: skip
    if not rows:
        hint = "Write one JSON object per line."
        raise DataError(Fault("no-rows", "there are no blocks in it", file=str(path), hint=hint))
    items = [
        {"id": row["id"], METRIC: _perplexity([row], path), **{f"{METRIC}.{name}": row[name] for name in COUNTS}}
        for row in rows
    ]
    record = EvaluationRecord(n=len(rows), scores={METRIC: Score(_perplexity(rows, path), signature)})
    return record, items


def _perplexity(rows: Sequence[dict[str, Any]], path: Path) -> float:
    mean = sum(row["nll"] for row in rows) / sum(row["tokens"] for row in rows)
    try:
        return math.exp(mean)
    except OverflowError:
        problem = "must be at most 709 nats a token on average, or the perplexity is too large for a number"
        raise DataError(Fault("out-of-range", problem, key="nll", got=mean, file=str(path))) from None
