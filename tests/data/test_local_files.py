"""Which files a path means: folders with other things in them, sub-folders, patterns."""

import logging
from pathlib import Path

import pytest

from medqa_finetune.data.corpus import corpus_files
from medqa_finetune.errors import DataError
from tests.data.files import GOOD_LINE, corpus_of, read, written
from tests.faulty import only_fault


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        written(folder / name, GOOD_LINE + "\n")
    return folder


def names_of(path: Path) -> list[str]:
    return [name for _, name in corpus_files(corpus_of(path))]


def test_what_is_no_data_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, "a.jsonl", "b.tsv", "._a.jsonl", ".hidden.json", "README.md", "notes.txt", ".git/c.json")
    written(tmp_path / "dataset_info.json", '{"mine": {"file_name": "a.jsonl"}}')
    with caplog.at_level(logging.INFO):
        assert names_of(tmp_path) == ["a.jsonl", "b.tsv"]
    assert "dataset_info.json" in caplog.text
    assert len(read(tmp_path / "a.jsonl")[0]) == 1


def test_a_data_set_that_was_saved_is_its_shards(tmp_path: Path) -> None:
    filled(tmp_path, "train/data-00000-of-00001.arrow", "train/cache-1f.arrow", "train/state.json", "dataset_dict.json")
    assert names_of(tmp_path) == ["train/data-00000-of-00001.arrow"]


def test_sub_folders_are_read_where_a_folder_has_nothing_else(tmp_path: Path) -> None:
    filled(tmp_path, "part/b.jsonl", "a/x.jsonl", "__MACOSX/a/x.jsonl", "a/._x.jsonl")
    assert names_of(tmp_path) == ["a/x.jsonl", "part/b.jsonl"]
    assert [each.id for each in read(tmp_path)[0]] == ["a/x.jsonl:1", "part/b.jsonl:1"]


def test_sub_folders_beside_files_are_said_to_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, "a.jsonl", "raw/b.jsonl")
    with caplog.at_level(logging.WARNING):
        assert names_of(tmp_path) == ["a.jsonl"]
    assert "raw/b.jsonl" in caplog.text
    assert "corpus.path=" in caplog.text
    assert names_of(tmp_path / "**") == ["a.jsonl", "raw/b.jsonl"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jsonl", ["a-0.jsonl", "a-1.jsonl"]),
        ("a-[0]*", ["a-0.jsonl"]),
        ("*", ["a-0.jsonl", "a-1.jsonl", "b.csv"]),
        ("sub/*", ["c.jsonl"]),
        ("**/*.jsonl", ["a-0.jsonl", "a-1.jsonl", "sub/c.jsonl"]),
        ("**", ["a-0.jsonl", "a-1.jsonl", "b.csv", "sub/c.jsonl"]),
    ],
)
def test_a_pattern_means_the_data_files_that_match(tmp_path: Path, pattern: str, names: list[str]) -> None:
    filled(tmp_path, "a-0.jsonl", "a-1.jsonl", "b.csv", "sub/c.jsonl", "README.md")
    assert [name.removeprefix("sub/") if pattern == "sub/*" else name for name in names_of(tmp_path / pattern)] == names


def test_a_file_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    assert names_of(filled(tmp_path, "a[1].jsonl") / "a[1].jsonl") == ["a[1].jsonl"]


@pytest.mark.parametrize("pattern", ["*.parquet", "*.md", "none/*.jsonl"])
def test_a_pattern_without_data_is_refused(tmp_path: Path, pattern: str) -> None:
    filled(tmp_path, "a.jsonl", "README.md")
    with pytest.raises(DataError) as caught:
        names_of(tmp_path / pattern)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("file-missing", "corpus.path", str(tmp_path / pattern))
