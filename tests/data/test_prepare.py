"""Preparation: nested sizes, one cache for all of them, and a cache that is never believed blindly."""

import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.schema import Config, CorpusConfig, DataConfig, MethodConfig, ModelConfig
from medqa_finetune.data import prepare as preparation
from medqa_finetune.data.corpus import corpus_sha256
from medqa_finetune.data.examples import Example
from medqa_finetune.data.prepare import cache_fault, cache_key, prepare, prepare_splits, take_splits
from medqa_finetune.data.splits import SplitRules
from medqa_finetune.errors import DataError
from tests.faulty import only_fault

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
RULES = SplitRules(test_size=10, validation_size=10, split_seed=0, near_duplicate_threshold=0.8)


def write_corpus(path: Path, n: int = 300, seed: int = 0) -> CorpusConfig:
    rng = random.Random(seed)  # noqa: S311
    han = [chr(code) for code in range(0x4E00, 0x5E00)]
    rows = [{"question": "".join(rng.choices(han, k=15)) + "？", "answer": f"答案{i}"} for i in range(n)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return CorpusConfig(name="t", source="file", path=str(path))


def config_of(corpus: CorpusConfig, **data: Any) -> Config:
    return Config(
        method=MethodConfig(name="lora"),
        data=replace(DataConfig(name="t", train_size=100, test_size=10, validation_size=10), **data),
        corpus=corpus,
        model=ModelConfig(name="m", path="m"),
    )


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_sizes_are_nested_and_held_out_sets_the_same(tmp_path: Path) -> None:
    corpus, cache = write_corpus(tmp_path / "a.jsonl"), tmp_path / "cache"
    small, large, everything = (prepare_splits(config_of(corpus, train_size=size), cache) for size in (50, 100, None))
    assert (len(small.train), len(large.train), len(everything.train)) == (50, 100, 280)
    assert list(everything.train)[:100] == list(large.train)
    assert list(large.train)[:50] == list(small.train)
    assert list(small.test) == list(large.test) == list(everything.test)
    assert list(small.validation) == list(large.validation)
    assert small.manifest.test == everything.manifest.test
    assert small.manifest.train.sha256 != large.manifest.train.sha256
    assert len(list(cache.glob("corpus-*"))) == 1
    questions = {example.question for example in (*everything.train, *everything.validation, *everything.test)}
    assert len(questions) == 300


def test_the_order_of_the_file_does_not_matter(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "b.jsonl").write_text("".join(reversed(lines)), "utf-8")
    one = prepare_splits(config_of(corpus), tmp_path)
    other = prepare_splits(config_of(replace(corpus, path=str(tmp_path / "b.jsonl"))), tmp_path)
    for name in ("train", "validation", "test"):
        assert [p.answer for p in getattr(one, name)] == [p.answer for p in getattr(other, name)]


def test_scale(tmp_path: Path) -> None:
    splits = prepare_splits(config_of(write_corpus(tmp_path / "a.jsonl"), scale=0.5), tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (50, 5, 5)


def test_manifest_counts_add_up(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"question": "问题", "answer": ""}\n{"question": "坏')
    manifest = prepare_splits(config_of(corpus), tmp_path / "cache").manifest
    counts = manifest.counts
    assert (
        counts["rows"] == 302 == counts["pairs"] + counts["rejected_empty_answer"] + counts["rejected_torn_last_line"]
    )
    assert counts["training_pool"] == 280
    assert counts["test_answers_seen_in_training"] == 0
    assert (manifest.train.n, manifest.validation.n, manifest.test.n) == (100, 10, 10)
    assert manifest.corpus_sha256 == corpus_sha256(corpus)
    rejects = next((tmp_path / "cache").glob("corpus-*/rejects.jsonl")).read_text("utf-8").splitlines()
    assert [json.loads(line)["reason"] for line in rejects] == ["empty_answer", "torn_last_line"]


def test_too_few_pairs_is_an_error_and_never_a_smaller_set(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text("utf-8")
    (tmp_path / "a.jsonl").write_text(lines + lines[: lines.index("\n") + 1], "utf-8")
    with pytest.raises(DataError) as error:
        prepare_splits(config_of(corpus, train_size=281), tmp_path / "cache")
    fault = only_fault(error)
    assert (fault.code, fault.key, fault.got) == ("corpus-too-small", "data.train_size", 281)
    assert "280 training examples" in fault.problem
    assert "exact duplicates 1" in fault.problem
    for way_out in ("Ask for 280 or less", "data.train_size=280", "data=all", "data.scale=", "another corpus"):
        assert way_out in fault.hint
    assert len(prepare_splits(config_of(corpus, train_size=280), tmp_path / "cache").train) == 280


# ---------------------------------------------------------------- cache


def test_second_use_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl")
    first = prepare(corpus, RULES, tmp_path / "cache")
    before = snapshot(first.folder)
    monkeypatch.setattr(preparation, "read_by_file", lambda *_: pytest.fail("read again"))
    second = prepare(replace(corpus, name="other name"), RULES, tmp_path / "cache")
    assert snapshot(second.folder) == before
    assert list(second.pool) == list(first.pool)
    assert sorted(before) == ["manifest.json", "pool.arrow", "rejects.jsonl", "test.arrow", "validation.arrow"]


@pytest.mark.parametrize("name", ["pool.arrow", "validation.arrow", "test.arrow", "rejects.jsonl", "manifest.json"])
@pytest.mark.parametrize("damage", ["delete", "truncate", "flip", "empty", "append"])
def test_damaged_cache_is_rebuilt_and_said_so(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = replace(write_corpus(tmp_path / "a.jsonl", 40), max_reject_share=0.1)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"question": "问题", "answer": ""}\n')
    first = prepare(corpus, RULES, tmp_path / "cache")
    good = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    path, content = first.folder / name, good[name]
    path.unlink()
    damaged = {"truncate": content[:-3], "flip": content[:20] + bytes([content[20] ^ 1]) + content[21:],
               "empty": b"", "append": content + b"x"}  # fmt: skip
    if damage != "delete":
        path.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        again = prepare(corpus, RULES, tmp_path / "cache")
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == good
    assert "is damaged" in caplog.text
    assert len(again.pool) == 20


@pytest.mark.parametrize(
    "content", [b"", b"[" * 3000, b"9" * 5000, b"null", b'{"key": "k"}', b'{"key": "k", "files": []}']
)
def test_a_manifest_that_is_none_is_a_fault(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    assert cache_fault(tmp_path, "k")


SHAPING: list[dict[str, Any]] = [
    {"question": "q"}, {"answer": "a"}, {"id": "id"}, {"empty_values": ["无"]}, {"encoding": "big5"},
    {"question_prefix": "x"}, {"question_suffix": "x"}, {"answer_prefix": "x"}, {"format": "csv"},
]  # fmt: skip
PLACES: list[dict[str, Any]] = [{"name": "n"}, {"path": "b"}, {"source": "hub"}, {"hub": "x"}, {"revision": "x"},
                                {"parts": "ignore"}]  # fmt: skip
DIVIDING: list[dict[str, Any]] = [
    {"test_size": 1}, {"validation_size": 1}, {"split_seed": 1}, {"near_duplicate_threshold": 0.5}
]  # fmt: skip


def test_key_covers_what_shapes_pairs_and_nothing_else() -> None:
    corpus = CorpusConfig(name="t", source="file", path="a")
    key = cache_key(corpus, RULES, "hash")
    assert all(cache_key(replace(corpus, **change), RULES, "hash") != key for change in SHAPING)
    assert all(cache_key(replace(corpus, **change), RULES, "hash") == key for change in PLACES)
    assert all(cache_key(corpus, replace(RULES, **change), "hash") != key for change in DIVIDING)
    assert cache_key(corpus, RULES, "other") != key
    assert cache_key(corpus, RULES, "hash", {}) == key != cache_key(corpus, RULES, "hash", {"train": ["a"]})


def test_changed_file_is_another_cache(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl")
    first = prepare(corpus, RULES, tmp_path / "cache")
    second = prepare(write_corpus(tmp_path / "a.jsonl", 301), RULES, tmp_path / "cache")
    assert first.folder != second.folder
    assert first.folder.exists()


def test_failure_leaves_no_trace(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl", 15)
    with pytest.raises(DataError) as caught:
        prepare(corpus, RULES, tmp_path / "cache")
    assert only_fault(caught).code == "corpus-too-small"
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_failure_keeps_what_others_prepared(tmp_path: Path) -> None:
    kept = prepare(write_corpus(tmp_path / "a.jsonl"), RULES, tmp_path / "cache").folder
    with pytest.raises(DataError) as caught:
        prepare(write_corpus(tmp_path / "b.jsonl", 15), RULES, tmp_path / "cache")
    assert only_fault(caught).code == "corpus-too-small"
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [f".{kept.name}.lock", kept.name]


def test_rows_left_out_are_told_with_the_place_of_their_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"question": "问题", "answer": null}\n')
    with caplog.at_level(logging.WARNING):
        folder = prepare(corpus, RULES, tmp_path / "cache").folder
    assert f"1 of 301 rows left out, each with its line and reason in {folder / 'rejects.jsonl'}" in caplog.text


def test_interruption_leaves_no_trace(tmp_path: Path) -> None:
    def interrupted(examples: Iterable[Example]) -> Iterator[Example]:
        yield next(iter(examples))
        raise KeyboardInterrupt

    corpus = write_corpus(tmp_path / "a.jsonl")
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, RULES, tmp_path / "cache", interrupted)
    assert not list((tmp_path / "cache").glob("*corpus-*/*"))
    assert len(prepare(corpus, RULES, tmp_path / "cache").pool) == 280


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError) as caught:
        prepare(write_corpus(tmp_path / "a.jsonl"), RULES, tmp_path / "cache")
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("not-writable", str(tmp_path / "cache"))
    assert "outputs=DIR" in fault.hint


PREPARE_AND_NOTE = """
import sys, time
from pathlib import Path
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.prepare import prepare
from medqa_finetune.data.corpus import corpus_sha256
from medqa_finetune.data.splits import SplitRules

def noted(examples):
    with open("log", "a") as file:
        file.write("prepared;")
    time.sleep(0.5)
    return examples

corpus = CorpusConfig(name="t", source="file", path="a.jsonl")
prepared = prepare(corpus, SplitRules(10, 10, 0, 0.8), Path("cache"), noted)
assert len(prepared.pool) == 280
"""


def test_two_processes_prepare_once(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PREPARE_AND_NOTE]
    processes = [subprocess.Popen(command, cwd=tmp_path, env=environment) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "prepared;"


# ---------------------------------------------------------------- real data


@pytest.mark.slow
def test_real_corpus_of_117_161_pairs(tmp_path: Path) -> None:
    path = SHARED / "medqa_real.jsonl.zst"
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    corpus = CorpusConfig(name="real", source="file", path=str(path), id="id")
    start = time.monotonic()
    prepared = prepare(corpus, SplitRules(1000, 1000, 0, 0.8), tmp_path)
    seconds = time.monotonic() - start
    splits = take_splits(prepared, 100_000)
    counts = splits.manifest.counts
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (100_000, 1000, 1000)
    assert counts["rows"] == 117_161
    assert counts["training_pool"] > 110_000
    assert counts["training_pairs_near_duplicates_of_test"] > 0
    left_out = sum(
        n for name, n in counts.items() if name.startswith(("exact_", "other_", "training_pairs_", "validation_pairs_"))
    )
    assert counts["pairs"] == 2000 + counts["training_pool"] + left_out
    assert len({example.id for example in splits.train}) == 100_000
    assert seconds < 60
