import torch

from medqa_finetune.data.examples import IGNORED
from medqa_finetune.training.batches import Collator, concatenate, pad_right
from medqa_finetune.training.meters import Work

PAD = 9
ITEMS = [
    {"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3]},
    {"input_ids": [4, 5, 6, 7, 8], "labels": [IGNORED, IGNORED, IGNORED, 7, 8]},
]


def test_pairs_are_laid_end_to_end() -> None:
    batch = concatenate(ITEMS)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 4]]
    assert (batch["pair_lengths"], batch["pair_bounds"].tolist()) == ([3, 5], [0, 3, 8])
    assert batch["pair_bounds"].dtype == torch.int32
    # The token at place 1 is predicted at place 0, and so on.
    assert (batch["positions"].tolist(), batch["targets"].tolist()) == ([0, 1, 5, 6], [2, 3, 7, 8])


def test_pairs_are_filled_up_on_the_right() -> None:
    batch = pad_right(ITEMS, PAD)
    assert batch["input_ids"].tolist() == [[1, 2, 3, PAD, PAD], [4, 5, 6, 7, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert (batch["positions"].tolist(), batch["targets"].tolist()) == ([0, 1, 7, 8], [2, 3, 7, 8])


def test_a_step_is_packed_into_its_budget() -> None:
    step = Collator(micro_batch=1, max_length=8, packing=True, pad=PAD)(ITEMS)
    assert [batch["pair_lengths"] for batch in step["batches"]] == [[3, 5]]
    step = Collator(micro_batch=1, max_length=7, packing=True, pad=PAD)(ITEMS)
    assert [batch["pair_lengths"] for batch in step["batches"]] == [[5], [3]]


def test_a_step_without_packing_is_padded_by_like_lengths() -> None:
    step = Collator(micro_batch=1, max_length=8, packing=False, pad=PAD)(ITEMS)
    assert [batch["input_ids"].tolist() for batch in step["batches"]] == [[[4, 5, 6, 7, 8]], [[1, 2, 3]]]


def test_work_is_the_same_however_it_is_laid() -> None:
    works = [Collator(2, 8, packing, PAD)(ITEMS)["work"] for packing in (True, False)]
    assert works == [Work(samples=2, tokens=8, answer_tokens=4, squared_lengths=34)] * 2
