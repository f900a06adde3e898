"""`scripts/benchmark.py leaks` and `scores`: what is planted is found, and what is printed was done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medqa_finetune.data.examples import Example
from scripts.benchmarks.leaks import plant, through

HELD_OUT = [
    Example("1", "高血压患者平时可以喝酒吗？", "不建议。"),
    Example("2", "感冒发烧到三十九度怎么办？", "就医。"),
]


def test_what_is_planted_is_a_leak_of_its_kind() -> None:
    for kind, rows in plant(HELD_OUT).items():
        train = [Example(str(place), row["question"], row["answer"]) for place, row in enumerate(rows)]
        assert len(rows) >= len(HELD_OUT)
        assert through(train, HELD_OUT) == dict.fromkeys(("exact", "other answer", "near-duplicate"), 0) | {
            kind: len(rows)
        }


def test_no_planted_leak_reaches_the_training_set(run_script: Callable[..., Any], tmp_path: Path) -> None:
    outcome = run_script("benchmark", "leaks", "--held-out", "20", "--seed", "3", "--scratch", str(tmp_path))
    assert outcome.code == 0, outcome.err
    assert "| exact | 40 | 0 |" in outcome.out
    assert "| other answer | 40 | 0 |" in outcome.out
    assert "| near-duplicate | 80 | 0 |" in outcome.out
    counts = {line.split()[1]: int(line.split()[0].replace(",", "")) for line in outcome.out.splitlines()[7:]}
    assert counts["exact_duplicates"] == 40
    assert counts["questions"] + 40 <= counts["rows"]
    near = "training_pairs_near_duplicates_of_test", "training_pairs_near_duplicates_of_validation"
    assert sum(counts[name] for name in near) >= 70


def test_scoring_is_timed_metric_by_metric(run_script: Callable[..., Any]) -> None:
    outcome = run_script("benchmark", "scores", "--answers", "5", "--characters", "40")
    assert outcome.code == 0, outcome.err
    assert [line.split()[1] for line in outcome.out.splitlines() if line.startswith("| ")][2:6] == [
        "headline", "all", "rouge", "bleu",
    ]  # fmt: skip
    assert "| rouge-score, 5 of these answers |" in outcome.out


def test_scores_beside_expected_ones(run_script: Callable[..., Any], tmp_path: Path) -> None:
    # Characters 2 of 2, bigrams 1 of 1; BLEU of two tokens with effective order. Then a rouge1 that is wrong.
    row = {"id": "1", "hyp": "头痛", "refs": ["头痛"], "rouge1": 100.0, "rouge2": 100.0, "rougeL": 100.0}
    file = tmp_path / "expected.jsonl"
    for expected, code in ((100.0, 0), (99.0, 1)):
        file.write_text(json.dumps(row | {"bleu_zh_sent": 100.0, "rouge1": expected}) + "\n", encoding="utf-8")
        outcome = run_script("benchmark", "scores", "--answers", "2", "--characters", "9", "--golden", str(file))
        assert outcome.code == code, outcome.err
    assert "| expected.jsonl, ROUGE and sentence BLEU | 1.0e+00 | 1e-06 |" in outcome.out
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    outcome = run_script("benchmark", "scores", "--answers", "2", "--characters", "9", "--golden", str(file))
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code, fault.key) == ("missing-key", "bleu_zh_sent")
    assert (fault.file, fault.line_number) == (str(file), 1)
