"""That a file which is not as it was left is noticed, whatever happened to it."""

import os
from pathlib import Path

import pytest

from medqa_finetune.record.checksums import Damage, damages, stamp_of, stamps_below
from medqa_finetune.record.schema import FileStamp


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights").write_bytes(b"12345678")
    (tmp_path / "record.json").write_text("{}")
    (tmp_path / ".writing-abc").write_text("half")
    (tmp_path / "adapter" / ".writing-def").write_text("half")
    return tmp_path


def test_every_file_is_stamped_but_for_those_left_out_and_unfinished_ones(folder: Path) -> None:
    assert sorted(stamps_below(folder)) == ["adapter/weights", "record.json"]
    assert sorted(stamps_below(folder, leave_out=["record.json"])) == ["adapter/weights"]
    assert sorted(stamps_below(folder, leave_out=["adapter"])) == ["record.json"]


def test_a_stamp_is_size_and_sha256(folder: Path) -> None:
    # printf 12345678 | sha256sum
    digest = "ef797c8118f02dfb649607dd5d3f8c7623048c9c063d532cc95c5ed7a898a64f"
    assert stamp_of(folder / "adapter" / "weights") == FileStamp(8, digest)


def test_damage_of_each_kind_is_named(folder: Path) -> None:
    stamps = stamps_below(folder)
    assert damages(folder, stamps) == []
    weights = folder / "adapter" / "weights"
    weights.write_bytes(b"12345679")
    stamp = stamps["adapter/weights"]
    assert damages(folder, stamps) == [Damage("adapter/weights", stamp, 8)]
    os.truncate(weights, 3)
    assert damages(folder, stamps) == [Damage("adapter/weights", stamp, 3)]
    weights.unlink()
    assert damages(folder, stamps) == [Damage("adapter/weights", stamp, None)]
