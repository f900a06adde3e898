"""The answer of one training size, from comparisons."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.report.stats.contrasts import size_answers
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval
from tests.report.builders import group_of, record


def comparison(first: str, second: str) -> Comparison:
    gain = 9.0 if "retrieval_50k" in (first, second) else 1.5
    return Comparison(
        first, second, "rougeL", (), gain, Interval(1.0, 2.5), None, None, 0.01, 0.02, Finding.DIFFERENT, (), None
    )


@pytest.mark.parametrize("turned", [False, True])
def test_gains_over_both_baselines_have_intervals(tmp_path: Path, *, turned: bool) -> None:
    retrieval = [record("retrieval", data, **_retrieval(data)) for data in ("20k", "50k")]
    cells = group_of(tmp_path, record("none"), record("lora"), record("qlora"), *retrieval).cells
    names = [cell.name for cell in cells]
    pairs = [comparison(*(reversed(pair) if turned else pair)) for pair in combinations(names, 2)]
    (answer,) = size_answers(cells, pairs, "rougeL")
    assert [(each.first, each.second) for each in answer.between] == [("LoRA", "QLoRA")]
    assert [(each.first, each.second) for each in answer.over] == [("untuned base", "LoRA"), ("untuned base", "QLoRA")]
    # Of its own size alone.
    assert [(each.first, each.second) for each in answer.over_retrieval] == [
        ("retrieval", "LoRA"),
        ("retrieval", "QLoRA"),
    ]
    assert {abs(each.gain or 0) for each in answer.over_retrieval} == {1.5}
    assert all(each.interval is not None for each in (*answer.over, *answer.over_retrieval))


def _retrieval(data: str) -> dict[str, Any]:
    before = record("lora", data)
    return {"config": before.config | {"method": {"name": "retrieval", "trains": "lookup"}}, "train": None}
