"""A corpus as a whole: what is refused, how much may be broken, and its hash."""

from pathlib import Path

import pytest

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.ledger import Ledger
from medqa_finetune.data.sources import corpus_sha256, read_pairs
from medqa_finetune.errors import DataError
from tests.data.files import GOOD_LINE, corpus_of, read, written


def test_missing_empty_and_unknown_files(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner.jsonl").mkdir(parents=True)
    for path, words in (
        (tmp_path / "none.jsonl", "no such file or folder"),
        (tmp_path / "folder", "the folder holds no .jsonl"),
        (written(tmp_path / "e.jsonl", ""), "the file is empty"),
        (written(tmp_path / "w.jsonl", " \n\n"), "no rows in it"),
        (written(tmp_path / "x.json", "[]"), "no rows in it"),
        (written(tmp_path / "m.jsonl", "\ufeff"), "no rows in it"),
        (written(tmp_path / "h.csv", "question,answer\n"), "no rows in it"),
        (written(tmp_path / "t.txt", GOOD_LINE), "corpus.format=jsonl"),
        (written(tmp_path / "o.json", '{\n "question": 1\n}'), "one JSON object over several lines"),
        (written(tmp_path / "d.csv", "question,answer,answer\na,b,c\n"), "column named twice: answer"),
    ):
        with pytest.raises(DataError, match=words):
            read(path)


def test_missing_column_lists_the_ones_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"instruction": "问题", "output": "答案"}\n' * 3)
    with pytest.raises(
        DataError, match=r"no column 'question'; found: instruction, output\.\nGive corpus.question=COLUMN"
    ):
        read(path)
    with pytest.raises(DataError, match=r"no column 'answer'"):
        read(path, question="instruction")
    with pytest.raises(DataError, match=r"no column 'a' or 'b'"):
        read(path, question=["a", "b"], answer="output")


def test_a_big_file_without_the_column_is_refused_early(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"q": "问题", "answer": "答案"}\n' * 5000)
    ledger = Ledger()
    with pytest.raises(DataError, match="no column 'question'"):
        list(read_pairs(corpus_of(path), ledger))
    assert ledger.counts["rows"] == 1000


def test_share_of_broken_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n" * 98 + "oops\n" + '{"question": "问题", "answer": null}\n')
    with pytest.raises(DataError) as error:
        read(path)
    message = str(error.value)
    assert (
        "2 of 100 rows cannot be used (empty_answer 1, broken_json 1)" in message
        or "broken_json 1, empty_answer 1" in message
    )
    assert "a.jsonl:99 broken_json" in message
    assert len(message.splitlines()) == 2
    assert len(read(path, max_reject_share=0.02)[0]) == 98


def test_one_character_answers_are_cleaning_and_not_damage(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n" + '{"question": "问题", "answer": "A"}\n' * 9)
    pairs, ledger = read(path)
    assert len(pairs) == 1
    assert ledger.counts["dropped_one_character_answer"] == 9
    assert ledger.broken == 0


def test_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 3 rows gives a pair"):
        read(written(tmp_path / "a.jsonl", '{"question": "问题", "answer": "A"}\n' * 3))


def test_unknown_source() -> None:
    with pytest.raises(DataError, match="allowed are embedded, file, hub"):
        list(read_pairs(CorpusConfig(name="t", source="cloud"), Ledger()))


def test_embedded_corpus() -> None:
    pytest.importorskip("medqa_finetune.data.embedded")
    corpus = CorpusConfig(name="embedded", source="embedded")
    ledger = Ledger()
    pairs = list(read_pairs(corpus, ledger))
    assert len(pairs) > 100
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
    with pytest.raises(DataError, match=r"(?s)no column 'nope'.*corpus\.question"):
        read(path, question=["title", "nope"])
