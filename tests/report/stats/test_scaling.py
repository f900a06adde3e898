import numpy as np
import pytest

from medqa_finetune.report.comparability import Difference, Fact
from medqa_finetune.report.stats.intervals import Resampled, Settings
from medqa_finetune.report.stats.scaling import _to_scale, fit_of, power_law, series_of
from medqa_finetune.report.verdict import Curve, Fit, NoFit
from tests.report.made import cell, with_setting

SETTINGS = Settings()
SIZES = (20_000, 50_000, 100_000)


def resampled(name: str, value: float, error: float, seed: int = 0) -> Resampled:
    draws = value + error * np.random.default_rng([seed, int(value * 1000)]).standard_normal((1, SETTINGS.resamples))
    return Resampled(name, np.array([value]), draws, 1000)


def fit(values: tuple[float, ...], error: float, sizes: tuple[int, ...] = SIZES, score: str = "rougeL") -> Fit:
    cells = [cell("lora", size) for size in sizes]
    scores = {each.name: resampled(each.name, value, error) for each, value in zip(cells, values, strict=True)}
    return fit_of("lora", cells, scores, score, SETTINGS)


def test_a_power_law_is_found_again() -> None:
    sizes = np.array([1e4, 2e4, 5e4, 1e5, 2e5])
    found, inside = power_law(sizes, (30 - 400 * sizes**-0.4)[:, None])
    assert found[:, 0] == pytest.approx([30, 400, 0.4], rel=0.08)
    assert inside.all()


@pytest.mark.parametrize("values", [(20, 22, 21), (20, 19, 18), (20, 21, 23)])
def test_no_power_law_through_what_does_not_level_off(values: tuple[float, ...]) -> None:
    _, inside = power_law(np.array(SIZES, dtype=float), np.array(values, dtype=float)[:, None])
    assert not inside.any()


def test_three_sharp_points_bear_a_power_law_and_say_that_they_cannot_test_it() -> None:
    found = fit((24.0, 26.0, 26.8), error=0.02)
    assert (found.model, found.tested, found.no_fit) == (Curve.POWER_LAW, False, None)
    offset, interval = found.parameters["offset"]
    assert interval.low < offset < interval.high
    # However much data: the offset itself, for a share below its bound.
    assert found.limit == found.parameters["offset"]
    assert found.curve[0][:2] == pytest.approx((20_000, 24.0), abs=0.05)
    assert found.curve[-1][0] == pytest.approx(200_000)
    assert found.forecast[0] == 200_000
    assert found.forecast[1].value == found.curve[-1][1]


def test_three_blurred_points_do_not_and_that_is_said() -> None:
    found = fit((24.0, 26.0, 26.8), error=0.6)
    assert found.model is Curve.LOG_LINEAR
    gain, interval = found.parameters["per_doubling"]
    assert gain == pytest.approx(np.polyfit(np.log2(SIZES), (24.0, 26.0, 26.8), 1)[0])
    assert interval.low < gain < interval.high
    assert found.without_power_law is not None
    assert 0.05 < found.without_power_law <= 1


def test_no_forecast_is_of_a_perplexity_that_cannot_be() -> None:
    """It falls by factors: twice the last doubling of these would be below 0 on a straight line."""
    found = fit((7000.0, 1850.0, 510.0), 400.0, (30_000, 60_000, 120_000), "text_perplexity")
    assert found.model is Curve.LOG_LINEAR
    times = np.exp(np.polyfit(np.log2((30_000, 60_000, 120_000)), np.log((7000.0, 1850.0, 510.0)), 1)[0])
    assert np.exp(found.parameters["per_doubling"].value) == pytest.approx(times)
    assert found.forecast[0] == 240_000
    assert found.curve[-1][1] == pytest.approx(np.exp(np.log((7000, 1850, 510)).mean()) * times**2)
    assert all(1 <= low <= value <= high for _, value, low, high in found.curve)


def test_draws_of_a_perplexity_deviate_by_their_share() -> None:
    found = _to_scale(np.array([[100.0, 110.0, 90.0], [10.0, 11.0, -5.0]]), "perplexity")
    # The delta method: ln v + (draw - v) / v.
    assert found[0] == pytest.approx(np.log(100) + np.array([0, 0.1, -0.1]))
    assert found[1] == pytest.approx(np.log(10) + np.array([0, 0.1, -1.5]))


def test_no_forecast_is_of_a_share_beyond_100() -> None:
    found = fit((50.0, 70.0, 95.0), 3.0)
    assert found.curve[-1][1:] == (100.0, 100.0, 100.0)


def test_growth_is_shown_or_not() -> None:
    assert not fit((24.0, 24.1, 24.0), error=0.5).change_shown
    assert fit((24.0, 26.0), 0.1, SIZES[:2]).change_shown


def test_two_sizes_give_a_line_one_gives_nothing() -> None:
    two = fit((24.0, 26.0), 0.1, SIZES[:2])
    assert two.model is Curve.LOG_LINEAR
    assert two.parameters["per_doubling"][0] == pytest.approx(2 / np.log2(2.5))
    one = fit((24.0,), 0.1, SIZES[:1])
    assert (one.model, one.curve, one.no_fit) == (None, (), NoFit.ONE_SIZE)
    # Too few to try a power law, which is no finding of its own.
    assert two.without_power_law is None


def test_cells_that_do_not_compare_have_no_fit() -> None:
    cells = [cell("lora", 20_000), cell("lora", 50_000, precision="fp32")]
    scores = {each.name: resampled(each.name, 24.0 + place, 0.1) for place, each in enumerate(cells)}
    found = fit_of("lora", cells, scores, "rougeL", SETTINGS)
    assert (found.model, found.no_fit) == (None, NoFit.NOT_COMPARABLE)
    assert found.unlike == ("lora_20k", "lora_50k")
    assert found.differences == (Difference(Fact.PRECISION, ("fp16",), ("fp32",)),)


def test_series_of_one_name_are_told_apart() -> None:
    cells = [cell("lora", size) for size in (20_000, 50_000)]
    other = [with_setting(each, "train.epochs", 7) for each in cells]
    assert series_of([*cells, *other]) == {"lora": cells, "lora (2)": other}
    assert len(series_of([*cells, *other], {"train.epochs"})) == 1


def test_series_share_all_but_the_size() -> None:
    cells = [cell("lora", 50_000), cell("lora", 20_000), cell("qlora", 20_000), cell("none", 20_000),
             cell("lora", 20_000, rank=8)]  # fmt: skip
    named = {name: [each.train_size for each in group] for name, group in series_of(cells).items()}
    assert named == {"lora": [20_000, 50_000], "qlora": [20_000], "lora__method.rank=8": [20_000]}
