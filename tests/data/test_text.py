"""A text corpus in its three parts: its own, or divided by row."""

import random
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.groups import load_group
from medqa_finetune.config.schema import Config, CorpusConfig, DataConfig
from medqa_finetune.data import hub
from medqa_finetune.data.corpus import corpus_files, corpus_sha256, read_examples
from medqa_finetune.data.parts import division_of
from medqa_finetune.data.rows import Ledger
from medqa_finetune.data.text import TextParts, read_test_text, read_text_parts
from medqa_finetune.errors import DataError
from tests.config.builders import VALID, changed
from tests.data.files import written
from tests.faulty import only_fault

PARAGRAPHS = [f"Paragraph {number} of the text.\nIts second line." for number in range(40)]


def config_of(path: Path | None, name: str = "text", **data: Any) -> Config:
    corpus = load_group("corpus", name, CorpusConfig, [] if path is None else [f"path={path}"])
    sizes = {"test_size": 5, "validation_size": 5} | data
    return changed(VALID, corpus=corpus, data=DataConfig(name="all", train_size=None, **sizes))


def parts_of(path: Path, **data: Any) -> TextParts:
    return read_text_parts(config_of(path, **data))


def rows(parts: TextParts) -> list[list[str]]:
    return [part.content.split("\n\n") for part in (parts.train, parts.validation, parts.test)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return written(tmp_path / "book.txt", "\n\n".join(PARAGRAPHS) + "\n")


def test_a_text_is_divided_by_its_paragraphs(text: Path) -> None:
    train, validation, test = rows(parts_of(text))
    assert (len(train), len(validation), len(test)) == (30, 5, 5)
    assert sorted(train + validation + test) == sorted(PARAGRAPHS)
    assert train == [row for row in PARAGRAPHS if row in train]


def test_held_out_parts_do_not_depend_on_the_order_and_do_on_the_seed(text: Path, tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(PARAGRAPHS, len(PARAGRAPHS))  # noqa: S311
    other = written(tmp_path / "other.txt", "\n\n".join(shuffled))
    assert [sorted(part) for part in rows(parts_of(text))] == [sorted(part) for part in rows(parts_of(other))]
    assert parts_of(text).test != parts_of(text, split_seed=1).test


def test_equal_rows_are_in_one_part(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "\n\n".join(PARAGRAPHS * 3))
    parts = [set(part) for part in rows(parts_of(path))]
    assert sum(map(len, parts)) == len(PARAGRAPHS)


def three_files(folder: Path, train: str = "Train .\n") -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in (("train", train), ("valid", "Valid .\n"), ("test", "Test , \n\n one . \n")):
        written(folder / f"wiki.{name}.raw", content)
    return folder


def test_a_text_beside_the_corpus_is_its_test_part(tmp_path: Path) -> None:
    corpus = config_of(three_files(tmp_path / "wiki")).corpus
    assert read_test_text(corpus).content == parts_of(tmp_path / "wiki").test.content


def test_a_text_beside_the_corpus_is_all_of_one_that_has_no_parts(text: Path, tmp_path: Path) -> None:
    assert read_test_text(config_of(text).corpus).content == "\n\n".join(PARAGRAPHS)
    one = written(tmp_path / "train.txt", "One part.")
    assert read_test_text(config_of(one).corpus).content == "One part."


def test_a_text_beside_the_corpus_without_a_test_part_is_refused(tmp_path: Path) -> None:
    folder = three_files(tmp_path / "wiki")
    (folder / "wiki.test.raw").unlink()
    with pytest.raises(DataError) as caught:
        read_test_text(config_of(folder).corpus)
    check_part(caught, "part-missing", folder, "wiki.train.raw, wiki.valid.raw")
    (folder / "wiki.valid.raw").unlink()
    with pytest.raises(DataError) as caught:
        read_test_text(config_of(folder).corpus)
    check_part(caught, "part-missing", folder, "wiki.train.raw")
    written(folder / "wiki.test.raw", " \n\n \n")
    with pytest.raises(DataError) as caught:
        read_test_text(config_of(folder, "wikitext2").corpus)
    check_part(caught, "part-empty", folder, "test")


def check_part(caught: "pytest.ExceptionInfo[DataError]", code: str, folder: Path, part: str) -> None:
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == (code, "corpus.path", str(folder))
    assert part in fault.problem


def test_a_folder_with_the_three_parts_keeps_them(tmp_path: Path) -> None:
    parts = parts_of(three_files(tmp_path / "wiki"))
    assert rows(parts) == [["Train ."], ["Valid ."], ["Test , ", " one . "]]
    assert parts.counts["rows"] == 4


def with_parts(path: Path, parts: str) -> Config:
    config = config_of(path)
    return changed(config, corpus__parts=parts)


def test_parts_of_a_text_are_kept_ignored_or_asked_for(tmp_path: Path, text: Path) -> None:
    folder = three_files(tmp_path / "wiki", "\n\n".join(PARAGRAPHS))
    kept = read_text_parts(with_parts(folder, "published"))
    assert kept.files == {"train": ["wiki.train.raw"], "validation": ["wiki.valid.raw"], "test": ["wiki.test.raw"]}
    anew = read_text_parts(with_parts(folder, "ignore"))
    assert (anew.files, len(rows(anew)[2])) == ({}, 5)
    assert [division_of(with_parts(folder, parts).corpus) for parts in ("auto", "published", "ignore")] == [
        None, None, "ignored",
    ]  # fmt: skip
    with pytest.raises(DataError) as caught:
        read_text_parts(with_parts(text, "published"))
    assert (only_fault(caught).code, only_fault(caught).key) == ("part-missing", "corpus.parts")


def test_wikitext2_in_files_of_the_users_own_is_not_fetched_and_joined_as_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "fetch", lambda corpus, folder: pytest.fail("asked the hub"))
    parts = read_text_parts(config_of(three_files(tmp_path / "wiki"), "wikitext2"))
    # transformers' guide joins the rows of the data set with two line feeds; rows end in one, blank ones are empty.
    assert parts.test.content == "\n\n".join(["Test , \n", "", " one . \n"])


def test_wikitext2_without_files_asks_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(hub, "fetch", lambda corpus, folder: asked.append(folder))
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for path in (None, Path("empty")):
        corpus_files(config_of(path, "wikitext2").corpus)
    assert asked == [Path("data/wikitext2"), Path("empty")]


def test_text_holds_no_pairs(text: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(read_examples(config_of(text).corpus, Ledger()))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got, fault.allowed) == ("wrong-task", "corpus.task", "text", ("qa",))


def test_the_hash_of_a_corpus_is_over_all_its_files(tmp_path: Path) -> None:
    before = corpus_sha256(config_of(three_files(tmp_path / "wiki")).corpus)
    assert before == corpus_sha256(config_of(three_files(tmp_path / "wiki")).corpus)
    assert before != corpus_sha256(config_of(three_files(tmp_path / "wiki", "Other .\n")).corpus)


def test_parts_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    folder = three_files(tmp_path / "wiki")
    (folder / "wiki.train.raw").unlink()
    with pytest.raises(DataError) as caught:
        parts_of(folder)
    check_part(caught, "part-missing", folder, "wiki.test.raw (test), wiki.valid.raw")
    written(folder / "notes.txt", "Notes .")
    with pytest.raises(DataError) as caught:
        parts_of(folder)
    check_part(caught, "part-missing", folder, "notes.txt (no part)")


def test_several_files_without_parts_are_divided_together(tmp_path: Path) -> None:
    for number in range(2):
        written(tmp_path / f"{number}.txt", "\n\n".join(PARAGRAPHS[20 * number : 20 * number + 20]))
    assert sorted(chain.from_iterable(rows(parts_of(tmp_path)))) == sorted(PARAGRAPHS)


@pytest.mark.parametrize(
    ("content", "rows"), [("One paragraph.", "1 different row,"), ("\n\n".join(PARAGRAPHS[:10]), "10 different rows,")]
)
def test_too_little_text_is_refused(tmp_path: Path, content: str, rows: str) -> None:
    path = written(tmp_path / "a.txt", content)
    with pytest.raises(DataError) as caught:
        parts_of(path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("corpus-too-small", "data.test_size", 5)
    assert fault.file == str(path)
    assert "data.validation_size=5" in fault.problem
    assert rows in fault.problem
    for way_out in ("data.test_size=", "data.validation_size=", "corpus.by_line=true"):
        assert way_out in fault.hint


def test_text_without_rows_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "\n \n\n")
    with pytest.raises(DataError) as caught:
        parts_of(path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == ("no-rows", "corpus.path", str(path))


def test_an_empty_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        parts_of(three_files(tmp_path / "wiki", " \n\n "))
    check_part(caught, "part-empty", tmp_path / "wiki", "train")


def test_many_broken_rows_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"text": "好"}\n{"text": 1}\n')
    with pytest.raises(DataError) as caught:
        parts_of(path)
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("too-many-rejects", "corpus.max_reject_share")
    assert "text_not_text 1" in fault.problem


def test_the_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"question": "头痛？", "answer": "休息。"}\n' * 3)
    with pytest.raises(DataError) as caught:
        parts_of(path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("column-missing", "corpus.text", "text")
    assert fault.allowed == ("question", "answer")
    assert "corpus.text=COLUMN" in fault.hint


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        parts_of(tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("folder-without-data", "corpus.path", str(tmp_path))
    assert ".txt, .raw, .tokens, .jsonl" in fault.problem


def test_sizes_that_are_scaled_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(f"paragraph {number}" for number in range(40)), encoding="utf-8")
    read_text_parts(config_of(path))
    assert caplog.messages == []
    read_text_parts(config_of(path, test_size=50, validation_size=100, scale=0.1))
    (said,) = caplog.messages
    assert said == (
        "data.scale=0.1 takes of this text all blocks for training, and where it has no parts of its own 5 rows for "
        "the test, 10 for validation; data.scale=1 takes the sizes as they are"
    )
