from dataclasses import replace

import numpy as np
import pytest

from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.evaluation.score import score_predictions
from medqa_finetune.report.comparability import Difference, Fact
from medqa_finetune.report.recommend import NEGATION, recommend
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval, Resampled
from medqa_finetune.report.verdict import Advice, AdviceKind, Estimate, Machine
from tests.report.made import cell

BASE, SMALL, LARGE, QLORA = cell("none", 20_000), cell("lora", 20_000), cell("lora", 50_000), cell("qlora", 20_000)
BUSY = cell("lora", 20_000, cpu_taken_rate=0.5)
RETRIEVAL = replace(BASE, name="retrieval_20k")
STEPS = (Difference(Fact.STEPS, (1,), (2,)),)


def advice(
    scores: list[tuple[Cell, float]],
    different: set[frozenset[str]],
    unlike: set[frozenset[str]] | None = None,
    seeds: int = 2,
) -> Advice:
    """Recommend among cells of known scores, of which some pairs are different and some do not compare."""
    resampled = {
        each.name: Resampled(each.name, np.array([value] * seeds), np.full((seeds, 3), value), 1000)
        for each, value in scores
    }
    cells, values = [each for each, _ in scores], {each.name: value for each, value in scores}
    comparisons = []
    for place, first in enumerate(cells):
        for second in cells[place + 1 :]:
            pair = frozenset((first.name, second.name))
            if pair in (unlike or set()):
                found = Comparison(
                    first.name, second.name, "rougeL", (), None, None, None, None, None, None, Finding.NOT_COMPARABLE,
                    STEPS,
                )  # fmt: skip
            else:
                gap = values[second.name] - values[first.name]
                found = Comparison(
                    first.name, second.name, "rougeL", (), gap, Interval(gap - 0.5, gap + 0.5), None, None, 0.01, 0.01,
                    Finding.DIFFERENT if pair in different else Finding.NONE_SHOWN,
                )  # fmt: skip
            comparisons.append(found)
    return recommend(cells, resampled, comparisons, "rougeL")


def pairs(*names: tuple[Cell, Cell]) -> set[frozenset[str]]:
    return {frozenset((one.name, other.name)) for one, other in names}


def lead(value: float) -> Estimate:
    """A lead as the made-up comparisons have it."""
    close = pytest.approx
    return Estimate(close(value), Interval(close(value - 0.5), close(value + 0.5)))  # type: ignore[arg-type]


def test_the_best_where_it_beats_all() -> None:
    found = advice([(BASE, 18.0), (SMALL, 24.0), (LARGE, 26.0)], pairs((BASE, LARGE), (SMALL, LARGE)))
    assert found == Advice(
        AdviceKind.BEST_OF_ALL, cell="lora_50k", score="rougeL", best="lora_50k", other="lora_20k", lead=lead(2.0)
    )


def test_one_seed_is_a_flag_of_its_own() -> None:
    found = advice([(BASE, 18.0), (SMALL, 24.0), (LARGE, 26.0)], pairs((BASE, LARGE), (SMALL, LARGE)), seeds=1)
    assert (found.kind, found.one_seed) == (AdviceKind.BEST_OF_ALL, True)


def test_the_cheaper_where_no_difference_to_the_best_is_shown() -> None:
    found = advice([(BASE, 18.0), (SMALL, 25.6), (LARGE, 26.0), (QLORA, 22.0)],
                   pairs((BASE, LARGE), (QLORA, LARGE), (BASE, SMALL)))  # fmt: skip
    assert (found.kind, found.cell, found.best, found.other) == (
        AdviceKind.CHEAPER, "lora_20k", "lora_50k", "lora_20k"
    )  # fmt: skip
    assert found.lead == lead(0.4)
    assert found.hours == pytest.approx((4000 / 3600, 10_000 / 3600))
    assert found.machine is Machine.GPU


def test_the_best_where_what_is_level_costs_more() -> None:
    found = advice([(BASE, 18.0), (SMALL, 26.0), (LARGE, 25.8), (QLORA, 22.0)], pairs((BASE, SMALL), (QLORA, SMALL)))
    assert (found.kind, found.cell, found.level) == (AdviceKind.BEST_OF_LEVEL, "lora_20k", ("lora_50k",))


def test_no_cost_is_weighed_where_times_do_not_compare() -> None:
    """The machine did other work while one was trained: that it seems cheaper says nothing."""
    shared = replace(BUSY, name="lora_20k")
    for small, large in ((25.6, 26.0), (26.0, 25.8)):
        found = advice([(BASE, 18.0), (shared, small), (LARGE, large), (QLORA, 22.0)],
                       pairs((BASE, LARGE), (BASE, SMALL), (QLORA, LARGE), (QLORA, SMALL)))  # fmt: skip
        best, other = ("lora_50k", "lora_20k") if large > small else ("lora_20k", "lora_50k")
        assert (found.kind, found.cell, found.level) == (AdviceKind.BEST_OF_UNTIMED, best, (other,))


def test_what_only_the_correction_keeps_from_being_different_is_not_level() -> None:
    """Far below the best, cheap, and the p value above 0.05 for there are many pairs: it is not taken for its price."""
    found = advice([(BASE, 18.0), (SMALL, 22.0), (LARGE, 26.0), (QLORA, 21.0)],
                   pairs((BASE, LARGE), (BASE, SMALL), (LARGE, QLORA)))  # fmt: skip
    assert (found.kind, found.cell, found.other) == (AdviceKind.BEST_BEFORE_CORRECTION, "lora_50k", "lora_20k")
    assert (found.lead, found.level, found.uncorrected) == (lead(4.0), ("lora_20k",), 6)


def test_what_another_was_shown_to_beat_is_not_taken() -> None:
    found = advice([(BASE, 18.0), (SMALL, 25.6), (LARGE, 26.0), (QLORA, 25.9)],
                   pairs((BASE, LARGE), (BASE, SMALL), (BASE, QLORA), (SMALL, QLORA)))  # fmt: skip
    assert found.cell == "qlora_20k"
    found = advice([(BASE, 18.0), (SMALL, 25.6), (LARGE, 26.0), (QLORA, 25.9)],
                   pairs((BASE, LARGE), (BASE, SMALL), (BASE, QLORA), (SMALL, QLORA), (QLORA, LARGE)))  # fmt: skip
    assert (found.kind, found.cell) == (AdviceKind.BEST_OF_SPOILED, "lora_50k")
    assert (found.beaten, found.idle) == (("lora_20k",), ())


def test_the_baseline_that_wins_comes_before_one_that_does_not() -> None:
    """Of two that are not trained, the one that is shown to be better says more than one that shows nothing."""
    found = advice([(BASE, 23.8), (RETRIEVAL, 30.0), (SMALL, 24.0)], pairs((RETRIEVAL, SMALL)))
    assert (found.kind, found.cell, found.best) == (AdviceKind.BASELINE_WINS, "retrieval_20k", "lora_20k")
    assert found.lead == lead(-6.0)
    unclear = advice([(BASE, 23.0), (RETRIEVAL, 23.9), (SMALL, 24.0)], set())
    assert (unclear.kind, unclear.cell, unclear.other) == (
        AdviceKind.NO_DIFFERENCE_TO_BASELINE, None, "retrieval_20k"
    )  # fmt: skip


def test_what_beats_no_baseline_is_not_taken_for_its_price() -> None:
    found = advice([(BASE, 24.0), (SMALL, 25.6), (LARGE, 26.0), (QLORA, 22.0)], pairs((BASE, LARGE), (LARGE, QLORA)))
    assert (found.kind, found.cell) == (AdviceKind.BEST_OF_SPOILED, "lora_50k")
    assert (found.beaten, found.idle) == ((), ("lora_20k",))


def test_no_difference_among_trained_cells() -> None:
    found = advice([(BASE, 18.0), (SMALL, 25.6), (LARGE, 26.0)], pairs((BASE, LARGE)))
    assert (found.kind, found.cell) == (AdviceKind.NONE_SHOWN, None)
    assert (found.best, found.other) == ("lora_50k", "lora_20k")


@pytest.mark.parametrize(("value", "uncorrected"), [(25.8, None), (25.0, 3)])
def test_no_difference_to_the_untrained(value: float, uncorrected: int | None) -> None:
    """An interval that leaves out 0 all the same is one before the correction for three pairs."""
    found = advice([(BASE, value), (SMALL, 24.0), (LARGE, 26.0)], pairs((SMALL, LARGE)))
    assert (found.kind, found.cell) == (AdviceKind.NO_DIFFERENCE_TO_BASELINE, None)
    assert (found.best, found.other, found.uncorrected) == ("lora_50k", "none", uncorrected)


def test_the_untrained_may_be_better() -> None:
    found = advice([(BASE, 30.0), (SMALL, 24.0)], pairs((BASE, SMALL)))
    assert (found.kind, found.cell, found.other) == (AdviceKind.BASELINE_WINS, "none", "none")


def test_no_winner_where_none_compares_with_the_best() -> None:
    found = advice([(SMALL, 24.0), (LARGE, 26.0)], set(), pairs((SMALL, LARGE)))
    assert (found.kind, found.cell) == (AdviceKind.NOT_COMPARABLE, None)
    assert (found.best, found.other, found.differences) == ("lora_50k", "lora_20k", STEPS)


def test_one_that_does_not_compare_is_named() -> None:
    found = advice([(SMALL, 24.0), (LARGE, 26.0), (QLORA, 25.0)], pairs((SMALL, LARGE)), pairs((LARGE, QLORA)))
    assert (found.cell, found.unlike, found.differences) == ("lora_50k", ("qlora_20k",), STEPS)


def test_nothing_trained_one_cell_and_no_score() -> None:
    assert advice([(BASE, 18.0)], set()) == Advice(AdviceKind.NOTHING_TRAINED)
    one = advice([(BASE, 18.0), (SMALL, 24.0)], pairs((BASE, SMALL)))
    assert (one.kind, one.cell) == (AdviceKind.ONE_CELL, None)
    assert recommend([SMALL, LARGE], {}, [], "").kind is AdviceKind.NO_SCORE
    assert recommend([BASE], {}, [], "").kind is AdviceKind.NOTHING_TRAINED


def test_the_negation_scores_as_the_caution_says() -> None:
    answer = Prediction("1", "", (NEGATION.reference,), NEGATION.answer)
    _, (row,) = score_predictions([answer], ["rouge", "bleu"])
    own = next(value for name, value in row.items() if name in ("bleu", "sentence_bleu"))
    assert (NEGATION.rouge, NEGATION.bleu) == (round(row["rougeL"], 1), round(own, 1))
