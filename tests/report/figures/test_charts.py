import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.report.figures.base import Chart, chart_style, legend_columns, short
from medqa_finetune.report.figures.cells import Cell, cells_of, entry_colours
from medqa_finetune.report.figures.curves import POINTS_PER_LINE, curve_of, learning_curves, read_log
from medqa_finetune.report.figures.heatmap import heat_map
from medqa_finetune.report.figures.pareto import pareto_chart
from medqa_finetune.report.figures.significance import significance_matrix
from medqa_finetune.report.figures.write import inline
from medqa_finetune.report.groups import Group, groups_of
from medqa_finetune.report.scores import score_info
from medqa_finetune.report.table import results_table
from medqa_finetune.report.words import Text
from tests.report.builders import matrix, record, write
from tests.report.folders import analysis


def group_of(root: Path, *records: Any) -> Group:
    (group,) = groups_of(results_table(find_runs(write(root, *records)), root))
    return group


def drawn(chart: Chart) -> Any:
    with chart_style(chart.name):
        axes = Figure(figsize=(chart.width, chart.height), layout="constrained").add_subplot()
        chart.draw(axes)
    return axes


def lightness(colour: Any) -> float:
    return 0.299 * float(colour[0]) + 0.587 * float(colour[1]) + 0.114 * float(colour[2])


def test_cells_are_runs_that_differ_in_their_seed(tmp_path: Path) -> None:
    records = [record("none"), *(record("lora", data, seed) for data in ("20k", "50k") for seed in (2, 0, 1))]
    cells = cells_of(group_of(tmp_path, *records))
    assert [(cell.name, cell.label, cell.size, len(cell.runs)) for cell in cells] == [
        ("none", "untuned base", 0, 1), ("lora_20k", "lora 20k", 20000, 3), ("lora_50k", "lora 50k", 50000, 3)
    ]  # fmt: skip
    assert list(cells[1].runs["seed"]) == [0, 1, 2]
    assert cells[1].mean("rougeL") == pytest.approx(24.5)
    assert cells[1].sd("rougeL") == pytest.approx(0.15)
    assert math.isnan(cells[0].sd("rougeL"))


def test_studies_stand_in_the_name_of_a_cell(tmp_path: Path) -> None:
    write(tmp_path / "demo", record("lora", "20k"))
    (group,) = groups_of(results_table(find_runs(tmp_path), tmp_path))
    assert [cell.name for cell in cells_of(group)] == ["demo/lora_20k"]


@pytest.mark.parametrize("column", ["rougeL", "perplexity"])
def test_better_is_brighter_in_a_heat_map(tmp_path: Path, column: str) -> None:
    cells = cells_of(group_of(tmp_path, *matrix()))
    runs = [cell.runs.assign(perplexity=100.0 - cell.mean("rougeL")) for cell in cells]
    cells = [Cell(cell.name, cell.entry, cell.size, rows, cell.label) for cell, rows in zip(cells, runs, strict=True)]
    score = score_info(column)
    axes = drawn(heat_map(cells, score, ""))
    values = [float(text.get_text()) for text in axes.texts]
    by_value = sorted(zip(values, (lightness(box.get_facecolor()) for box in axes.patches), strict=True))
    brightness = [light for _, light in by_value]
    assert brightness == sorted(brightness, reverse=score.sign < 0)
    assert len(values) == 7


def test_the_matrix_says_row_less_column(tmp_path: Path) -> None:
    cells = cells_of(group_of(tmp_path, *matrix()[:3]))
    found = analysis([cell.name for cell in cells]).comparisons
    chart = significance_matrix(cells, score_info("rougeL"), found, "")
    axes = drawn(chart)
    # The made-up difference is the second cell less the first: above the diagonal, the first is the row.
    shown = {(math.floor(t.get_position()[1]), math.floor(t.get_position()[0])): t for t in axes.texts}
    assert {place: text.get_text() for place, text in shown.items()} == {
        (0, 1): "-1.50", (0, 2): "-1.50", (1, 2): "-1.50", (1, 0): "+1.50", (2, 0): "+1.50", (2, 1): "+1.50"
    }  # fmt: skip
    bold = {place for place, text in shown.items() if text.get_fontweight() == "bold"}
    assert bold == {(0, 2), (2, 0)}
    assert list(chart.data["difference"]) == [1.5] * 3


def test_the_front_goes_through_what_lies_on_it(tmp_path: Path) -> None:
    group = group_of(tmp_path, *matrix())
    cells = cells_of(group)
    (front,) = analysis([cell.name for cell in cells]).verdicts[0].pareto
    chart = pareto_chart(front, cells, entry_colours(group), "")
    line, *marks = drawn(chart).get_lines()
    assert list(line.get_xdata()) == [1.0, 3.0]
    assert [mark.get_markerfacecolor() != "none" for mark in marks] == [True, False, True]
    assert list(chart.data["cell"]) == ["lora_20k", "lora_50k", "lora_100k"]


def test_a_curve_is_the_mean_over_seeds_and_is_thinned(tmp_path: Path) -> None:
    group = group_of(tmp_path, record("lora", "20k", 0), record("lora", "20k", 1))
    (cell,) = cells_of(group)
    logs = []
    for seed, loss in ((0, 2.0), (1, 4.0)):
        run = RunDir(tmp_path / cell.runs["name"].iloc[seed])
        for step in range(1, 1001):
            run.log_metrics({"step": step, "loss": loss + step})
        read = run.read()
        assert read is not None
        logs.append(read_log(run, read))
    curve = curve_of(cell, logs)
    assert list(curve.rows["loss"][:2]) == [4.0, 5.0]
    steps, tokens, validation, _ = learning_curves([curve], entry_colours(group), "")
    assert len(steps.data) <= POINTS_PER_LINE
    assert steps.data.iloc[-1][["step", "loss"]].tolist() == [1000.0, 1003.0]
    assert tokens.data["tokens"].iloc[-1] == 1000 * 4_000_000 / 1250
    assert validation.data.empty
    assert [text.get_text() for text in drawn(validation).texts] == ["not measured"]


def test_a_log_that_cannot_be_read_is_no_curve(tmp_path: Path) -> None:
    write(tmp_path, record())
    run = RunDir(tmp_path / "lora_20k")
    run.metrics_path.write_text('{"step": 1, "loss": 2}\nnonsense\n', encoding="utf-8")
    read = run.read()
    assert read is not None
    assert read_log(run, read).empty


def test_svg_for_the_page_speaks_both_languages_and_takes_its_colours() -> None:
    chart = Chart("x", Text('a "title" <b>', "题"), Text("", ""), pd.DataFrame(), lambda axes: None)
    svg = (
        '<?xml version="1.0"?>\n<svg width="360pt" height="2pt" viewBox="0 0 360 2"><metadata>m</metadata>'
        '<g id="figure_1"><g id="hint:a &lt;b&gt;"><path style="fill: #24292f"/></g>'
        "<text style=\"font-size: 9px; font-family: 'DejaVu Sans'; fill: #24292f\">Training pairs</text>"
        "<text>lora &amp; 20k</text></g></svg>"
    )
    body = inline(svg, chart)
    assert body.startswith('<svg role="img" aria-label="a &quot;title&quot; &lt;b&gt;" viewBox="0 0 360 2">')
    assert '<tspan class="en">Training pairs</tspan><tspan class="zh">训练问答对数</tspan></text>' in body
    assert "<g><title>a &lt;b&gt;</title><path" in body
    assert "lora &amp; 20k</text>" in body
    assert "fill: var(--ink)" in body
    assert not [word for word in ("metadata", "font-family", "figure_1", "#24292f") if word in body]


def test_long_labels_take_two_lines() -> None:
    assert short("lora") == "lora"
    assert short("a" * 100) == "a" * 22 + "\n" + "a" * 21 + "…"
    assert legend_columns(["lora", "qlora"]) > legend_columns(["lora (method.rank=8, train.epochs=3)"])
