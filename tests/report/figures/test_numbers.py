"""Numbers in charts, whose digits follow their magnitude."""

import math

import pytest

from medqa_finetune.report.figures.numbers import alike, amount, tick


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"), (0.0031, "0.0031"), (0.72, "0.72"), (1.274, "1.27"), (22.46, "22.5"), (139.4, "139"),
        (12345.0, "12,345"), (2_100_000.0, "2.10M"), (3.2e10, "3.2e+10"), (3e-6, "3.0e-06"), (-0.004, "-0.0040"),
    ],
)  # fmt: skip
def test_three_digits_at_any_magnitude(value: float, written: str) -> None:
    assert amount(value) == written


@pytest.mark.parametrize(("value", "written"), [(0.0, "0"), (0.25, "0.25"), (3000.0, "3,000"), (5e6, "5.00M")])
def test_ticks_are_round(value: float, written: str) -> None:
    assert tick(value) == written


def test_numbers_of_one_chart_have_the_same_places() -> None:
    assert [alike([24.8, 1.0, math.nan])(value) for value in (24.8, 1.0)] == ["24.80", "1.00"]
    assert [alike([0.05, 0.01])(value) for value in (0.05, 0.01)] == ["0.0500", "0.0100"]
    assert [alike([1234.5, -3.0], signed=True)(value) for value in (1234.5, -3.0, 0.0)] == ["+1,234", "-3", "0"]


def test_what_is_not_zero_is_never_written_as_zero() -> None:
    assert alike([24.8, 0.001])(0.001) == "0.0010"
    assert alike([24.8], signed=True)(-0.0004) == "-0.00040"
    assert alike([0.0])(0.0) == "0.00"
