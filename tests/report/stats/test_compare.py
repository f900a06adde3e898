"""Two cells compared: with several seeds, the larger of two p values; the sizes of effects; what may be compared."""

import dataclasses

import numpy as np
import pytest

from medqa_finetune.report.comparability import Fact
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.bootstrap import Sample, mean, randomisation
from medqa_finetune.report.stats.compare import ScoreResults, compare_all
from medqa_finetune.report.stats.intervals import Finding, SeedBasis, Settings
from medqa_finetune.report.stats.samples import CellSamples
from tests.report.made import cell

QUESTIONS = 200
SETTINGS = Settings(resamples=4000, trials=2000)


def answered(each: Cell, *levels: float, noise: float = 1.0, ids: int = 0) -> CellSamples:
    """A cell whose runs score so much on average, with the same noise from question to question for every run."""
    part = noise * np.random.default_rng(len(each.name)).standard_normal((QUESTIONS, 1))
    part -= part.mean()
    samples = tuple(Sample(level + part, mean) for level in levels)
    names = np.array([f"q{ids + number:05}" for number in range(QUESTIONS)])
    return CellSamples(each, names, {"rougeL": samples})


def compare(*cells: CellSamples) -> ScoreResults:
    return compare_all(cells, "rougeL", SETTINGS)


def test_p_of_one_seed_is_the_randomisation_tests() -> None:
    first, second = answered(cell("lora"), 20.0), answered(cell("qlora"), 20.1)
    (found,) = compare(first, second).comparisons
    pair = (first.samples["rougeL"][0], second.samples["rougeL"][0])
    assert found.p == randomisation([pair], SETTINGS.trials, SETTINGS.seed)[0]
    assert found.difference == pytest.approx(0.1)
    assert found.seeds is SeedBasis.ONE


def test_seeds_that_disagree_show_no_difference_however_sure_each_is() -> None:
    """The questions are certain; 1 against a standard error of (2 / 3)^0.5 is t = 1.22, of which p is 0.27."""
    first = answered(cell("lora", seeds=3), 19.0, 20.0, 21.0, noise=0.01)
    second = answered(cell("qlora", seeds=3), 20.0, 21.0, 22.0, noise=0.01)
    (found,) = compare(first, second).comparisons
    pair = (first.samples["rougeL"][1], second.samples["rougeL"][1])
    assert randomisation([pair], SETTINGS.trials, SETTINGS.seed)[0] < 0.001
    assert found.p is not None
    # Six degrees of freedom: R's 2 * pt(-1.2247, 6).
    assert found.p == pytest.approx(0.267, abs=0.03)
    assert (found.verdict, found.seeds) == (Finding.NONE_SHOWN, SeedBasis.SEVERAL)


def test_of_several_seeds_the_randomisation_test_counts_where_it_is_larger() -> None:
    first = answered(cell("lora", seeds=2), 20.0, 20.0, noise=3.0)
    second = answered(cell("qlora", seeds=2), 20.0, 20.0, noise=3.0)
    (found,) = compare(first, second).comparisons
    assert found.difference == pytest.approx(0.0)
    assert found.p == pytest.approx(1.0, abs=0.05)


def test_effects_are_in_standard_deviations_of_the_questions_difference() -> None:
    first, second = answered(cell("lora"), 20.0), answered(cell("qlora"), 20.5)
    (found,) = compare(first, second).comparisons
    apart = second.samples["rougeL"][0].columns - first.samples["rougeL"][0].columns
    assert found.effect == pytest.approx(0.5 / apart.std(), rel=0.05)
    assert found.interval is not None
    assert found.effect_interval is not None
    assert found.effect is not None
    scale = found.effect / 0.5
    assert found.effect_interval.low == pytest.approx(found.interval.low * scale)
    assert found.effect_interval.high == pytest.approx(found.interval.high * scale)


def test_a_difference_that_no_question_varies_has_no_effect_size() -> None:
    first, second = answered(cell("lora"), 20.0, noise=0.0), answered(cell("qlora"), 21.0, noise=0.0)
    (found,) = compare(first, second).comparisons
    assert (found.effect, found.effect_interval) == (None, None)
    assert found.verdict is Finding.DIFFERENT


def test_seeds_of_a_pair_are_those_of_its_trained_cells() -> None:
    base, one, three = cell("none"), cell("lora"), cell("qlora", seeds=3)
    named = {each.name: answered(each, *[20.0] * len(each.runs)) for each in (base, one, three)}
    found = {(each.first, each.second): each.seeds for each in compare(*named.values()).comparisons}
    assert found == {
        (base.name, one.name): SeedBasis.ONE,
        (base.name, three.name): SeedBasis.SEVERAL,
        (one.name, three.name): SeedBasis.SOME,
    }


def test_cells_with_other_questions_are_not_compared() -> None:
    cells = [answered(cell("none"), 10.0), answered(cell("lora"), 20.0), answered(cell("qlora"), 21.0, ids=1)]
    base, *others = compare(*cells).comparisons
    assert base.verdict is not Finding.NOT_COMPARABLE
    for each in others:
        assert (each.verdict, each.p, each.p_holm) == (Finding.NOT_COMPARABLE, None, None)
        assert [difference.what for difference in each.differences] == [Fact.ANSWERED]


def test_a_cell_without_the_score_is_left_out() -> None:
    cells = [answered(cell("none"), 10.0), answered(cell("lora"), 20.0)]
    without = dataclasses.replace(answered(cell("qlora"), 21.0), samples={})
    found = compare(cells[0], without, cells[1])
    assert [score.cell for score in found.scores] == ["none", "lora_20k"]
    assert [each.value for each in found.scores] == pytest.approx([10, 20])
    assert len(found.comparisons) == 1
