"""Divides the examples of an optimizer step into batches that fit in memory: packed, or padded by similar length.

Where several processes train together, each gets its share of every step first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NotRequired, TypedDict

import torch

from medqa_finetune.data.examples import IGNORED
from medqa_finetune.data.token_sets import Item
from medqa_finetune.training.meters import Work


class Batch(TypedDict):
    """Input of one forward pass; see `concatenate` and `pad_right` for shapes."""

    input_ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    position_ids: NotRequired[torch.Tensor]
    attention_mask: NotRequired[torch.Tensor]
    pair_lengths: NotRequired[list[int]]
    pair_bounds: NotRequired[torch.Tensor]


class Step(TypedDict):
    """The batches of an optimizer step that are this process's, and the work of the whole step."""

    batches: list[Batch]
    work: Work


@dataclass(frozen=True)
class Collator:
    """Divides the examples of an optimizer step into batches that go through the model one after another.

    Attributes:
        micro_batch: Maximum examples of `max_length` tokens per batch.
        max_length: Maximum tokens of an example.
        packing: Whether to concatenate examples, as many as `micro_batch * max_length` tokens allow; otherwise
            `micro_batch` of them are padded.
        pad: Id of the padding token.
        rank: Number of this process among those that train together.
        ranks: Number of all.
    """

    micro_batch: int
    max_length: int
    packing: bool
    pad: int
    rank: int = 0
    ranks: int = 1

    def __call__(self, items: Sequence[Item]) -> Step:
        """Collate the examples of one optimizer step; see `concatenate` and `pad_right` for the batches.

        All processes get equal numbers of batches; one with fewer gets an example without answer tokens in their place.
        """
        shares = [[items[example] for example in examples] for examples in self._shares(items)]
        of_all = [self._together(share) for share in shares]
        share, together = shares[self.rank], of_all[self.rank]
        batches = [self._batch([share[example] for example in examples]) for examples in together]
        missing = max(map(len, of_all)) - len(batches)
        batches += [self._batch([_without_answer(items)]) for _ in range(missing)]
        return {"batches": batches, "work": work_of(items)}

    def _shares(self, items: Sequence[Item]) -> Sequence[Sequence[int]]:
        if self.ranks == 1:
            return [range(len(items))]
        return share_out([len(item["input_ids"]) for item in items], self.ranks)

    def _together(self, items: Sequence[Item]) -> list[list[int]]:
        lengths = [len(item["input_ids"]) for item in items]
        if self.packing:
            return pack(lengths, self.micro_batch * self.max_length)
        return group_by_length(lengths, self.micro_batch)

    def _batch(self, items: Sequence[Item]) -> Batch:
        return concatenate(items) if self.packing else pad_right(items, self.pad)


def _without_answer(items: Sequence[Item]) -> Item:
    """Return the shortest example without answer tokens: it costs little, and its loss is 0."""
    ids = min((item["input_ids"] for item in items), key=len)
    return {"input_ids": ids, "labels": [IGNORED] * len(ids)}


def work_of(items: Sequence[Item]) -> Work:
    """Count samples, tokens and answer tokens of an optimizer step."""
    lengths = [len(item["input_ids"]) for item in items]
    return Work(
        samples=len(items),
        tokens=sum(lengths),
        answer_tokens=sum(label != IGNORED for item in items for label in item["labels"][1:]),
        squared_lengths=sum(length * length for length in lengths),
    )


def concatenate(items: Sequence[Item]) -> Batch:
    """Concatenate encoded examples into one row, without padding.

    `position_ids` restart with every example, and attention is limited to its bounds (`model/attention.py`), so that no
    example attends to another.

    Returns:
        `input_ids`, `position_ids`: int64, of shape (1, tokens of all examples); `pair_lengths`: list of int;
        `pair_bounds`: int32, of shape (examples + 1,), where each example begins and the last one ends; `positions`,
        `targets`: see `_answers`.
    """
    lengths = [len(item["input_ids"]) for item in items]
    positions, targets = _answers([label for item in items for label in item["labels"]])
    return {
        "input_ids": torch.tensor([[token for item in items for token in item["input_ids"]]]),
        "position_ids": torch.tensor([[place for length in lengths for place in range(length)]]),
        "pair_lengths": lengths,
        "pair_bounds": torch.tensor([0, *accumulate(lengths)], dtype=torch.int32),
        "positions": positions,
        "targets": targets,
    }


def pad_right(items: Sequence[Item], pad: int) -> Batch:
    """Pad encoded examples on the right to the length of the longest.

    Returns:
        `input_ids`, `attention_mask`: int64, of shape (examples, tokens of the longest); `positions`, `targets`: see
        `_answers`.
    """
    longest = max(len(item["input_ids"]) for item in items)
    gaps = [longest - len(item["input_ids"]) for item in items]
    filled = [item["labels"] + [IGNORED] * gap for item, gap in zip(items, gaps, strict=True)]
    positions, targets = _answers([label for labels in filled for label in labels])
    return {
        "input_ids": torch.tensor([item["input_ids"] + [pad] * gap for item, gap in zip(items, gaps, strict=True)]),
        "attention_mask": torch.tensor([[1] * (longest - gap) + [0] * gap for gap in gaps]),
        "positions": positions,
        "targets": targets,
    }


def _answers(labels: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where answer tokens are predicted, in the flattened rows, and their ids: int64, of shape (answer tokens,).

    The state at position i predicts token i + 1. The first token of an example is prompt, and never a target.
    """
    places = [place for place, label in enumerate(labels) if label != IGNORED]
    targets = [labels[place] for place in places]
    return torch.tensor([place - 1 for place in places], dtype=torch.int64), torch.tensor(targets, dtype=torch.int64)


def share_out(lengths: Sequence[int], shares: int) -> list[list[int]]:
    """Divide examples into shares of about equal tokens, whose numbers of examples differ by 1 at most.

    The longest first, each to the share with the fewest tokens that is not full (Graham 1969).

    Args:
        lengths: Tokens of each example.
        shares: Number of shares, ≥ 1.

    Returns:
        The shares as indices of examples, ascending; every example is in exactly one. Shares may be empty.
    """
    found: list[list[int]] = [[] for _ in range(shares)]
    tokens = [0] * shares
    for place, example in enumerate(_longest_first(lengths)):
        # In every round, each share gets one.
        most = place // shares + 1
        least = min((share for share in range(shares) if len(found[share]) < most), key=lambda share: tokens[share])
        found[least].append(example)
        tokens[least] += lengths[example]
    return [sorted(examples) for examples in found]


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Fill packs by best fit: the longest example first, each into the fullest pack that still has room for it.

    Best-fit decreasing needs at most 11/9 of the fewest packs possible, and one more (Johnson 1973). Examples are never
    split; those of one length keep their order, so that equal lengths give equal packs.

    Args:
        lengths: Tokens of each example.
        budget: Maximum tokens of a pack; a longer example gets a pack of its own.

    Returns:
        The packs as indices of examples, ascending; every example is in exactly one.
    """
    packs: list[list[int]] = []
    room: list[int] = []
    for example in _longest_first(lengths):
        fitting = [number for number, left in enumerate(room) if left >= lengths[example]]
        if fitting:
            best = min(fitting, key=lambda number: room[number])
            packs[best].append(example)
            room[best] -= lengths[example]
        else:
            packs.append([example])
            room.append(budget - lengths[example])
    return [sorted(examples) for examples in packs]


def group_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Group examples of similar length, so that little padding is needed: `size` to a group, the longest first.

    Returns:
        The groups as indices of examples; every example is in exactly one.
    """
    order = _longest_first(lengths)
    return [sorted(order[begin : begin + size]) for begin in range(0, len(order), size)]


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda example: (-lengths[example], example))
