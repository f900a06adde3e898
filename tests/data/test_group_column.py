"""`corpus.group`: a column of the corpus that scores are given by as well."""

import json
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.checks import corpus_faults
from medqa_finetune.config.identity import Fingerprints, settings_of, training_identity
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.corpus import read_examples
from medqa_finetune.data.prepare import examples_key, prepare
from medqa_finetune.data.rows import Ledger
from medqa_finetune.data.splits import SplitRules
from medqa_finetune.errors import DataError
from tests.config.builders import VALID, changed

HERE: dict[str, Any] = {"name": "mine", "source": "file", "format": "jsonl"}


def corpus(tmp_path: Path, rows: list[dict[str, Any]], **values: Any) -> CorpusConfig:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return CorpusConfig(**HERE, path=str(path), **values)


def rows(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"question": f"第{n}个问题{n * n}", "answer": f"答案{n}", "department": "内科" if n % 2 else " "}
        for n in range(count)
    ]


def test_each_example_has_its_group_and_empty_ones_are_counted(tmp_path: Path) -> None:
    ledger = Ledger()
    found = list(read_examples(corpus(tmp_path, rows(4), group="department"), ledger))
    assert [each.group for each in found] == [None, "内科", None, "内科"]
    assert (ledger.counts["pairs_with_group"], ledger.counts["pairs_without_group"]) == (2, 2)


def test_a_column_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        list(read_examples(corpus(tmp_path, rows(4), group="dept"), Ledger()))
    (fault,) = refused.value.faults
    assert (fault.code, fault.key, fault.got) == ("column-missing", "corpus.group", "dept")
    assert "department" in fault.allowed


def test_prepared_test_questions_keep_their_group(tmp_path: Path) -> None:
    found = prepare(corpus(tmp_path, rows(), group="department"), SplitRules(10, 5, 0, 0.8), tmp_path / "cache")
    assert {each.group for each in found.test} == {None, "内科"}
    assert found.notes["counts"]["pairs_without_group"] == 20


def test_a_pair_in_two_groups_is_a_duplicate(tmp_path: Path) -> None:
    twice = [*rows(), {**rows()[0], "department": "外科"}]
    counts = [
        prepare(corpus(tmp_path, twice, group=group), SplitRules(10, 5, 0, 0.8), tmp_path / "cache").notes["counts"]
        for group in (None, "department")
    ]
    assert counts[0]["exact_duplicates"] == counts[1]["exact_duplicates"] == 1


def test_corpora_without_a_group_keep_their_keys(tmp_path: Path) -> None:
    plain = corpus(tmp_path, rows(2))
    assert examples_key(plain, "0") != examples_key(corpus(tmp_path, rows(2), group="department"), "0")
    settings = settings_of(VALID, Fingerprints("c", "m"))
    before = {**settings, "corpus": {key: value for key, value in settings["corpus"].items() if key != "group"}}
    assert training_identity(settings) == training_identity(before)
    grouped = settings_of(changed(VALID, corpus__group="department"), Fingerprints("c", "m"))
    assert training_identity(grouped) != training_identity(settings)


@pytest.mark.parametrize(("values", "code"), [({"task": "text"}, "conflict"), ({"group": ""}, "wrong-type")])
def test_a_group_that_cannot_be_is_refused(values: dict[str, str], code: str) -> None:
    settings: dict[str, Any] = {**HERE, "path": "x", "group": "department", **values}
    given = CorpusConfig(**settings)
    assert [(fault.code, fault.key) for fault in corpus_faults(given)] == [(code, "corpus.group")]
