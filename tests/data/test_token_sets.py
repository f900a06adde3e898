"""Encoded sets on disk: the same set comes back, a damaged or foreign file does not."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.tables import SCHEMA, ExampleTable, write_examples
from medqa_finetune.data.token_sets import (
    MANIFEST,
    TOKENS,
    EncodedSet,
    encode_once,
    read_encoded,
    write_encoded,
)

ROWS = [("a", "感冒怎么办？", "多喝水。"), ("b", "头痛", "多休息。" * 60), ("c", "发烧怎么办？", "量体温。")]


@pytest.fixture
def tokenizer(micro_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(micro_model, local_files_only=True)


def table(folder: Path, rows: Sequence[tuple[str, str, str]] = ROWS) -> ExampleTable:
    columns = [pa.array(column, pa.large_string()) for column in zip(*rows, strict=True)]
    path = folder / f"{len(list(folder.iterdir()))}.arrow"
    write_examples(path, [pa.record_batch(columns, schema=SCHEMA)])
    return ExampleTable(path)


def content(encoded: EncodedSet) -> tuple[Any, ...]:
    return list(encoded), encoded.lengths.tolist(), encoded.cut, encoded.tokens


def never_again(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(examples: Any) -> Any:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(encoder, "encode", encode)


def folders(cache: Path) -> list[Path]:
    return sorted(cache.glob("encoded-*"))


def test_a_second_run_does_not_tokenize_and_gets_the_same(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    examples, cache = table(tmp_path), tmp_path / "outputs" / "cache"
    first = encode_once(Encoder(tokenizer, 128), examples, cache)
    assert content(first) == content(EncodedSet(Encoder(tokenizer, 128).encode(examples)))
    assert first.cut == 1

    later = Encoder(tokenizer, 128)
    never_again(later, monkeypatch)
    caplog.clear()
    assert content(encode_once(later, examples, cache)) == content(first)
    assert "1 of 3 examples (33.3 %) are longer than train.max_length=128" in caplog.text


def test_other_pairs_lengths_and_templates_are_other_sets(tokenizer: Any, tmp_path: Path) -> None:
    examples = table(tmp_path)
    encode_once(Encoder(tokenizer, 128), examples, tmp_path)
    encode_once(Encoder(tokenizer, 127), examples, tmp_path)
    encode_once(Encoder(tokenizer, 128), examples.prefix(2), tmp_path)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "<|im_start|> ")
    changed = encode_once(Encoder(tokenizer, 128), examples, tmp_path)
    assert len(folders(tmp_path)) == 4
    assert content(changed) == content(EncodedSet(Encoder(tokenizer, 128).encode(examples)))


@pytest.mark.parametrize("name", [TOKENS, MANIFEST])
def test_every_flipped_byte_is_harmless_or_found(tokenizer: Any, tmp_path: Path, name: str) -> None:
    encoder = Encoder(tokenizer, 128)
    examples = table(tmp_path)
    expected = content(encode_once(encoder, examples, tmp_path))
    (folder,) = folders(tmp_path)
    key = json.loads((folder / MANIFEST).read_text())["key"]
    whole = (folder / name).read_bytes()
    found_out = 0
    for place in range(len(whole)):
        (folder / name).write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        found = read_encoded(folder, key)
        assert found is None or content(found) == expected, place
        found_out += found is None
    assert found_out > len(whole) / 2


@pytest.mark.parametrize("damage", [None, b"", b"{", b"[]", b"{}"], ids=["missing", "empty", "torn", "list", "object"])
@pytest.mark.parametrize("name", [TOKENS, MANIFEST])
def test_damaged_set_is_tokenized_again(
    tokenizer: Any, tmp_path: Path, damage: bytes | None, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    examples, encoder = table(tmp_path), Encoder(tokenizer, 128)
    expected = content(encode_once(encoder, examples, tmp_path))
    (folder,) = folders(tmp_path)
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage is not None:
        (folder / name).write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert content(encode_once(encoder, examples, tmp_path)) == expected
    assert str(folder) in caplog.text
    assert (folder / name).read_bytes() == whole


def test_a_set_under_another_sets_name_is_not_taken(tokenizer: Any, tmp_path: Path) -> None:
    examples, encoder = table(tmp_path), Encoder(tokenizer, 128)
    encode_once(encoder, examples.prefix(1), tmp_path)
    (foreign,) = folders(tmp_path)
    encode_once(encoder, examples, tmp_path)
    (own,) = set(folders(tmp_path)) - {foreign}
    shutil.rmtree(own)
    shutil.copytree(foreign, own)
    assert len(encode_once(encoder, examples, tmp_path)) == 3


def test_what_a_killed_writer_left_is_swept_away(tokenizer: Any, tmp_path: Path) -> None:
    examples, encoder = table(tmp_path), Encoder(tokenizer, 128)
    encode_once(encoder, examples, tmp_path)
    (folder,) = folders(tmp_path)
    left = tmp_path / f".writing-{folder.name}-xyz"
    left.mkdir()
    (left / TOKENS).write_bytes(b"half")
    encode_once(encoder, examples, tmp_path)
    assert not left.exists()


def test_encoder_without_fingerprint_is_not_cached(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(tokenizer, 128)
    monkeypatch.setattr(type(encoder), "fingerprint", None)
    assert len(encode_once(encoder, table(tmp_path), tmp_path)) == 3
    assert folders(tmp_path) == []


def test_empty_set_comes_back_empty(tmp_path: Path) -> None:
    write_encoded(tmp_path / "empty", "k", [])
    found = read_encoded(tmp_path / "empty", "k")
    assert found is not None
    assert (len(found), found.tokens, found.cut, list(found)) == (0, 0, 0, [])
