"""Which files of a corpus are which of its published parts, and what is done where they are not all there."""

import logging
from pathlib import Path

import pytest

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.parts import division_of, part_of, published_parts, say_unkept
from medqa_finetune.errors import DataError
from tests.data.files import GOOD_LINE, corpus_of
from tests.faulty import only_fault


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(GOOD_LINE + "\n", "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train.jsonl", "train"), ("train_datasets.jsonl", "train"), ("trainData.json", "train"),
        ("data/train-00000-of-00002.parquet", "train"), ("train_0001_of_0001.json", "train"), ("TRAIN.CSV", "train"),
        ("dev.jsonl", "validation"), ("CMB-val/merge.json", "validation"), ("validate_data.json", "validation"),
        ("test/a.jsonl", "test"), ("zh/test/0.jsonl.gz", "test"), ("testA.csv", "test"), ("测试集.xlsx.csv", "test"),
        ("训练数据.json", "train"), ("验证集.json", "validation"),
        # A folder that is a part as a whole comes before a word in the file's name, and that before one of a folder.
        ("train/blood_test.jsonl", "train"), ("lab-tests-test/train.jsonl", "train"),
        ("my-train/b.dev.jsonl", "validation"),
        ("pretest.jsonl", None), ("latest/all.jsonl", None), ("contest.csv", None), ("train_test_split.json", None),
        ("of.jsonl", None), ("第3章.json", None),
    ],
)  # fmt: skip
def test_the_part_that_a_name_indicates(name: str, part: str | None) -> None:
    assert part_of(name) == part


def test_parts_are_kept_where_training_and_held_out_files_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "test.jsonl", "train-1.jsonl", "train-0.jsonl", "dev.jsonl")
    kept = {"train": ["train-0.jsonl", "train-1.jsonl"], "validation": ["dev.jsonl"], "test": ["test.jsonl"]}
    for parts in ("auto", "published"):
        corpus = corpus_of(folder, parts=parts)
        assert published_parts(corpus) == kept
        assert division_of(corpus) == "published"
    assert published_parts(corpus_of(folder, parts="ignore")) == {}
    assert division_of(corpus_of(folder, parts="ignore")) is None


def test_the_embedded_corpus_has_parts_where_they_are_asked_for() -> None:
    parts = {name: CorpusConfig("embedded", "embedded", parts=name) for name in ("auto", "ignore", "published")}
    assert published_parts(parts["published"]) == {part: [part] for part in ("train", "validation", "test")}
    assert [division_of(parts[name]) for name in parts] == [None, None, "published"]


@pytest.mark.parametrize(
    ("names", "level", "said"),
    [
        (["train-0.jsonl", "train-1.jsonl"], "INFO", "validation or test"),
        (["test.jsonl", "test-2.jsonl"], "WARNING", "Name the training files train."),
        (["all.jsonl", "all_test.jsonl"], "WARNING", "corpus.parts=published"),
        (["a.jsonl", "b.jsonl"], None, ""),
        (["train.jsonl"], None, ""),
        (["test.jsonl"], "WARNING", "test.jsonl (test)"),
    ],
)
def test_a_partial_set_is_divided_anew_and_said(
    names: list[str], level: str | None, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = corpus_of(folder_of(tmp_path, *names))
    assert published_parts(corpus) == {}
    with caplog.at_level(logging.INFO):
        say_unkept(corpus)
    assert [record.levelname for record in caplog.records] == ([level] if level else [])
    assert said in caplog.text


def test_what_is_not_named_is_trained_on_if_asked_for(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "CMtMedQA.jsonl", "CMtMedQA_test.jsonl")
    kept = published_parts(corpus_of(folder, parts="published"))
    assert kept == {"train": ["CMtMedQA.jsonl"], "test": ["CMtMedQA_test.jsonl"]}


@pytest.mark.parametrize("parts", ["auto", "published"])
def test_a_file_of_unclear_part_among_parts_is_refused(parts: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "train.jsonl", "test.jsonl", "more.jsonl")
    with pytest.raises(DataError) as caught:
        published_parts(corpus_of(folder, parts=parts))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == ("part-unclear", "corpus.path", str(folder))
    assert "more.jsonl (no part)" in fault.problem
    assert published_parts(corpus_of(folder, parts="ignore")) == {}


@pytest.mark.parametrize("names", [["train-0.jsonl", "train-1.jsonl"], ["test.jsonl", "dev.jsonl"], ["train.jsonl"]])
def test_published_parts_that_are_not_there_are_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        published_parts(corpus_of(folder_of(tmp_path, *names), parts="published"))
    assert (only_fault(caught).code, only_fault(caught).key) == ("part-missing", "corpus.parts")


def test_the_embedded_corpus_has_no_parts() -> None:
    assert published_parts(CorpusConfig(name="embedded", source="embedded")) == {}
