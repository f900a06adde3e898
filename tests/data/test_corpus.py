"""A corpus as a whole: what is refused, how much may be broken, and its hash."""

import os
from pathlib import Path

import pytest

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.corpus import corpus_sha256, read_examples
from medqa_finetune.data.rows import Ledger
from medqa_finetune.errors import DataError
from tests.data.files import GOOD_LINE, corpus_of, read, written
from tests.faulty import only_fault


def test_missing_empty_and_unknown_files(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner.jsonl").mkdir(parents=True)
    for path, code, key in (
        (tmp_path / "none.jsonl", "file-missing", "corpus.path"),
        (tmp_path / "folder", "folder-without-data", "corpus.path"),
        (written(tmp_path / "e.jsonl", ""), "file-empty", "corpus.path"),
        (written(tmp_path / "w.jsonl", " \n\n"), "no-rows", "corpus.path"),
        (written(tmp_path / "x.json", "[]"), "no-rows", "corpus.path"),
        (written(tmp_path / "m.jsonl", "\ufeff"), "no-rows", "corpus.path"),
        (written(tmp_path / "h.csv", "question,answer\n"), "no-rows", "corpus.path"),
        (written(tmp_path / "t.txt", "感冒了怎么办？"), "unknown-format", "corpus.format"),
        (written(tmp_path / "o.json", '{\n "question": 1\n}'), "not-json-lines", None),
        (written(tmp_path / "d.csv", "question,answer,answer\na,b,c\n"), "column-repeated", None),
    ):
        with pytest.raises(DataError) as caught:
            read(path)
        fault = only_fault(caught)
        assert (fault.code, fault.key) == (code, key)
        # Each path is said once: as the value of its key, or as the place.
        assert str(path) in (fault.file, fault.got)


def test_a_path_of_another_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "pipe.jsonl")
    assert (only_fault(caught).code, only_fault(caught).key) == ("not-a-file", "corpus.path")


def test_no_path() -> None:
    with pytest.raises(DataError) as caught:
        list(read_examples(CorpusConfig(name="t", source="file"), Ledger()))
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("missing-key", "corpus.path")
    assert "corpus.path=FILE" in fault.hint


def test_missing_column_lists_the_ones_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"instruction": "问题", "output": "答案"}\n' * 3)
    for changes, key, got in (
        ({}, "question", "question"),
        ({"question": "instruction"}, "answer", "answer"),
        ({"question": ["a", "b"], "answer": "output"}, "question", ["a", "b"]),
    ):
        with pytest.raises(DataError) as caught:
            read(path, **changes)
        fault = only_fault(caught)
        assert (fault.code, fault.key, fault.got) == ("column-missing", f"corpus.{key}", got)
        assert (fault.file, fault.allowed) == (str(path), ("instruction", "output"))
        assert f"corpus.{key}=COLUMN" in fault.hint


def test_a_big_file_without_the_column_is_refused_early(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"q": "问题", "answer": "答案"}\n' * 5000)
    ledger = Ledger()
    with pytest.raises(DataError) as caught:
        list(read_examples(corpus_of(path), ledger))
    assert (only_fault(caught).code, only_fault(caught).key) == ("column-missing", "corpus.question")
    assert ledger.counts["rows"] == 1000


def test_share_of_broken_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n" * 98 + "oops\n" + '{"question": "问题", "answer": null}\n')
    with pytest.raises(DataError) as error:
        read(path)
    fault = only_fault(error)
    assert (fault.code, fault.key, fault.got) == ("too-many-rejects", "corpus.max_reject_share", 0.01)
    assert fault.file == str(path)
    for part in ("2 of 100 rows", "empty_answer 1", "broken_json 1", "a.jsonl:99 broken_json"):
        assert part in fault.problem
    assert "corpus.max_reject_share" in fault.hint
    assert len(read(path, max_reject_share=0.02)[0]) == 98


def test_answers_of_one_character_are_kept_unless_a_setting_forbids(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n" + '{"question": "问题", "answer": "A"}\n' * 9)
    assert len(read(path)[0]) == 10
    with pytest.raises(DataError) as caught:
        read(path, min_answer_characters=2)
    fault = only_fault(caught)
    assert (fault.code, "short_answer 9" in fault.problem) == ("too-many-rejects", True)
    assert "corpus.min_answer_characters" in fault.hint
    assert len(read(path, min_answer_characters=2, max_reject_share=0.9)[0]) == 1


def test_nothing_left(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"question": "问题", "answer": ""}\n' * 3)
    with pytest.raises(DataError) as caught:
        read(path, max_reject_share=1.0)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == ("no-pairs", "corpus.question", str(path))
    assert "corpus.answer" in fault.hint


def test_unknown_source() -> None:
    with pytest.raises(DataError) as caught:
        list(read_examples(CorpusConfig(name="t", source="cloud"), Ledger()))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "corpus.source", "cloud")
    assert fault.allowed == ("embedded", "file", "hub")


def test_embedded_corpus() -> None:
    pytest.importorskip("medqa_finetune.data.embedded")
    corpus = CorpusConfig(name="embedded", source="embedded")
    ledger = Ledger()
    examples = list(read_examples(corpus, ledger))
    assert len(examples) > 100
    assert ledger.broken == 0
    assert corpus_sha256(corpus) == corpus_sha256(corpus)


def test_corpus_hash_covers_bytes_names_and_order(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", GOOD_LINE)
    first = corpus_sha256(corpus_of(path))
    assert first == corpus_sha256(corpus_of(path))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    assert corpus_sha256(corpus_of(written(moved / "a.jsonl", GOOD_LINE))) == first
    assert corpus_sha256(corpus_of(written(moved / "b.jsonl", GOOD_LINE))) != first
    assert corpus_sha256(corpus_of(moved)) != first
    written(path, GOOD_LINE + "\n")
    assert corpus_sha256(corpus_of(path)) != first


def test_one_of_several_question_columns_that_no_row_has_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"title": "标题一", "answer": "回答一"}\n')
    with pytest.raises(DataError) as caught:
        read(path, question=["title", "nope"])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("column-missing", "corpus.question", "nope")
