"""How likely the reference answers are to a model, several at once; the perplexity follows from it."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from medqa_finetune.data.examples import IGNORED, Encoded
from medqa_finetune.errors import Fault, RunError
from medqa_finetune.evaluation.decode import Model

# Logits held at once. In fp32 they take 64 MiB; a CPU makes them in half the time that four times as many at once take.
LOGITS = 2**24
# But a large vocabulary gets room for a long answer, or for 512 tokens of a block of text and the position before them:
# what is taken in two pieces is read twice.
LEAST_POSITIONS = 513


class _Piece(NamedTuple):
    """Tokens of a pair up to some place, and from where on they are to be predicted; the whole pair, as a rule."""

    pair: int
    ids: list[int]
    begin: int


@torch.inference_mode()
def reference_likelihoods(model: Model, encoded: Sequence[Encoded], batch_tokens: int) -> list[tuple[float, int]]:
    """Return, for each pair, the summed negative log-likelihood (nats) of answer and end token, and their number.

    Args:
        model: In evaluation mode. Its own forward pass is used, since some scale or cap the logits behind the head.
        encoded: The pairs.
        batch_tokens: Tokens in one forward pass at most, padding included; but always one pair.

    Raises:
        RunError: a likelihood is no number.
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
    """Yield a pair in as many pieces as it takes to predict `size` tokens at most with each."""
    for begin in range(item.answer_start, len(item.input_ids), size):
        yield _Piece(number, item.input_ids[: begin + size], begin)


def _groups(pieces: Sequence[_Piece], batch_tokens: int, positions: int) -> Iterator[list[_Piece]]:
    """Yield pieces of like length, as many as fit in the bounds on tokens and on positions with logits."""
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
    """Return how many of the last positions hold all that predict; that of the last token predicts nothing."""
    return len(group[0].ids) - min(piece.begin for piece in group) + 1


def _likelihoods(model: Model, group: Sequence[_Piece]) -> list[float]:
    """Return what the tokens of each piece add to its pair's negative log-likelihood; the longest piece is first."""
    longest, kept = len(group[0].ids), _kept(group)
    # Padded on the right: no token looks at what is behind it, so neither mask nor position ids are needed.
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
