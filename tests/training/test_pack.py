import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_finetune.training.batches import group_by_length, pack

Lengths = st.lists(st.integers(1, 100), max_size=60)


@given(lengths=Lengths, budget=st.integers(100, 400))
def test_every_pair_is_in_exactly_one_pack_that_holds_it(lengths: list[int], budget: int) -> None:
    packs = pack(lengths, budget)
    assert sorted(example for examples in packs for example in examples) == list(range(len(lengths)))
    assert all(sum(lengths[example] for example in examples) <= budget for examples in packs)


@given(lengths=Lengths, budget=st.integers(100, 400))
def test_no_two_packs_fit_into_one(lengths: list[int], budget: int) -> None:
    sums = sorted(sum(lengths[example] for example in examples) for examples in pack(lengths, budget))
    assert len(sums) < 2 or sums[0] + sums[1] > budget


def test_the_fullest_pack_with_room_is_taken() -> None:
    # 60 and 50 open packs with 40 and 50 left; 35 goes where less is left over, 45 into the other.
    assert pack([50, 60, 45, 35], 100) == [[1, 3], [0, 2]]


def test_a_pair_longer_than_the_budget_has_a_pack_of_its_own() -> None:
    assert pack([5, 30, 5], 20) == [[1], [0, 2]]


def test_packs_of_real_lengths_are_nearly_full() -> None:
    lengths = np.random.default_rng(0).lognormal(5, 0.7, 128).clip(1, 1024).astype(int).tolist()
    packs = pack(lengths, 4096)
    assert len(packs) == -(-sum(lengths) // 4096)


@given(lengths=Lengths, size=st.integers(1, 20))
def test_groups_hold_pairs_of_like_length(lengths: list[int], size: int) -> None:
    groups = group_by_length(lengths, size)
    assert sorted(example for examples in groups for example in examples) == list(range(len(lengths)))
    assert all(len(examples) == size for examples in groups[:-1])
    for longer, shorter in itertools.pairwise(groups):
        assert min(lengths[example] for example in longer) >= max(lengths[example] for example in shorter)


@pytest.mark.parametrize("function", [pack, group_by_length])
def test_no_pairs_are_no_packs(function: object) -> None:
    assert callable(function)
    assert function([], 5) == []
