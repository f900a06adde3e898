"""Pairs end to end in one row, without padding, and the loss on their answers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from medqa_finetune.data.encode import IGNORED, EncodedSet

Batch = dict[str, Any]


class PairDataset(Dataset[dict[str, list[int]]]):
    """Encoded pairs, as torch's loader wants them."""

    def __init__(self, encoded: EncodedSet) -> None:
        self._encoded = encoded

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        """Return `{"input_ids", "labels"}` of one pair."""
        item: dict[str, list[int]] = self._encoded[index]
        return item


def concatenate(items: Sequence[dict[str, list[int]]]) -> Batch:
    """Return encoded pairs as one row, the collator of training and validation.

    `position_ids` start anew with every pair, and `pair_lengths` tells the attention where pairs end
    (`model/attention.py`), so that no pair sees another.

    Returns:
        `input_ids`, `position_ids`, `labels`: int64, of shape (1, tokens of all pairs); `pair_lengths`: list of int.
    """
    return {
        "input_ids": torch.tensor([[token for item in items for token in item["input_ids"]]]),
        "position_ids": torch.tensor([[place for item in items for place in range(len(item["input_ids"]))]]),
        "labels": torch.tensor([[label for item in items for label in item["labels"]]]),
        "pair_lengths": [len(item["input_ids"]) for item in items],
    }


def answer_loss(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed cross-entropy (nats) over answer tokens, and their number.

    Logits are computed only where an answer token is predicted: for a vocabulary of 152k tokens, logits at every
    position would need more memory than the model.

    Args:
        model: A causal language model whose `forward` takes `logits_to_keep`.
        batch: From `concatenate`.
    """
    # The state at position i predicts token i + 1. The first token of a pair is never a target: it is prompt.
    targets = batch["labels"][0, 1:]
    kept = (targets != IGNORED).nonzero().squeeze(1)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    output = model(**inputs, logits_to_keep=kept, use_cache=False)
    loss = torch.nn.functional.cross_entropy(output.logits[0].float(), targets[kept], reduction="sum")
    return loss, torch.as_tensor(kept.numel(), device=loss.device)
