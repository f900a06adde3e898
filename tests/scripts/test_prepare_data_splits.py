"""`scripts/prepare_data_splits.py`: nested JSON Lines sets, or the cache that training uses."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = ("prepare_data_splits", "corpus=jsonl", "corpus.path=a.jsonl", "data.scale=0.01", "--to", "out")


@pytest.fixture(autouse=True)
def corpus(tmp_path: Path) -> None:
    rng = random.Random(0)  # noqa: S311
    han = [chr(code) for code in range(0x4E00, 0x5E00)]
    rows = [{"question": "".join(rng.choices(han, k=15)), "answer": f"答案{i}"} for i in range(600)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def lines(name: str) -> list[str]:
    return Path("out", name).read_text("utf-8").splitlines()


def test_nested_sets_and_manifest(run_script: Callable[..., Any]) -> None:
    outcome = run_script(*ARGUMENTS, "--sizes", "20k", "50k", "all")
    assert outcome.code == 0, outcome.err
    small, large, everything = lines("train_20k.jsonl"), lines("train_50k.jsonl"), lines("train_all.jsonl")
    assert (len(small), len(large), len(everything)) == (200, 500, 580)
    assert everything[:500] == large
    assert large[:200] == small
    assert len(lines("test.jsonl")) == len(lines("validation.jsonl")) == 10
    assert not {*lines("test.jsonl"), *lines("validation.jsonl")} & set(everything)
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert [manifest["sizes"][size]["train"]["n"] for size in ("20k", "50k", "all")] == [200, 500, 580]
    assert "corpus=jsonl corpus.path=a.jsonl data.scale=0.01 data=20k,50k,all" in outcome.out

    before = Path("out/train_all.jsonl").stat().st_mtime_ns
    assert run_script(*ARGUMENTS, "--sizes", "20k", "50k", "all").code == 0
    assert Path("out/train_all.jsonl").stat().st_mtime_ns == before


def test_cache_only(run_script: Callable[..., Any]) -> None:
    outcome = run_script(*ARGUMENTS, "--sizes", "20k", "--cache-only", "--cache", "kept")
    assert outcome.code == 0, outcome.err
    assert not Path("out").exists()
    assert len(list(Path("kept").glob("corpus-*/pool.arrow"))) == 1


def test_a_corpus_too_small_is_refused_before_anything_is_written(run_script: Callable[..., Any]) -> None:
    outcome = run_script(*ARGUMENTS)
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code, fault.key, fault.got) == ("corpus-too-small", "data.train_size", 1000)
    assert "580" in fault.problem
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "override",
    ["data.scale=0", "data.test_size=0", "data.near_duplicate_threshold=2", "data.x=1", "data.train_size=0",
     "data.split_seed=-1", "corpus.max_reject_share=2"],
)  # fmt: skip
def test_bad_settings(run_script: Callable[..., Any], override: str) -> None:
    outcome = run_script(*ARGUMENTS, override)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert override.partition("=")[0] in outcome.err
    assert not Path("out").exists()
