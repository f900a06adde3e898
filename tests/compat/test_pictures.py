"""Files of figures: the same for the same figure, in every format."""

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from medqa_finetune.compat.pictures import PICTURES, picture


def drawn() -> Figure:
    figure = Figure()
    figure.add_subplot().plot([1, 2], [3, 4])
    return figure


@pytest.mark.parametrize("ending", PICTURES)
def test_equal_figures_are_equal_files(ending: str) -> None:
    with mpl.rc_context({"svg.hashsalt": "x"}):
        first, second = (picture(drawn(), ending, 50) for _ in range(2))
    assert first == second
