"""Pictures in the reader's language, and characters that no font has."""

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text as Drawing

from medqa_finetune.compat import fonts
from medqa_finetune.languages.choice import VARIABLE
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures import by_group, lettering, write
from medqa_finetune.report.figures.base import Chart, chart_input, chart_style, figure_of
from medqa_finetune.report.figures.overview import data_scale_figure
from medqa_finetune.report.figures.score_vs_size import score_against_size
from medqa_finetune.report.scores import score_info
from medqa_finetune.report.stats.groups import GroupScore
from medqa_finetune.report.stats.intervals import Interval, Settings
from tests.report.builders import group_of, matrix, record

NAMES = ("心血管内科", "呼吸与危重症医学科", "耳鼻咽喉头颈外科")
NOTHING = Analysis(Settings(), (), (), (), (), ())
LATIN = frozenset(map(chr, range(0x2E80)))


@pytest.fixture
def fontless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose fonts have no Chinese."""
    monkeypatch.setattr(fonts, "chinese_font", lambda: None)
    monkeypatch.setattr(fonts, "_characters", lambda: LATIN)


@pytest.fixture
def with_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has, at least by name, a font for all characters."""
    monkeypatch.setattr(fonts, "chinese_font", lambda: "Some Sans")
    monkeypatch.setattr(lettering, "undrawable", lambda text: set())
    monkeypatch.setattr(lettering, "escaped", lambda text: text)


def chart_of(tmp_path: Path) -> Chart:
    group = group_of(tmp_path, *(record(method) for method in ("none", "lora", "qlora")))
    return score_against_size(chart_input(group, group.cells, NOTHING), score_info("rougeL"))


def texts(chart: Chart, of: lettering.Lettering) -> set[str]:
    with chart_style(chart.name):
        return {each.get_text() for each in figure_of(chart, of).findobj(Drawing)}


@pytest.mark.usefixtures("with_font")
def test_pictures_speak_the_readers_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chart = chart_of(tmp_path)
    assert {"Training pairs", "untuned base", "LoRA"} <= texts(chart, lettering.for_pictures())
    monkeypatch.setenv(VARIABLE, "zh")
    assert {"训练问答对数", "未微调基座", "LoRA", "ROUGE-L 随数据量的变化"} <= texts(chart, lettering.for_pictures())
    # The page switches between both, and is drawn once.
    assert {"Training pairs", "untuned base"} <= texts(chart, lettering.for_page())
    group = group_of(tmp_path / "matrix", *matrix())
    given = [(group, chart_input(group, group.cells, NOTHING))]
    shown = {each.get_text() for each in data_scale_figure(given).findobj(Drawing)}
    assert {"得分", "训练问答对数"} <= shown
    assert not shown & {"Score", "Training pairs"}


@pytest.mark.parametrize("letters", [str, lambda text: "n" * len(text)], ids=["its own", "stand-ins"])
def test_labels_stay_in_the_picture(letters: Callable[[str], str]) -> None:
    figure = Figure()
    axes = figure.add_subplot(xlabel="Training pairs", ylabel="Score")
    own = lettering.Lettering("zh", letters)
    own.apply(figure)
    with lettering.lettered(own):
        if own.stands_in:
            figure.draw_without_rendering()
        own.restore()
        figure.draw_without_rendering()
    assert axes.get_xlabel() == "训练问答对数"
    for drawing in (axes.xaxis.label, axes.yaxis.label):
        assert min(drawing.get_window_extent().min) >= 0


@pytest.mark.usefixtures("fontless")
def test_without_a_font_pictures_are_english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "zh")
    assert "Training pairs" in texts(chart_of(tmp_path), lettering.for_pictures())
    assert fonts.missing_font(["lora"], chinese=True) is not None


def by_department(tmp_path: Path, count: int = 2) -> Chart:
    group = group_of(tmp_path, *matrix()[:count])
    bounds = Interval(1.0, 3.0)
    found = [
        GroupScore(cell.name, name, "rougeL", 2.0 + at, bounds if name else None, 9 - at, 1)
        for cell in group.cells
        for at, name in enumerate((*NAMES, ""))
    ]
    return by_group.by_group(group.cells, score_info("rougeL"), found)


@pytest.mark.usefixtures("fontless")
def test_svg_keeps_characters_that_no_font_has(tmp_path: Path) -> None:
    chart = by_department(tmp_path)
    (drawn,) = write.write_charts([chart], tmp_path / "figures")
    for svg in (drawn.svg, (tmp_path / "figures" / f"{chart.name}.svg").read_text(encoding="utf-8")):
        assert "心血管内科" in svg
        assert "\\u" not in svg
    escaped = {text for text in texts(chart, lettering.for_pictures()) if "\\u" in text}
    assert len(escaped) == len(NAMES)
    assert all(LATIN.issuperset(text) for text in escaped)


def test_every_group_has_a_row_and_every_cell_a_column(tmp_path: Path) -> None:
    chart = by_department(tmp_path, 7)
    assert list(chart.data["group"].unique()) == [*NAMES, ""]
    assert len(chart.data) == 4 * 7
    with chart_style(chart.name):
        axes = figure_of(chart, lettering.for_page()).axes[0]
        rows = [each.get_text() for each in axes.get_yticklabels()]
    assert [row.rpartition("(")[2] for row in rows] == ["9)", "8)", "7)", "6)"]
    assert len(axes.get_xticklabels()) == 7
    assert sum(text.get_text() in ("2.00", "3.00", "4.00", "5.00") for text in axes.texts) == 4 * 7
