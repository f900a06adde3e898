from dataclasses import replace

import numpy as np

from medqa_finetune.evaluation.answers import Answer
from medqa_finetune.evaluation.score import score_answers
from medqa_finetune.report.cells import Cell
from medqa_finetune.report.recommend import CAUTION, recommend
from medqa_finetune.report.statistics import Comparison, Drawn, Interval
from medqa_finetune.report.verdict import Recommendation
from medqa_finetune.report.words import Text
from tests.report.made import cell

BASE, SMALL, LARGE, QLORA = cell("none", 20_000), cell("lora", 20_000), cell("lora", 50_000), cell("qlora", 20_000)
RETRIEVAL = replace(BASE, name="retrieval_20k")
REASON = Text("They differ in steps (1, 2).", "步数不同。")


def advice(
    scores: list[tuple[Cell, float]], different: set[frozenset[str]], unlike: set[frozenset[str]] | None = None
) -> Recommendation:
    """Recommend among cells of known scores, of which some pairs are different and some do not compare."""
    drawn = {each.name: Drawn(each.name, np.array([value] * 2), np.full((2, 3), value), 1000) for each, value in scores}
    cells, values = [each for each, _ in scores], {each.name: value for each, value in scores}
    comparisons = []
    for place, first in enumerate(cells):
        for second in cells[place + 1 :]:
            pair = frozenset((first.name, second.name))
            if pair in (unlike or set()):
                found = Comparison(
                    first.name, second.name, "rougeL", "", None, None, None, None, None, None, "not comparable", REASON
                )
            else:
                gap = values[second.name] - values[first.name]
                found = Comparison(
                    first.name, second.name, "rougeL", "", gap, Interval(gap - 0.5, gap + 0.5), None, None, 0.01, 0.01,
                    "different" if pair in different else "no difference shown", Text("", ""),
                )  # fmt: skip
            comparisons.append(found)
    return recommend(cells, drawn, comparisons, "rougeL")


def pairs(*names: tuple[Cell, Cell]) -> set[frozenset[str]]:
    return {frozenset((one.name, other.name)) for one, other in names}


def test_the_best_where_it_beats_all() -> None:
    found = advice([(BASE, 18.0), (SMALL, 24.0), (LARGE, 26.0)], pairs((BASE, LARGE), (SMALL, LARGE)))
    assert found.cell == "lora_50k"
    assert (
        found.text.en
        == "Take lora_50k: it scores higher than every other, +2.00 ROUGE-L [1.50, 2.50] over lora_20k, the next."
    )
    assert "高于其余各格" in found.text.zh


def test_the_cheaper_where_no_difference_to_the_best_is_shown() -> None:
    found = advice([(BASE, 18.0), (SMALL, 25.6), (LARGE, 26.0), (QLORA, 22.0)],
                   pairs((BASE, LARGE), (QLORA, LARGE), (BASE, SMALL)))  # fmt: skip
    assert found.cell == "lora_20k"
    assert (
        "no difference shown to the highest, lora_50k (+0.40 ROUGE-L [-0.10, 0.90]), for 1.1 / 2.8 GPU-hours"
        in found.text.en
    )
    assert "does not make them equal" in found.text.en


def test_the_best_where_what_is_level_costs_more() -> None:
    found = advice([(BASE, 18.0), (SMALL, 26.0), (LARGE, 25.8), (QLORA, 22.0)], pairs((BASE, SMALL), (QLORA, SMALL)))
    assert found.cell == "lora_20k"
    assert "none that is level with it (lora_50k) costs less" in found.text.en


def test_what_only_the_correction_keeps_from_being_different_is_not_level() -> None:
    """Far below the best, cheap, and the p value above 0.05 for there are many pairs: it is not taken for its price."""
    found = advice([(BASE, 18.0), (SMALL, 22.0), (LARGE, 26.0), (QLORA, 21.0)],
                   pairs((BASE, LARGE), (BASE, SMALL), (LARGE, QLORA)))  # fmt: skip
    assert found.cell == "lora_50k"
    assert "+4.00 ROUGE-L [3.50, 4.50] over lora_20k. No difference shown to lora_20k, but" in found.text.en
    assert "before the correction for all 6 pairs" in found.text.en
    assert "未经全部 6 对的校正" in found.text.zh


def test_what_another_was_shown_to_beat_is_not_taken() -> None:
    found = advice([(BASE, 18.0), (SMALL, 25.6), (LARGE, 26.0), (QLORA, 25.9)],
                   pairs((BASE, LARGE), (BASE, SMALL), (BASE, QLORA), (SMALL, QLORA)))  # fmt: skip
    assert found.cell == "qlora_20k"
    found = advice([(BASE, 18.0), (SMALL, 25.6), (LARGE, 26.0), (QLORA, 25.9)],
                   pairs((BASE, LARGE), (BASE, SMALL), (BASE, QLORA), (SMALL, QLORA), (QLORA, LARGE)))  # fmt: skip
    assert found.cell == "lora_50k"
    assert "between it and lora_20k, but other trained cells were shown to be better than these" in found.text.en


def test_the_baseline_that_wins_is_told_before_one_that_does_not() -> None:
    """Of two that are not trained, the one that is shown to be better says more than one that shows nothing."""
    found = advice([(BASE, 23.8), (RETRIEVAL, 30.0), (SMALL, 24.0)], pairs((RETRIEVAL, SMALL)))
    assert found.cell == "retrieval_20k"
    assert found.text.en.startswith("Do not train like this: retrieval_20k")
    unclear = advice([(BASE, 23.0), (RETRIEVAL, 23.9), (SMALL, 24.0)], set())
    assert unclear.text.en.startswith("No difference shown between retrieval_20k")


def test_what_beats_no_baseline_is_not_taken_for_its_price() -> None:
    found = advice([(BASE, 24.0), (SMALL, 25.6), (LARGE, 26.0), (QLORA, 22.0)], pairs((BASE, LARGE), (LARGE, QLORA)))
    assert found.cell == "lora_50k"
    assert "lora_20k, but these were not shown to be better than what is not trained" in found.text.en


def test_no_difference_among_trained_cells() -> None:
    found = advice([(BASE, 18.0), (SMALL, 25.6), (LARGE, 26.0)], pairs((BASE, LARGE)))
    assert found.cell is None
    assert found.text.en.startswith("No difference shown between the trained cells in ROUGE-L")
    assert "least costly lora_20k" in found.text.en


def test_no_difference_to_the_untrained() -> None:
    found = advice([(BASE, 25.8), (SMALL, 24.0), (LARGE, 26.0)], pairs((SMALL, LARGE)))
    assert found.cell is None
    assert found.text.en.startswith("No difference shown between none, which is not trained, and the best trained cell")


def test_the_untrained_may_be_better() -> None:
    found = advice([(BASE, 30.0), (SMALL, 24.0)], pairs((BASE, SMALL)))
    assert found.cell == "none"
    assert "Do not train like this" in found.text.en


def test_no_winner_where_none_compares_with_the_best() -> None:
    found = advice([(SMALL, 24.0), (LARGE, 26.0)], set(), pairs((SMALL, LARGE)))
    assert found.cell is None
    assert found.text.en.startswith(
        "No winner is called: lora_50k has the highest score, but it and lora_20k do not compare."
    )
    assert REASON.en in found.text.en
    assert "不判胜负" in found.text.zh


def test_one_that_does_not_compare_is_named() -> None:
    found = advice([(SMALL, 24.0), (LARGE, 26.0), (QLORA, 25.0)], pairs((SMALL, LARGE)), pairs((LARGE, QLORA)))
    assert found.cell == "lora_50k"
    assert "Not compared with qlora_20k" in found.text.en
    assert REASON.en in found.text.en


def test_nothing_trained_and_one_cell() -> None:
    assert advice([(BASE, 18.0)], set()).cell is None
    assert "nothing to choose from" in advice([(BASE, 18.0), (SMALL, 24.0)], pairs((BASE, SMALL))).text.en


def test_the_negation_scores_as_the_caution_says() -> None:
    answer = Answer("1", "", ("孕妇不可以服用利巴韦林治疗感冒",), "孕妇可以服用利巴韦林治疗感冒")
    _, (row,) = score_answers([answer], ["rouge", "bleu"])
    own = next(value for name, value in row.items() if name in ("bleu", "sentence_bleu"))
    for figure in (f"ROUGE-L {row['rougeL']:.1f}", f"sentence BLEU {own:.1f}", answer.prediction):
        assert figure in CAUTION.en
    for figure in (f"ROUGE-L 仍有 {row['rougeL']:.1f}", f"句级 BLEU 仍有 {own:.1f}", answer.references[0]):
        assert figure in CAUTION.zh
