"""Encoded sets on disk: the same set comes back, a damaged or foreign file does not."""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from medqa_finetune.data.tables import SCHEMA, ExampleTable, write_examples
from medqa_finetune.data.token_sets import Encoded, EncodedSet, encode_once, read_encoded
from medqa_finetune.data.tokenize import Encoder

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
    return list(encoded), [encoded.length(place) for place in range(len(encoded))], encoded.cut, encoded.tokens


def never_again(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(pairs: Any) -> Any:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(encoder, "encode", encode)


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.npz"))


def test_a_second_run_does_not_tokenize_and_gets_the_same(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pairs, cache = table(tmp_path), tmp_path / "outputs" / "cache"
    first = encode_once(Encoder(tokenizer, 128), pairs, cache)
    assert content(first) == content(EncodedSet(Encoder(tokenizer, 128).encode(pairs)))
    assert first.cut == 1

    later = Encoder(tokenizer, 128)
    never_again(later, monkeypatch)
    caplog.clear()
    assert content(encode_once(later, pairs, cache)) == content(first)
    assert "1 of 3 pairs are longer than train.max_length=128" in caplog.text


def test_other_pairs_lengths_and_templates_are_other_sets(tokenizer: Any, tmp_path: Path) -> None:
    pairs = table(tmp_path)
    encode_once(Encoder(tokenizer, 128), pairs, tmp_path)
    encode_once(Encoder(tokenizer, 127), pairs, tmp_path)
    encode_once(Encoder(tokenizer, 128), pairs.prefix(2), tmp_path)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "<|im_start|> ")
    changed = encode_once(Encoder(tokenizer, 128), pairs, tmp_path)
    assert len(files(tmp_path)) == 4
    assert content(changed) == content(EncodedSet(Encoder(tokenizer, 128).encode(pairs)))


def test_every_flipped_byte_is_harmless_or_found(tokenizer: Any, tmp_path: Path) -> None:
    encoder = Encoder(tokenizer, 128)
    expected = content(encode_once(encoder, table(tmp_path), tmp_path))
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    with np.load(path) as arrays:
        key = str(arrays["key"])
    found_out = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        found = read_encoded(path, key)
        assert found is None or content(found) == expected, place
        found_out += found is None
    assert found_out > len(whole) / 2


def one_array() -> bytes:
    written = io.BytesIO()
    np.save(written, np.zeros(3))
    return written.getvalue()


@pytest.mark.parametrize(
    "damage", [b"", b"PK", b"not a set at all", one_array()], ids=["empty", "torn", "foreign", "array"]
)
def test_a_file_that_is_no_set_is_replaced(
    tokenizer: Any, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    pairs, encoder = table(tmp_path), Encoder(tokenizer, 128)
    expected = content(encode_once(encoder, pairs, tmp_path))
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert content(encode_once(encoder, pairs, tmp_path)) == expected
    assert "is damaged" in caplog.text
    assert path.read_bytes() == whole


def test_a_set_under_another_sets_name_is_not_taken(tokenizer: Any, tmp_path: Path) -> None:
    pairs, encoder = table(tmp_path), Encoder(tokenizer, 128)
    encode_once(encoder, pairs.prefix(1), tmp_path)
    (foreign,) = files(tmp_path)
    encode_once(encoder, pairs, tmp_path)
    (own,) = set(files(tmp_path)) - {foreign}
    own.write_bytes(foreign.read_bytes())
    assert len(encode_once(encoder, pairs, tmp_path)) == 3


def test_what_a_killed_writer_left_is_swept_away(tokenizer: Any, tmp_path: Path) -> None:
    pairs, encoder = table(tmp_path), Encoder(tokenizer, 128)
    encode_once(encoder, pairs, tmp_path)
    (path,) = files(tmp_path)
    left = tmp_path / f".writing-{path.name}-xyz"
    left.write_bytes(b"half")
    encode_once(encoder, pairs, tmp_path)
    assert not left.exists()


def test_a_tokenizer_that_cannot_be_written_down_encodes_anew(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(tokenizer, 128)
    monkeypatch.setattr(type(encoder), "fingerprint", None)
    assert len(encode_once(encoder, table(tmp_path), tmp_path)) == 3
    assert files(tmp_path) == []


def test_an_empty_set_comes_back_empty(tmp_path: Path) -> None:
    np.savez(tmp_path / "empty.npz", key=np.asarray("k"), **EncodedSet([]).arrays())  # type: ignore[arg-type]
    found = read_encoded(tmp_path / "empty.npz", "k")
    assert found is not None
    assert (len(found), found.tokens, found.cut) == (0, 0, 0)


def test_arrays_make_up_the_whole_set() -> None:
    encoded = EncodedSet([Encoded([1, 2, 3], 1, cut=True), Encoded([4, 5], 1, cut=False)])
    assert content(EncodedSet.of(encoded.arrays())) == content(encoded)
