import itertools

import numpy as np
import pytest

from medqa_finetune.report.comparability import Axis, Difference, Fact
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval, Resampled, Settings
from medqa_finetune.report.stats.pareto import explained, fronts_of, pairs_tested, steps_of, undominated
from medqa_finetune.report.stats.scaling import series_of
from medqa_finetune.report.verdict import Cost, Machine, Unit
from tests.report.made import cell

SETTINGS = Settings(price_per_hour=2.0)
STEPS = (Difference(Fact.STEPS, (1,), (2,)),)


def resampled(name: str, value: float, error: float = 0.2) -> Resampled:
    draws = value + error * np.random.default_rng(int(value * 100)).standard_normal((1, SETTINGS.resamples))
    return Resampled(name, np.array([value]), draws, 1000)


def compared(
    first: str, second: str, difference: float | None, verdict: Finding = Finding.DIFFERENT, p: float = 0.01
) -> Comparison:
    if difference is None:
        return Comparison(
            first, second, "rougeL", (Axis.DATA,), None, None, None, None, None, None, Finding.NOT_COMPARABLE, STEPS
        )
    interval = Interval(difference - 0.6, difference + 0.6)
    return Comparison(first, second, "rougeL", (Axis.DATA,), difference, interval, None, None, p, p, verdict)


def test_undominated_is_what_a_look_at_every_pair_says() -> None:
    rng = np.random.default_rng(0)
    costs, scores = rng.integers(0, 4, 6).astype(float), rng.integers(0, 4, (6, 200)).astype(float)
    found = undominated(costs, scores)
    for one, draw in itertools.product(range(6), range(200)):
        beaten = any(
            costs[other] <= costs[one] and scores[other, draw] >= scores[one, draw]
            and (costs[other] < costs[one] or scores[other, draw] > scores[one, draw])
            for other in range(6)
        )  # fmt: skip
        assert found[one, draw] == (not beaten)


def test_fronts() -> None:
    cells = [cell("none", 20_000), cell("lora", 20_000), cell("lora", 50_000), cell("qlora", 50_000)]
    scores = {
        each.name: resampled(each.name, value) for each, value in zip(cells, (18.0, 24.0, 25.0, 24.5), strict=True)
    }
    hours, memory, money = fronts_of(cells, scores, "rougeL", SETTINGS)
    assert [(p.cell, p.on_front) for p in hours.points] == [
        ("none", True), ("lora_20k", True), ("lora_50k", True), ("qlora_50k", False)
    ]  # fmt: skip
    assert [(front.cost, front.unit, front.left_out) for front in (hours, memory, money)] == [
        (Cost.HOURS, Unit.GPU_HOURS, ()), (Cost.MEMORY, Unit.VRAM, ()), (Cost.MONEY, Unit.MONEY, ())
    ]  # fmt: skip
    assert hours.points[0].share == 1
    assert [point.cost for point in hours.points] == pytest.approx([0, 4000 / 3600, 10000 / 3600, 15625 / 3600])
    # P(qlora above lora_50k), 0.5 apart with 0.2 each: 1 - Phi(1.77).
    assert hours.points[3].share == pytest.approx(0.039, abs=0.01)
    assert [(p.cell, p.on_front) for p in memory.points] == [
        ("qlora_50k", True), ("lora_20k", False), ("lora_50k", True)
    ]  # fmt: skip
    assert [point.cost for point in money.points] == pytest.approx([2 * point.cost for point in hours.points])


def test_what_cannot_be_compared_is_left_out_and_named() -> None:
    cells = [cell("lora", 20_000), cell("lora", 50_000, device="A100"), cell("qlora", 20_000, n=5)]
    scores = {each.name: resampled(each.name, 20.0 + place) for place, each in enumerate(cells)}
    front = fronts_of(cells, scores, "rougeL", Settings())[0]
    assert [point.cell for point in front.points] == ["lora_20k"]
    assert front.left_out == ("lora_50k", "qlora_20k")


def test_hours_of_a_machine_that_did_other_work_do_not_compare() -> None:
    cells = [cell("lora", 20_000), cell("lora", 50_000, cpu_taken_rate=0.5), cell("qlora", 20_000)]
    scores = {each.name: resampled(each.name, 20.0 + place) for place, each in enumerate(cells)}
    hours, memory = fronts_of(cells, scores, "rougeL", Settings())
    assert ({point.cell for point in hours.points}, hours.left_out) == ({"lora_20k", "qlora_20k"}, ("lora_50k",))
    assert (len(memory.points), memory.left_out) == (3, ())


def test_no_front_against_a_cost_that_nobody_measured() -> None:
    each = cell("lora", 20_000, peak_vram_bytes=None, peak_rss_bytes=None)
    fronts = fronts_of([each], {each.name: resampled(each.name, 18.0)}, "rougeL", SETTINGS)
    assert [(front.cost, front.unit) for front in fronts] == [
        (Cost.HOURS, Unit.CPU_HOURS), (Cost.MONEY, Unit.MONEY)
    ]  # fmt: skip


def test_no_cost_without_training() -> None:
    base = cell("none", 20_000)
    assert fronts_of([base], {base.name: resampled(base.name, 18.0)}, "rougeL", SETTINGS) == []


def sizes() -> list[Cell]:
    return [cell("lora", size) for size in (20_000, 50_000, 100_000)]


@pytest.mark.parametrize("turned", [False, True])
def test_steps_have_what_more_data_buys_and_costs(turned: bool) -> None:
    pair = compared("lora_50k", "lora_20k", -0.8) if turned else compared("lora_20k", "lora_50k", 0.8)
    one, other = steps_of(series_of(sizes()), [pair, compared("lora_50k", "lora_100k", None)], "rougeL", SETTINGS)
    assert (one.series, one.first, one.second, one.sizes) == ("lora", "lora_20k", "lora_50k", ("20k", "50k"))
    assert (one.gain, one.interval) == (0.8, Interval(pytest.approx(0.2), pytest.approx(1.4)))  # type: ignore[arg-type]
    assert (one.verdict, one.p_holm, one.machine) == (Finding.DIFFERENT, 0.01, Machine.GPU)
    assert one.hours == pytest.approx(6000 / 3600)
    assert one.money == pytest.approx(12_000 / 3600)
    assert (other.gain, other.verdict, other.differences) == (None, Finding.NOT_COMPARABLE, STEPS)


def test_a_step_between_machines_has_no_price() -> None:
    cells = [cell("lora", 20_000), cell("lora", 50_000, micro_batch=1)]
    (step,) = steps_of(series_of(cells), [compared("lora_20k", "lora_50k", 0.8)], "rougeL", SETTINGS)
    assert (step.hours, step.money, step.gain) == (None, None, 0.8)


def test_the_first_step_that_the_correction_alone_keeps_from_being_different_says_so() -> None:
    comparisons = [
        compared("lora_20k", "lora_50k", 0.1, Finding.NONE_SHOWN),
        compared("lora_50k", "lora_100k", 0.8, Finding.NONE_SHOWN),
        compared("lora_20k", "lora_100k", None),
    ]
    steps = steps_of(series_of(sizes()), comparisons, "rougeL", SETTINGS)
    assert [step.uncorrected for step in explained(steps, comparisons)] == [None, 2]
    assert pairs_tested(comparisons, "rougeL") == 2
    twice = explained([*steps, steps[1]], comparisons)
    assert [step.uncorrected for step in twice] == [None, 2, None]
