"""Negative log-likelihood of reference answers under a model, in batches; the perplexity is computed from it."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from medqa_finetune.data.examples import IGNORED, Encoded
from medqa_finetune.errors import Fault, RunError
from medqa_finetune.evaluation.decode import Model

# Logits held at once: 64 MiB in fp32. On a CPU, four times as many take twice as long per logit.
LOGITS = 2**24
# Minimum positions with logits, even with a large vocabulary: a long reference, or 512 tokens of a text block and the
# position before them. An example in two pieces needs two forward passes.
LEAST_POSITIONS = 513


class _Piece(NamedTuple):
    """The first tokens of an example, usually all, and the index of the first one to be predicted."""

    pair: int
    ids: list[int]
    begin: int


@torch.inference_mode()
def reference_likelihoods(model: Model, encoded: Sequence[Encoded], batch_tokens: int) -> list[tuple[float, int]]:
    """Return, per example, the summed negative log-likelihood in nats of reference and end token, and their number.

    Args:
        model: In evaluation mode. Its own forward pass is used, since some models scale or cap the logits of their
            head.
        encoded: The examples.
        batch_tokens: Maximum tokens per forward pass, including padding; a longer example gets a pass of its own.

    Raises:
        RunError: a likelihood is not finite.
    """
    positions = max(LEAST_POSITIONS, LOGITS // int(model.config.get_text_config().vocab_size))
    pieces = [piece for number, item in enumerate(encoded) for piece in _pieces(number, item, positions - 1)]
    sums = [0.0] * len(encoded)
    for group in _groups(pieces, batch_tokens, positions):
        for piece, nll in zip(group, _likelihoods(model, group), strict=True):
            sums[piece.pair] += nll
    wrong = next((total for total in sums if not math.isfinite(total)), None)
    if wrong is not None:
        raise RunError(Fault(
            "not-finite",
            "on a reference answer or a text it is no finite number, because of the model's weights or its precision",
            key="loss", got=wrong,
            hint="Give precision=bf16 or fp32, or train again with a lower train.learning_rate.",
        ))  # fmt: skip
    return [(total, len(item.input_ids) - item.answer_start) for total, item in zip(sums, encoded, strict=True)]


def _pieces(number: int, item: Encoded, size: int) -> Iterator[_Piece]:
    """Yield an example in pieces, each predicting at most `size` tokens."""
    for begin in range(item.answer_start, len(item.input_ids), size):
        yield _Piece(number, item.input_ids[: begin + size], begin)


def _groups(pieces: Sequence[_Piece], batch_tokens: int, positions: int) -> Iterator[list[_Piece]]:
    """Yield groups of pieces of similar length within the limits on tokens and on positions with logits."""
    group: list[_Piece] = []
    for piece in sorted(pieces, key=lambda piece: (-len(piece.ids), -piece.begin)):
        longer = [*group, piece]
        tokens, logits = len(longer) * len(longer[0].ids), len(longer) * _kept(longer)
        if group and (tokens > batch_tokens or logits > positions):
            yield group
            longer = [piece]
        group = longer
    if group:
        yield group


def _kept(group: Sequence[_Piece]) -> int:
    """Return the number of last positions whose logits are needed; the last token itself predicts nothing."""
    return len(group[0].ids) - min(piece.begin for piece in group) + 1


def _likelihoods(model: Model, group: Sequence[_Piece]) -> list[float]:
    """Return each piece's share of its example's negative log-likelihood; the longest piece comes first."""
    longest, kept = len(group[0].ids), _kept(group)
    # Padded on the right: attention is causal, so neither mask nor position ids are needed.
    ids = [piece.ids + piece.ids[-1:] * (longest - len(piece.ids)) for piece in group]
    wanted = [[IGNORED] * piece.begin + piece.ids[piece.begin :] for piece in group]
    wanted = [row + [IGNORED] * (longest - len(row)) for row in wanted]
    inputs, targets = (torch.tensor(rows, device=model.device) for rows in (ids, wanted))
    logits: Any = model(input_ids=inputs, use_cache=False, logits_to_keep=kept).logits[:, -kept:-1]
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets[:, 1 - kept :].flatten(), reduction="none", ignore_index=IGNORED
    )
    sums: list[float] = losses.view(len(group), -1).double().sum(1).tolist()
    return sums
