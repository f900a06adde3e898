"""Blocks of tokens: the whole text, in order, each token once."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medqa_finetune.data import blocks as room
from medqa_finetune.data.blocks import BlockEncoder, Blocks, prepare_blocks
from medqa_finetune.data.examples import IGNORED
from medqa_finetune.data.text import Text, read_text_parts
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.errors import DataError
from tests.config.builders import changed
from tests.data.test_encode import micro_tokenizer
from tests.data.test_text import config_of, text, three_files
from tests.faulty import only_fault

__all__ = ["micro_tokenizer", "text"]


@settings(max_examples=40, deadline=None)
@given(content=st.text(max_size=80), length=st.integers(2, 20))
def test_blocks_are_the_text_in_order(micro_tokenizer: Any, content: str, length: int) -> None:
    found = list(BlockEncoder(micro_tokenizer, length).encode(Text(content)))
    ids = micro_tokenizer(content)["input_ids"]
    kept = [token for block in found for token in block.input_ids]
    # A single token at the end has nothing before it that it could be predicted from.
    assert kept == (ids[:-1] if len(ids) % length == 1 else ids)
    assert all(len(block.input_ids) == length for block in found[:-1])
    for block in found:
        assert block.labels == [IGNORED, *block.input_ids[1:]]


@settings(max_examples=40, deadline=None)
@given(content=st.text(max_size=80), length=st.integers(2, 20), data=st.data())
def test_where_blocks_overlap_every_token_but_the_first_is_predicted_once(
    micro_tokenizer: Any, content: str, length: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, length - 1))
    found = list(BlockEncoder(micro_tokenizer, length, stride).encode(Text(content)))
    ids = micro_tokenizer(content)["input_ids"]
    assert [token for block in found for token in block.labels if token != IGNORED] == ids[1:]
    for number, block in enumerate(found):
        begin = number * stride
        assert block.input_ids == ids[begin : begin + length]
        # All but the first are as long as they can be, and so is what stands before what they predict.
        assert number == 0 or block.answer_start == length - stride
    assert Blocks(EncodedSet(found), stride).tokens == (len(ids) if found else 0)


def test_a_stride_is_for_the_test_blocks_alone(text: Path, micro_tokenizer: Any, tmp_path: Path) -> None:
    config = changed(config_of(text), train__max_length=32)
    usual = prepare(config, micro_tokenizer, tmp_path / "cache")
    sliding = prepare(changed(config, evaluate__stride=8), micro_tokenizer, tmp_path / "cache")
    assert (sliding.manifest.train, sliding.manifest.validation) == (usual.manifest.train, usual.manifest.validation)
    assert sliding.manifest.test != usual.manifest.test
    assert len(sliding.test) > 3 * len(usual.test)
    assert sliding.manifest.counts == usual.manifest.counts
    explicit = prepare(changed(config, evaluate__stride=32), micro_tokenizer, tmp_path / "cache")
    assert explicit.manifest == usual.manifest


def test_every_block_counts_and_is_as_it_was(micro_tokenizer: Any) -> None:
    made = list(BlockEncoder(micro_tokenizer, 7).encode(Text("发烧怎么办？" * 9)))
    blocks = Blocks(EncodedSet(made), 7)
    assert list(blocks) == list(blocks[:]) == made
    assert list(blocks[1:3]) == made[1:3]
    assert blocks.sha256 != Blocks(EncodedSet(made[:-1]), 7).sha256
    other = EncodedSet(BlockEncoder(micro_tokenizer, 8).encode(Text("发烧怎么办？" * 9)))
    assert blocks.sha256 != Blocks(other, 8).sha256


def prepare(config: Any, tokenizer: Any, cache: Path) -> Any:
    return prepare_blocks(config, read_text_parts(config), tokenizer, cache)


def test_sizes_count_blocks_and_are_nested(text: Path, micro_tokenizer: Any, tmp_path: Path) -> None:
    config = changed(config_of(text), train__max_length=32)
    everything = prepare(config, micro_tokenizer, tmp_path / "cache")
    few = prepare(changed(config, data__train_size=5), micro_tokenizer, tmp_path / "cache")
    assert list(few.train) == list(everything.train)[:5]
    assert few.manifest.train.n == 5
    assert (list(few.test), few.manifest.test) == (list(everything.test), everything.manifest.test)
    tokens = sum(len(block.input_ids) for block in everything.train)
    assert everything.manifest.counts["train_tokens"] == tokens
    assert len(list((tmp_path / "cache").glob("encoded-*"))) == 3


def test_the_untuned_base_needs_no_training_blocks(text: Path, micro_tokenizer: Any, tmp_path: Path) -> None:
    base = changed(config_of(text), train__max_length=32, method__trains="nothing")
    found = prepare(base, micro_tokenizer, tmp_path)
    assert (len(found.train), found.manifest.train.n) == (0, 0)
    assert len(found.test) > 0


def test_tokenizing_is_done_once(
    text: Path, micro_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(config_of(text), train__max_length=32)
    first = prepare(config, micro_tokenizer, tmp_path)
    monkeypatch.setattr(room.BlockEncoder, "encode", lambda self, content: pytest.fail("tokenized again"))
    assert list(prepare(config, micro_tokenizer, tmp_path).train) == list(first.train)


def test_more_blocks_than_there_are_is_refused(text: Path, micro_tokenizer: Any, tmp_path: Path) -> None:
    config = changed(config_of(text), train__max_length=32, data__train_size=20_000)
    n = len(prepare(changed(config, data__train_size=None), micro_tokenizer, tmp_path).train)
    with pytest.raises(DataError) as caught:
        prepare(config, micro_tokenizer, tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("corpus-too-small", "data.train_size", 20_000)
    for part in (f"Ask for {n} or less", "data.train_size=", "data=all"):
        assert part in fault.hint


def test_a_part_of_one_token_is_refused(micro_tokenizer: Any, tmp_path: Path) -> None:
    folder = three_files(tmp_path / "wiki")
    (folder / "wiki.valid.raw").write_text("a", "utf-8")
    with pytest.raises(DataError) as caught:
        prepare(config_of(folder), micro_tokenizer, tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("corpus-too-small", "corpus")
    assert "validation" in fault.problem
