"""From the pairs of an optimizer step to what goes through the model: packs without padding, or padded groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from medqa_finetune.data.examples import IGNORED
from medqa_finetune.data.token_sets import Item
from medqa_finetune.training.meters import Work

Batch = dict[str, Any]


@dataclass(frozen=True)
class Collator:
    """Turns the pairs of an optimizer step into the batches that go through the model one after another.

    Attributes:
        micro_batch: Pairs of `max_length` that one batch may hold.
        max_length: Tokens of the longest pair.
        packing: Lay pairs end to end, as many as the tokens of a batch allow; otherwise pad `micro_batch` of them.
        pad: Token that fills up a padded batch.
    """

    micro_batch: int
    max_length: int
    packing: bool
    pad: int

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        """Return `batches`, see `lay_end_to_end` and `fill_up`, and the `work` in them."""
        lengths = [len(item["input_ids"]) for item in items]
        if self.packing:
            together = pack(lengths, self.micro_batch * self.max_length)
            batches = [lay_end_to_end([items[pair] for pair in pairs]) for pairs in together]
        else:
            together = group_by_length(lengths, self.micro_batch)
            batches = [fill_up([items[pair] for pair in pairs], self.pad) for pairs in together]
        return {"batches": batches, "work": work_of(items)}


def work_of(items: Sequence[Item]) -> Work:
    """Count what is in the pairs of an optimizer step."""
    lengths = [len(item["input_ids"]) for item in items]
    return Work(
        samples=len(items),
        tokens=sum(lengths),
        answer_tokens=sum(label != IGNORED for item in items for label in item["labels"][1:]),
        squared_lengths=sum(length * length for length in lengths),
    )


def lay_end_to_end(items: Sequence[Item]) -> Batch:
    """Return encoded pairs as one row, without padding.

    `position_ids` start anew with every pair, and the attention is told where pairs end (`model/attention.py`), so that
    no pair sees another.

    Returns:
        `input_ids`, `position_ids`: int64, of shape (1, tokens of all pairs); `pair_lengths`: list of int;
        `pair_bounds`: int32, where pairs begin and the last one ends, of shape (pairs + 1,); `positions`, `targets`:
        see `_answers`.
    """
    lengths = [len(item["input_ids"]) for item in items]
    return {
        "input_ids": torch.tensor([[token for item in items for token in item["input_ids"]]]),
        "position_ids": torch.tensor([[place for length in lengths for place in range(length)]]),
        "pair_lengths": lengths,
        "pair_bounds": torch.tensor([0, *accumulate(lengths)], dtype=torch.int32),
        **_answers([label for item in items for label in item["labels"]]),
    }


def fill_up(items: Sequence[Item], pad: int) -> Batch:
    """Return encoded pairs as rows of one length, padded on the right.

    Returns:
        `input_ids`, `attention_mask`: int64, of shape (pairs, tokens of the longest); `positions`, `targets`: see
        `_answers`.
    """
    longest = max(len(item["input_ids"]) for item in items)
    gaps = [longest - len(item["input_ids"]) for item in items]
    filled = [item["labels"] + [IGNORED] * gap for item, gap in zip(items, gaps, strict=True)]
    return {
        "input_ids": torch.tensor([item["input_ids"] + [pad] * gap for item, gap in zip(items, gaps, strict=True)]),
        "attention_mask": torch.tensor([[1] * (longest - gap) + [0] * gap for gap in gaps]),
        **_answers([label for labels in filled for label in labels]),
    }


def _answers(labels: Sequence[int]) -> dict[str, torch.Tensor]:
    """Return where answer tokens are predicted, in all rows laid end to end, and which: int64, of one shape.

    The state at position i predicts token i + 1. The first token of a pair is never a target: it is prompt.
    """
    places = [place for place, label in enumerate(labels) if label != IGNORED]
    return {
        "positions": torch.tensor([place - 1 for place in places]),
        "targets": torch.tensor([labels[place] for place in places]),
    }


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Fill packs by best fit: the longest pair first, each into the fullest pack that still has room for it.

    Best-fit decreasing needs at most 11/9 of the fewest packs possible, and one more (Johnson 1973). A pair is never
    split; pairs of one length keep their order, so that the same lengths always give the same packs.

    Args:
        lengths: Tokens of each pair.
        budget: Tokens that a pack may hold; a pair that is longer gets a pack of its own.

    Returns:
        The packs as indices of pairs, ascending in each; every pair is in exactly one.
    """
    packs: list[list[int]] = []
    room: list[int] = []
    for pair in _longest_first(lengths):
        fitting = [number for number, left in enumerate(room) if left >= lengths[pair]]
        if fitting:
            best = min(fitting, key=lambda number: room[number])
            packs[best].append(pair)
            room[best] -= lengths[pair]
        else:
            packs.append([pair])
            room.append(budget - lengths[pair])
    return [sorted(pairs) for pairs in packs]


def group_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Group pairs of like length, so that little padding is needed: `size` to a group, the longest first.

    Returns:
        The groups as indices of pairs; every pair is in exactly one.
    """
    order = _longest_first(lengths)
    return [sorted(order[begin : begin + size]) for begin in range(0, len(order), size)]


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda pair: (-lengths[pair], pair))
