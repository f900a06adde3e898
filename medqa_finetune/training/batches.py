"""From encoded pairs to padded batches."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from medqa_finetune.data.encode import IGNORED, EncodedSet

PAD_MULTIPLE = 8  # tensor cores want lengths that are multiples of 8


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


class PaddingCollator:
    """Pads encoded pairs on the right to the longest of the batch, rounded up to a multiple of 8."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._pad = int(tokenizer.pad_token_id)

    def __call__(self, items: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask`, `labels`: int64, of shape (pairs, longest)."""
        longest = max(len(item["input_ids"]) for item in items)
        shape = (len(items), -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE)
        batch = {
            "input_ids": torch.full(shape, self._pad),
            "attention_mask": torch.zeros(shape, dtype=torch.int64),
            "labels": torch.full(shape, IGNORED),
        }
        for row, item in enumerate(items):
            length = len(item["input_ids"])
            batch["input_ids"][row, :length] = torch.tensor(item["input_ids"])
            batch["attention_mask"][row, :length] = 1
            batch["labels"][row, :length] = torch.tensor(item["labels"])
        return batch
