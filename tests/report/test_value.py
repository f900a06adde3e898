import itertools
from typing import Any

import numpy as np
import pytest

from medqa_finetune.report.cells import Cell
from medqa_finetune.report.statistics import Comparison, Drawn, Interval, Settings
from medqa_finetune.report.value import fronts_of, steps_of, undominated
from medqa_finetune.report.words import Text
from tests.report.made import cell

SETTINGS = Settings(price_per_hour=2.0)


def drawn(name: str, value: float, error: float = 0.2) -> Drawn:
    draws = value + error * np.random.default_rng(int(value * 100)).standard_normal((1, SETTINGS.resamples))
    return Drawn(name, np.array([value]), draws, 1000)


def compared(first: str, second: str, difference: float | None, verdict: Any = "different") -> Comparison:
    interval = None if difference is None else Interval(difference - 0.6, difference + 0.6)
    p = None if difference is None else 0.01
    reason = Text("They differ in steps.", "步数不同。")
    return Comparison(first, second, "rougeL", "data", difference, interval, None, None, p, p, verdict, reason)


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
    scores = {each.name: drawn(each.name, value) for each, value in zip(cells, (18.0, 24.0, 25.0, 24.5), strict=True)}
    hours, memory, money = fronts_of(cells, scores, "rougeL", SETTINGS)
    assert [(p.cell, p.on_front) for p in hours.points] == [
        ("none", True), ("lora_20k", True), ("lora_50k", True), ("qlora_50k", False)
    ]  # fmt: skip
    assert hours.unit == "GPU-hours"
    assert [point.cost for point in hours.points] == pytest.approx([0, 4000 / 3600, 10000 / 3600, 15625 / 3600])
    # P(qlora above lora_50k), 0.5 apart with 0.2 each: 1 - Phi(1.77).
    assert hours.points[3].share == pytest.approx(0.039, abs=0.01)
    assert [(p.cell, p.on_front) for p in memory.points] == [
        ("qlora_50k", True), ("lora_20k", False), ("lora_50k", True)
    ]  # fmt: skip
    assert [point.cost for point in money.points] == pytest.approx([2 * point.cost for point in hours.points])
    assert "nothing beats none (100%)" in hours.text.en


def test_what_cannot_be_compared_is_left_out_and_named() -> None:
    cells = [cell("lora", 20_000), cell("lora", 50_000, device="A100"), cell("qlora", 20_000, n=5)]
    scores = {each.name: drawn(each.name, 20.0 + place) for place, each in enumerate(cells)}
    front = fronts_of(cells, scores, "rougeL", Settings())[0]
    assert [point.cell for point in front.points] == ["lora_20k"]
    assert "lora_50k, qlora_20k" in front.text.en


def test_no_cost_without_training() -> None:
    base = cell("none", 20_000)
    assert fronts_of([base], {base.name: drawn(base.name, 18.0)}, "rougeL", SETTINGS) == []


def sizes() -> list[Cell]:
    return [cell("lora", size) for size in (20_000, 50_000, 100_000)]


@pytest.mark.parametrize("turned", [False, True])
def test_steps_say_what_more_data_buys_and_costs(turned: bool) -> None:
    pair = compared("lora_50k", "lora_20k", -0.8) if turned else compared("lora_20k", "lora_50k", 0.8)
    steps = steps_of(sizes(), [pair, compared("lora_50k", "lora_100k", None, "not comparable")], "rougeL", SETTINGS)
    assert steps[0].text.en == (
        "lora 20k → 50k: +0.80 ROUGE-L [0.20, 1.40] for 1.7 GPU-hours more (price 3.33); "
        "different (p = 0.0100 after Holm)."
    )
    assert steps[0].text.zh == (
        "lora 20k → 50k：+0.80 ROUGE-L [0.20, 1.40]，多用 1.7 GPU 小时（费用 3.33）；有差异（Holm 校正后 p = 0.0100）。"
    )
    assert (steps[0].gain, steps[0].interval) == (0.8, Interval(pytest.approx(0.2), pytest.approx(1.4)))  # type: ignore[arg-type]
    assert steps[1].text.en == "lora 50k → 100k: not comparable. They differ in steps."
    assert steps[1].gain is None


def test_a_step_between_machines_has_no_price() -> None:
    cells = [cell("lora", 20_000), cell("lora", 50_000, micro_batch=1)]
    (step,) = steps_of(cells, [compared("lora_20k", "lora_50k", 0.8)], "rougeL", SETTINGS)
    assert (step.hours, step.money) == (None, None)
    assert step.text.en == "lora 20k → 50k: +0.80 ROUGE-L [0.20, 1.40]; different (p = 0.0100 after Holm)."
