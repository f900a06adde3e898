"""The answer of each training size: which way round a difference is, and what it is a difference of."""

import dataclasses

import pytest

from medqa_finetune.report.comparability import Axis, Difference, Fact
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.contrasts import size_answers
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval
from medqa_finetune.report.verdict import Contrast, SizeAnswer
from tests.report.made import cell

# Every cell's score, so that a difference can be checked in the head. Every interval is 1 below to 2 above.
SCORES = {"none": 10.0, "lora_20k": 14.0, "qlora_20k": 13.0, "full_20k": 17.0, "lora_50k": 20.0, "qlora_50k": 18.5}
UNLIKE = (Difference(Fact.STEPS, (1,), (2,)),)


def compared(first: str, second: str, *, turned: bool = False, score: str = "rougeL") -> Comparison:
    gain = SCORES[second] - SCORES[first]
    names, interval = (first, second), Interval(gain - 1, gain + 2)
    if turned:
        names, gain, interval = (second, first), -gain, Interval(-gain - 2, -gain + 1)
    return Comparison(*names, score, (Axis.METHOD,), gain, interval, None, None, 0.01, 0.02, Finding.DIFFERENT)


def contrast(first: str, second: str, gain: float) -> Contrast:
    return Contrast(first, second, gain, Interval(gain - 1, gain + 2), Finding.DIFFERENT)


def cells(*names: str) -> list[Cell]:
    """Cells of these names; all but the base have an entry for legends, which is their method."""
    found = []
    for name in names:
        method, _, size = name.partition("_")
        each = cell(method, 50_000 if size == "50k" else 20_000)
        found.append(dataclasses.replace(each, entry="" if method == "none" else method))
    return found


@pytest.mark.parametrize("turned", [False, True])
def test_methods_are_compared_with_lora_and_each_with_the_base(turned: bool) -> None:
    names = ["qlora_50k", "none", "qlora_20k", "lora_50k", "lora_20k"]
    comparisons = [
        compared(first, second, turned=turned)
        for size in ("20k", "50k")
        for first, second in (
            (f"lora_{size}", f"qlora_{size}"), ("none", f"lora_{size}"), ("none", f"qlora_{size}")
        )
    ]  # fmt: skip
    small, large = size_answers(cells(*names), comparisons, "rougeL")
    assert small == SizeAnswer(
        "20k", "rougeL", (contrast("lora", "qlora", -1),), (contrast("none", "lora", 4), contrast("none", "qlora", 3))
    )
    assert large == SizeAnswer(
        "50k", "rougeL", (contrast("lora", "qlora", -1.5),),
        (contrast("none", "lora", 10), contrast("none", "qlora", 8.5)),
    )  # fmt: skip


def test_only_the_score_asked_for_counts() -> None:
    other = compared("none", "lora_20k", score="bleu")
    assert size_answers(cells("none", "lora_20k"), [other], "rougeL") == []
    (answer,) = size_answers(cells("none", "lora_20k"), [compared("none", "lora_20k"), other], "rougeL")
    assert (answer.between, [each.gain for each in answer.over]) == ((), [4])


def test_without_lora_full_training_is_what_others_are_compared_with() -> None:
    (answer,) = size_answers(cells("qlora_20k", "full_20k"), [compared("qlora_20k", "full_20k")], "rougeL")
    assert [(each.first, each.second, each.gain) for each in answer.between] == [("full", "qlora", -4)]
    assert answer.over == ()


def test_cells_that_do_not_compare_say_why() -> None:
    refused = Comparison(
        "none", "lora_20k", "rougeL", (), None, None, None, None, None, None, Finding.NOT_COMPARABLE, UNLIKE
    )
    (answer,) = size_answers(cells("none", "lora_20k"), [refused], "rougeL")
    assert answer.over == (Contrast("none", "lora", None, None, Finding.NOT_COMPARABLE, UNLIKE),)


def test_models_have_answers_of_their_own() -> None:
    ours = cells("none", "lora_20k")
    theirs = [
        Cell(f"other_{each.name}", (dataclasses.replace(each.runs[0], record=each.first.updated(model="other")),))
        for each in ours
    ]
    comparisons = [
        compared("none", "lora_20k"),
        dataclasses.replace(compared("none", "qlora_20k"), first="other_none", second="other_lora_20k"),
        # Bases of other models say nothing.
        dataclasses.replace(compared("none", "full_20k"), first="none", second="other_lora_20k"),
    ]
    answers = size_answers([*theirs, *ours], comparisons, "rougeL")
    gains = {each.size: [found.gain for found in each.over] for each in answers}
    assert gains == {f"{ours[0].first.model} 20k": [4], "other 20k": [3]}
