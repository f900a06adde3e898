"""A corpus in the parts it was published in: every set from its own part, and nothing of a held-out part trained on."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.examples import Example
from medqa_finetune.data.prepare import cache_key, prepare, prepare_splits
from medqa_finetune.data.splits import SplitRules
from medqa_finetune.data.write_jsonl import write_cleaned
from medqa_finetune.errors import DataError
from tests.data.files import corpus_of
from tests.data.test_prepare import config_of
from tests.data.test_splits import QA
from tests.data.test_splits import corpus as made
from tests.faulty import only_fault

RULES = SplitRules(test_size=10, validation_size=10, split_seed=0, near_duplicate_threshold=0.8)
PAIRS = made(100)
TRAIN, VALIDATION, TEST = PAIRS[:60], PAIRS[60:80], PAIRS[80:]


def folder_of(place: Path, **parts: Sequence[QA]) -> CorpusConfig:
    place.mkdir(exist_ok=True)
    for name, pairs in parts.items():
        rows = [{"question": question, "answer": answer} for question, answer in pairs]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (place / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    return corpus_of(place)


def read(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def pairs_of(examples: Sequence[Example]) -> set[QA]:
    return {(example.question, example.answer) for example in examples}


def test_every_set_comes_from_its_own_part(tmp_path: Path) -> None:
    corpus = folder_of(tmp_path / "c", train=TRAIN, dev=VALIDATION, test=TEST)
    splits = prepare_splits(config_of(corpus, train_size=None), tmp_path / "cache")
    assert pairs_of(splits.train) == set(TRAIN)
    assert len(splits.test) == len(splits.validation) == 10
    assert pairs_of(splits.test) < set(TEST)
    assert pairs_of(splits.validation) < set(VALIDATION)
    assert splits.manifest.parts == {"train": ["train.jsonl"], "validation": ["dev.jsonl"], "test": ["test.jsonl"]}
    assert splits.manifest.counts["test_part_questions"] == 20
    assert splits.manifest.counts["train_part_pairs"] == 60
    smaller = prepare_splits(config_of(corpus, train_size=30, test_size=5), tmp_path / "cache")
    assert list(smaller.train) == list(splits.train)[:30]
    assert list(smaller.test) == list(splits.test)[:5]


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", train=TRAIN, test=TEST)
    other = folder_of(tmp_path / "other", train=TRAIN[::-1], test=TEST[::-1])
    found = [prepare(corpus, RULES, tmp_path / "cache") for corpus in (one, other)]
    assert [p.answer for p in found[0].pool] == [p.answer for p in found[1].pool]
    assert [p.answer for p in found[0].test] == [p.answer for p in found[1].test]


@pytest.mark.parametrize("missing", ["test", "validation"])
def test_a_missing_part_is_held_out_from_the_training_part(missing: str, tmp_path: Path) -> None:
    there = {name: part for name, part in (("test", TEST), ("validation", VALIDATION)) if name != missing}
    found = prepare(folder_of(tmp_path / "c", train=TRAIN, **there), RULES, tmp_path / "cache")
    held_out = pairs_of(getattr(found, missing))
    assert len(held_out) == 10
    assert held_out | pairs_of(found.pool) == set(TRAIN)
    assert not held_out & pairs_of(found.pool)
    (name,) = there
    assert pairs_of(getattr(found, name)) < set(there[name])


def test_a_smaller_part_is_taken_whole_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = prepare(folder_of(tmp_path / "c", train=TRAIN, test=TEST[:4]), RULES, tmp_path / "cache")
    assert pairs_of(found.test) == set(TEST[:4])
    for said in ("train: train.jsonl; test: test.jsonl; validation: held out", "data.test_size=10: all are taken"):
        assert said in caplog.text


def near(pair: QA) -> QA:
    return f"{pair[0]}吗", f"另答{pair[1]}"


def test_what_repeats_a_held_out_part_is_not_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Of the whole test part, not only of the ten questions that are asked.
    leaks = [*TEST[:7], *((question, "另一个答案") for question, _ in TEST[7:10]), *map(near, TEST[10:16])]
    leaks += [VALIDATION[0], near(VALIDATION[1])]
    corpus = folder_of(
        tmp_path / "c",
        train=[*TRAIN, *TRAIN[:4], *leaks],
        dev=[*VALIDATION, *TEST[:2], near(TEST[3])],
        test=[*TEST, TEST[0]],
    )
    found = prepare(corpus, RULES, tmp_path / "cache")
    counts = found.notes["counts"]
    assert pairs_of(found.pool) == set(TRAIN)
    assert pairs_of(found.validation) <= set(VALIDATION)
    assert {name: n for name, n in counts.items() if "also_in" in name or "pairs_near" in name} == {
        "training_pairs_also_in_test_part": 10,
        "training_pairs_near_duplicates_of_test": 6,
        "training_pairs_also_in_validation_part": 1,
        "training_pairs_near_duplicates_of_validation": 1,
        "validation_pairs_also_in_test_part": 2,
        "validation_pairs_near_duplicates_of_test": 1,
    }
    assert counts["exact_duplicates"] == 5
    assert counts["training_questions_near_duplicates"] == 7
    assert "training pairs also in test part 10" in caplog.text


def test_a_validation_part_that_is_the_test_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepare(folder_of(tmp_path / "c", train=TRAIN, dev=TEST, test=TEST), RULES, tmp_path / "cache")
    assert (only_fault(caught).code, only_fault(caught).key) == ("part-empty", "corpus.parts")


def test_a_part_without_examples_is_refused(tmp_path: Path) -> None:
    corpus = folder_of(tmp_path / "c", train=TRAIN, test=[("", "没有问题")])
    with pytest.raises(DataError) as caught:
        prepare(corpus_of(tmp_path / "c", max_reject_share=0.5), RULES, tmp_path / "cache")
    assert (only_fault(caught).code, only_fault(caught).file) == ("part-empty", corpus.path)
    assert "test.jsonl" in only_fault(caught).problem


def test_a_training_part_too_small_to_hold_out_from(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepare(folder_of(tmp_path / "c", train=TRAIN[:10], test=TEST), RULES, tmp_path / "cache")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("corpus-too-small", "data.validation_size", 10)


def test_ignored_parts_are_divided_anew_under_the_former_key(tmp_path: Path) -> None:
    corpus = folder_of(tmp_path / "c", train=TRAIN, test=TEST)
    anew = corpus_of(tmp_path / "c", parts="ignore")
    found = prepare(anew, RULES, tmp_path / "cache")
    assert found.notes["key"] == cache_key(corpus, RULES, found.notes["corpus_sha256"])
    assert found.notes["key"] != prepare(corpus, RULES, tmp_path / "cache").notes["key"]
    assert pairs_of(found.test) & set(TRAIN)
    assert prepare_splits(config_of(anew, train_size=10), tmp_path / "cache").manifest.parts == {}


def test_a_greeting_alone_is_never_held_out(tmp_path: Path) -> None:
    def rows(pairs: Sequence[QA]) -> str:
        later = [{"history": [["你好", "请说。"]], "question": asked, "answer": said} for asked, said in pairs]
        return "".join(json.dumps(row) + "\n" for row in [{"question": "你好", "answer": "请说。"}, *later])

    (tmp_path / "c").mkdir()
    for name, pairs in (("train", TRAIN), ("test", TEST)):
        (tmp_path / "c" / f"{name}.jsonl").write_text(rows(pairs), "utf-8")
    found = prepare(corpus_of(tmp_path / "c", history="history"), RULES, tmp_path / "cache")
    assert (len(found.pool), len(found.validation), len(found.test)) == (51, 10, 10)
    assert "你好" not in {example.question for example in (*found.validation, *found.test)}
    assert found.notes["counts"]["test_pairs_without_own_question"] == 1


def test_cleaned_examples_stay_in_their_parts(tmp_path: Path) -> None:
    corpus = folder_of(tmp_path / "c", train=TRAIN, test=TEST)
    cleaned = write_cleaned(corpus, tmp_path / "out")
    assert {path.name for path in cleaned.path.iterdir()} == {"train.jsonl", "test.jsonl"}
    again = prepare(corpus_of(cleaned.path), RULES, tmp_path / "cache")
    first = prepare(corpus, RULES, tmp_path / "cache")
    assert pairs_of(again.test) == pairs_of(first.test)
    assert write_cleaned(corpus, tmp_path / "out") == cleaned


def test_cleaning_says_which_files_it_puts_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_cleaned(folder_of(tmp_path / "c", data=TRAIN, test=TEST), tmp_path / "out")
    assert ["corpus.parts=published" in each.message for each in caplog.records] == [True]


def test_the_case_of_a_published_folder(shared: Path, tmp_path: Path) -> None:
    corpus = corpus_of(shared / "cases" / "data" / "split_folder")
    found: Any = prepare_splits(config_of(corpus, train_size=None, validation_size=5, test_size=1000), tmp_path)
    published = {
        part: {row["question"] for row in map(json.loads, read(Path(str(corpus.path)) / f"{part}.jsonl"))}
        for part in ("train", "test")
    }
    assert {example.question for example in found.test} == published["test"]
    assert {example.question for example in (*found.train, *found.validation)} <= published["train"]
    assert len(found.validation) == 5
