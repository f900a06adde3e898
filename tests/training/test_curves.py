import io
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from medqa_finetune.training.curves import draw_curves, plot_curves

ROWS: list[dict[str, Any]] = [
    {"step": 2, "loss": 3.0, "learning_rate": 1e-4, "grad_norm": None},
    {"step": 4, "loss": 2.0, "learning_rate": 2e-4},
    {"step": 4, "eval_loss": 2.5},
    {"step": 6, "loss": 1.5, "learning_rate": 0.0},
    {"step": 6, "eval_loss": 2.25},
    {"step": 6, "train_loss": 2.2},
]


def curves(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata().tolist()]  # type: ignore[union-attr]
        for line in axes.get_lines()
    }


def test_left_panel_holds_both_losses() -> None:
    left, _ = plot_curves(ROWS, "a run").axes
    assert curves(left) == {"training": [(2, 3.0), (4, 2.0), (6, 1.5)], "validation": [(4, 2.5), (6, 2.25)]}
    legend = left.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation"]


def test_right_panel_holds_the_learning_rate() -> None:
    _, right = plot_curves(ROWS, "a run").axes
    assert curves(right) == {"Learning rate": [(2, 1e-4), (4, 2e-4), (6, 0.0)]}


def test_axes_name_their_units_and_the_figure_its_run() -> None:
    figure = plot_curves(ROWS, "lora_20k")
    assert [axes.get_xlabel() for axes in figure.axes] == ["Training step", "Training step"]
    assert "nats" in figure.axes[0].get_ylabel()
    assert figure.get_suptitle() == "lora_20k"


def test_chinese_readers_get_chinese_words_where_a_font_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDQA_LANG", "zh")
    for font, words in (("Noto Sans SC", ["训练步数"] * 2), (None, ["Training step"] * 2)):
        monkeypatch.setattr("medqa_finetune.compat.fonts.chinese_font", lambda font=font: font)
        assert [axes.get_xlabel() for axes in plot_curves(ROWS, "lora_20k").axes] == words


@pytest.mark.parametrize("rows", [ROWS, [], [{"step": 1, "train_loss": 2.0}], [{"step": 1, "loss": None}]])
def test_picture_is_a_whole_png_even_without_points(rows: list[dict[str, Any]]) -> None:
    (png,) = draw_curves(rows, "a run")
    picture = imread(io.BytesIO(png), format="png")
    # 10 by 4 inches at 150 dots per inch.
    assert picture.shape[:2] == (600, 1500)
    assert picture.min() < picture.max()


def test_without_losses_there_is_no_empty_legend() -> None:
    assert plot_curves([], "a run").axes[0].get_legend() is None


def test_equal_curves_are_equal_files_in_every_format() -> None:
    first, second = (draw_curves(ROWS, "a_$1", ("svg", "pdf")) for _ in range(2))
    assert first == second
    assert first[0].startswith(b"<?xml")
    assert first[1].startswith(b"%PDF")
