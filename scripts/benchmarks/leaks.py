"""Plants leaks in a corpus, prepares it as training does, and counts by brute force the leaks in the training set.

Planted for every held-out question: a copy of the example, the question with another answer, and near-duplicates of the
question. No question of the training set may be a held-out one or a near-duplicate of one.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.examples import Example
from medqa_finetune.data.prepare import Prepared, prepare
from medqa_finetune.data.splits import SplitRules, jaccard, normalised_question, trigrams
from medqa_finetune.errors import EXIT_DONE, EXIT_RUN_FAILED
from scripts.benchmarks.made_pairs import Row, read_rows, write_rows
from scripts.benchmarks.results import heading, keep, markdown

THRESHOLD = 0.8


def leaks(options: argparse.Namespace) -> int:
    """Plant, prepare, count; print the table and return 1 if a leak got through."""
    started = heading("leaks")
    rules = SplitRules(options.held_out, options.held_out, options.seed, THRESHOLD)
    rows = read_rows(options.pairs)
    with tempfile.TemporaryDirectory(prefix="leaks-", dir=options.scratch) as name:
        before = _prepared(rows, rules, Path(name) / "before")
        planted = plant([*before.test, *before.validation])
        after = _prepared([*rows, *(row for group in planted.values() for row in group)], rules, Path(name) / "after")
        found = through(list(after.pool), [*after.test, *after.validation])
        counts = {"planted": {kind: len(group) for kind, group in planted.items()}, "through": found}
        counts["counted"] = {key: n for key, n in after.notes["counts"].items() if n}
    print(markdown(("kind of leak", "planted", "in the training set"), [
        (kind, str(n), str(found[kind])) for kind, n in counts["planted"].items()
    ]))  # fmt: skip
    print("\nWhat preparation counted:")
    print("\n".join(f"{n:>8,}  {key}" for key, n in counts["counted"].items()))
    keep(options.out, {**started, **counts})
    return EXIT_RUN_FAILED if any(found.values()) else EXIT_DONE


def plant(held_out: Sequence[Example]) -> dict[str, list[Row]]:
    """Return leaks by kind: for every held-out example a copy, one with another answer, and near-duplicates."""
    return {
        "exact": [{"question": pair.question, "answer": pair.answer} for pair in held_out],
        "other answer": [
            {"question": f"　{pair.question}！", "answer": f"另一个答案：{pair.answer}"} for pair in held_out
        ],
        "near-duplicate": [
            {"question": near, "answer": pair.answer} for pair in held_out for near in _near(pair.question)
        ],
    }


def through(train: Sequence[Example], held_out: Sequence[Example]) -> dict[str, int]:
    """Count the training examples that leak a held-out question, by comparing each with each."""
    texts = {normalised_question(pair.question) for pair in held_out}
    exact = {(normalised_question(pair.question), pair.answer) for pair in held_out}
    grams = [trigrams(text) for text in texts]
    counts = dict.fromkeys(("exact", "other answer", "near-duplicate"), 0)
    for pair in train:
        text = normalised_question(pair.question)
        if text in texts:
            counts["exact" if (text, pair.answer) in exact else "other answer"] += 1
        else:
            mine = trigrams(text)
            counts["near-duplicate"] += any(jaccard(mine, theirs) >= THRESHOLD for theirs in grams)
    return counts


def _near(question: str) -> list[str]:
    """Return near-duplicates of a question: one character added at an end."""
    own = trigrams(normalised_question(question))
    changed = [question.rstrip("？?。") + "呢", "请" + question]
    return [text for text in changed if jaccard(own, trigrams(normalised_question(text))) >= THRESHOLD]


def _prepared(rows: Sequence[Row], rules: SplitRules, folder: Path) -> Prepared:
    folder.mkdir()
    write_rows(folder / "corpus.jsonl", rows)
    corpus: Any = CorpusConfig(name="planted", source="file", path=str(folder / "corpus.jsonl"), format="jsonl")
    return prepare(corpus, rules, folder / "cache")
