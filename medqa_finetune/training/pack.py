"""Which pairs of an optimizer step go through the model together."""

from collections.abc import Sequence


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
