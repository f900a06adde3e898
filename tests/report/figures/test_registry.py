"""Charts of an installed package: found by their entry point, and refused where they cannot be shown."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.axes import Axes

from medqa_finetune.errors import ConfigError
from medqa_finetune.report.figures import registry
from medqa_finetune.report.figures.base import Chart, ChartInput, chart_input
from medqa_finetune.report.messages.language import Text
from tests.faulty import only_fault
from tests.report.builders import group_of, record
from tests.report.folders import analysis, write_folders, write_page

NAME, SECTION = "my_chart", "more"


def my_charts(given: ChartInput) -> Iterator[Chart]:
    title = Text("Seeds of a cell", "每格种子数")
    data = pd.DataFrame(
        {"cell": [cell.name for cell in given.cells], "seeds": [len(cell.runs) for cell in given.cells]}
    )
    yield Chart(f"{given.prefix}{NAME}", SECTION, title, Text("", ""), data, _draw)


def _draw(axes: Axes) -> None:
    axes.set_title("mine")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("mine", f"{__name__}:my_charts", registry.ENTRY_POINTS)])
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))


@pytest.mark.usefixtures("installed")
def test_an_installed_chart_is_drawn_into_the_page(tmp_path: Path) -> None:
    write_folders(tmp_path, [record()], count=3)
    page = write_page(tmp_path, analysis(["lora_20k"])).read_text(encoding="utf-8")
    assert "每格种子数" in page
    table = pd.read_csv(tmp_path / "summary" / "figures" / f"{NAME}.csv")
    assert table.to_dict("records") == [{"cell": "lora_20k", "seeds": 1}]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("constant", "value", "code"),
    [("NAME", "heat_rougeL", "bad-name"), ("NAME", "../mine", "bad-name"), ("SECTION", "elsewhere", "not-allowed")],
)
def test_an_installed_chart_that_cannot_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constant: str, value: str, code: str
) -> None:
    monkeypatch.setitem(globals(), constant, value)
    group = group_of(tmp_path, record())
    with pytest.raises(ConfigError) as caught:
        registry.charts_of(chart_input(group, group.cells, analysis(["lora_20k"])))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, "mine", value)


def test_an_entry_point_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("mine", "no_such_module:charts", registry.ENTRY_POINTS)])
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    group = group_of(tmp_path, record())
    with pytest.raises(ConfigError) as caught:
        registry.charts_of(chart_input(group, group.cells, analysis(["lora_20k"])))
    assert only_fault(caught).code == "not-importable"
