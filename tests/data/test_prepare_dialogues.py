"""Dialogues, prepared: no dialogue in two sets, everything kept, and nothing changed for corpora without them."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.examples import Example
from medqa_finetune.data.prepare import Prepared, Splits, cache_key, examples_key, prepare, prepare_splits
from medqa_finetune.data.splits import SplitRules
from medqa_finetune.data.tables import SCHEMA, ExampleTable
from tests.data.test_prepare import config_of, write_corpus

RULES = SplitRules(test_size=20, validation_size=20, split_seed=0, near_duplicate_threshold=0.8)


def texts(seed: int) -> Any:
    rng = random.Random(seed)  # noqa: S311
    han = [chr(code) for code in range(0x4E00, 0x5E00)]
    return lambda: "".join(rng.choices(han, k=12))


def unrolled(folder: Path, dialogues: int = 100, turns: int = 4) -> CorpusConfig:
    """Write dialogues as many data sets hold them: once for each of their turns, with what was said before."""
    text, rows = texts(0), []
    for number in range(dialogues):
        said = [[text(), text()] for _ in range(turns)]
        for place, (question, answer) in enumerate(said):
            row = {"question": question, "answer": answer, "history": said[:place]}
            rows.append(row | ({"system": "你是医生。"} if number % 2 else {}))
    random.Random(1).shuffle(rows)  # noqa: S311
    path = folder / "dialogues.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return CorpusConfig(name="t", source="file", path=str(path), history="history", system="system")


def sets(prepared: Prepared | Splits[ExampleTable]) -> list[list[Example]]:
    pool = prepared.pool if isinstance(prepared, Prepared) else prepared.train
    return [list(pool), list(prepared.validation), list(prepared.test)]


def test_no_dialogue_is_in_two_sets(tmp_path: Path) -> None:
    prepared = prepare(unrolled(tmp_path), RULES, tmp_path / "cache")
    openings = [{example.opening for example in part} for part in sets(prepared)]
    assert sum(map(len, openings)) == len(set.union(*openings)) == 100
    pool, validation, test = sets(prepared)
    assert (len(pool), len(validation), len(test)) == (60 * 4, 20, 20)
    assert prepared.notes["counts"]["other_answers_to_held_out_questions"] == 40 * 3
    # Nothing that was said in a test dialogue, at any turn, is trained on.
    tested = {text for example in test for turn in example.turns for text in turn}
    assert not tested & {text for example in pool for turn in example.turns for text in turn}


def test_everything_said_is_kept_and_hashed(tmp_path: Path) -> None:
    corpus = unrolled(tmp_path)
    config = config_of(corpus, train_size=None)
    first = prepare_splits(config, tmp_path / "cache")
    rows = {row["question"]: row for row in map(json.loads, Path(str(corpus.path)).read_text("utf-8").splitlines())}
    for example in (example for part in sets(first) for example in part):
        row = rows[example.question]
        assert [list(turn) for turn in example.history] == row["history"]
        assert example.system == row.get("system")
    assert first.train[3] == list(first.train)[3]
    without = prepare_splits(config_of(CorpusConfig(name="t", source="file", path=corpus.path), train_size=None),
                             tmp_path / "cache")  # fmt: skip
    assert without.manifest.train.sha256 != first.manifest.train.sha256


def test_dialogues_that_begin_and_end_alike_are_no_duplicates(tmp_path: Path) -> None:
    text = texts(3)
    rows = [{"question": text(), "answer": text(), "history": [[text(), text()]]} for _ in range(60)]
    middle = [rows[0] | {"history": [[rows[0]["history"][0][0], text()]]}, rows[0]]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *middle]), "utf-8")
    corpus = CorpusConfig(name="t", source="file", path=str(path), history="history")
    counts = prepare(corpus, RULES, tmp_path / "cache").notes["counts"]
    assert (counts["pairs"], counts["questions"], counts["exact_duplicates"]) == (62, 60, 1)


def test_a_corpus_of_single_questions_is_prepared_as_it_was_before_there_were_dialogues(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl", n=60)
    prepared = prepare(corpus, RULES, tmp_path / "cache")
    for name in ("pool", "validation", "test"):
        with pa.memory_map(str(prepared.folder / f"{name}.arrow")) as file:
            assert pa.ipc.open_file(file).schema == SCHEMA
    # The keys of caches, which settings at their defaults do not change; from commit b760601, the hash of a set.
    assert examples_key(CorpusConfig(name="t", source="file", path="a"), "0" * 64) == PAIRS_KEY
    assert cache_key(CorpusConfig(name="t", source="file", path="a"), RULES, "0" * 64) == CACHE_KEY
    assert prepared.test.sha256 == TEST_SHA256


PAIRS_KEY = "0dfa30f911c09f7bf8340c5ace354f603c4e33e0bc9aaf7aaa4320daddf5f096"
CACHE_KEY = "cd6587d8b589affb4ac9899e2b6bd3d904ddce1a5f9d5b8cc6dd33000140dbf6"
TEST_SHA256 = "38b6d1aa71ec926f5195e90c2325a78fb0a63b3ca17f1d6cc1481170fa55ef23"
