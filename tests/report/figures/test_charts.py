import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from medqa_finetune.compat.matplotlib import SvgImage
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.report.figures.base import (
    HINT,
    LINE,
    NOT_MEASURED,
    Chart,
    chart_input,
    chart_style,
    colours,
    legend_columns,
)
from medqa_finetune.report.figures.curves import POINTS_PER_LINE, curve_of, learning_curves, read_log
from medqa_finetune.report.figures.heatmap import BASELINE, heat_map
from medqa_finetune.report.figures.pareto import pareto_chart
from medqa_finetune.report.figures.score_vs_size import score_against_size
from medqa_finetune.report.figures.significance import significance_matrix
from medqa_finetune.report.figures.swept import CHOSEN
from medqa_finetune.report.figures.swept import charts as swept_charts
from medqa_finetune.report.figures.write import inline
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.names import two_lines
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import score_info
from tests.report.builders import SIZES, group_of, matrix, record, runs_of
from tests.report.folders import analysis
from tests.report.stats.test_choice import tried


def drawn(chart: Chart) -> Axes:
    with chart_style(chart.name):
        axes = Figure(figsize=(chart.width, chart.height), layout="constrained").add_subplot()
        chart.draw(axes)
    return axes


def lightness(colour: Any) -> float:
    return 0.299 * float(colour[0]) + 0.587 * float(colour[1]) + 0.114 * float(colour[2])


def with_value(cell: Cell, column: str, value: float) -> Cell:
    runs = tuple(replace(run, values={**run.values, column: value}) for run in cell.runs)
    return replace(cell, runs=runs)


def test_cells_are_runs_that_differ_in_their_seed(tmp_path: Path) -> None:
    records = [record("none"), *(record("lora", data, seed) for data in ("20k", "50k") for seed in (2, 0, 1))]
    cells = group_of(tmp_path, *records).cells
    assert [(cell.name, cell.label, cell.train_size, len(cell.runs)) for cell in cells] == [
        ("none", "untuned base", 0, 1), ("lora_20k", "LoRA 20k", 20000, 3), ("lora_50k", "LoRA 50k", 50000, 3)
    ]  # fmt: skip
    assert [run.known.seed for run in cells[1].runs] == [0, 1, 2]
    assert cells[1].mean("rougeL") == pytest.approx(24.5)
    assert cells[1].sd("rougeL") == pytest.approx(0.15)
    assert math.isnan(cells[0].sd("rougeL"))


def test_studies_stand_in_the_name_of_a_cell(tmp_path: Path) -> None:
    runs_of(tmp_path / "demo", record("lora", "20k"))
    assert [cell.name for cell in group_of(tmp_path).cells] == ["demo/lora_20k"]


@pytest.mark.parametrize("column", ["rougeL", "perplexity"])
def test_better_is_brighter_in_a_heat_map(tmp_path: Path, column: str) -> None:
    cells = group_of(tmp_path, *matrix()).cells
    cells = [with_value(cell, "perplexity", 100.0 - cell.mean("rougeL")) for cell in cells]
    score = score_info(column)
    axes = drawn(heat_map(cells, score))
    values = [float(text.get_text()) for text in axes.texts]
    base, *trained = zip(values, axes.patches, strict=True)
    brightness = [lightness(box.get_facecolor()) for _, box in sorted(trained, key=lambda pair: pair[0])]
    assert brightness == sorted(brightness, reverse=score.sign < 0)
    assert len(values) == 7
    assert to_hex(base[1].get_facecolor()) == LINE


def test_a_far_baseline_leaves_the_colours_alone(tmp_path: Path) -> None:
    cells = group_of(tmp_path, *matrix()).cells
    colours_of = [
        [box.get_facecolor() for box in drawn(heat_map(shown, score_info("rougeL"))).patches[1:]]
        for shown in (cells, [with_value(cells[0], "rougeL", 90.0), *cells[1:]])
    ]
    assert colours_of[0] == colours_of[1]
    assert len(set(colours_of[0])) == 6


def test_a_heat_map_writes_intervals_and_explains_its_dash(tmp_path: Path) -> None:
    cells = [cell for cell in group_of(tmp_path, *matrix()).cells if cell.name != "qlora_50k"]
    scores = {(each.cell, each.score): each for each in analysis([cell.name for cell in cells]).scores}
    chart = heat_map(cells, score_info("rougeL"), scores=scores)
    texts = [text.get_text() for text in drawn(chart).texts]
    assert texts.count("[20.00, 30.00]") == 6
    assert texts.count("–") == 1
    assert chart.handles is not None
    assert [handle.get_label() for handle in chart.handles()] == [BASELINE, NOT_MEASURED]


@pytest.mark.parametrize(
    ("value", "written"), [(0.0123, "0.0123"), (-4.5, "-4.50"), (43210.5, "43,210"), (3.2e7, "32.0M")]
)
def test_numbers_of_a_heat_map_follow_their_magnitude(tmp_path: Path, value: float, written: str) -> None:
    (cell,) = group_of(tmp_path, record()).cells
    axes = drawn(heat_map([with_value(cell, "rougeL", value)], score_info("rougeL")))
    assert [text.get_text() for text in axes.texts] == [written]


def test_the_matrix_says_row_less_column(tmp_path: Path) -> None:
    cells = group_of(tmp_path, *matrix()[:3]).cells
    found = analysis([cell.name for cell in cells]).comparisons
    chart = significance_matrix(cells, score_info("rougeL"), found)
    axes = drawn(chart)
    # The made-up difference is the second cell less the first: above the diagonal, the first is the row.
    shown = {(math.floor(t.get_position()[1]), math.floor(t.get_position()[0])): t for t in axes.texts}
    assert {place: text.get_text() for place, text in shown.items()} == {
        (0, 1): "-1.50", (0, 2): "-1.50", (1, 2): "-1.50", (1, 0): "+1.50", (2, 0): "+1.50", (2, 1): "+1.50"
    }  # fmt: skip
    bold = {place for place, text in shown.items() if text.get_fontweight() == "bold"}
    assert bold == {(0, 2), (2, 0)}
    assert list(chart.data["difference"]) == [1.5] * 3


def test_a_cell_without_the_score_has_no_row(tmp_path: Path) -> None:
    cells = group_of(tmp_path, *matrix()[:3]).cells
    found = analysis([cell.name for cell in cells[:2]]).comparisons
    (run,) = cells[2].runs
    without = replace(cells[2], runs=(replace(run, values={**run.values, "rougeL": None}),))
    axes = drawn(significance_matrix([*cells[:2], without], score_info("rougeL"), found))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["untuned base", "LoRA 20k"]


def test_ten_entries_have_ten_colours() -> None:
    assert len(set(colours([f"LoRA lr {rate}" for rate in range(10)]).values())) == 10
    usual = colours(["LoRA", "QLoRA", "LoRA lr 1e-4"])
    assert usual["LoRA"] == colours(["LoRA"])["LoRA"]
    assert len(set(usual.values())) == 3


@pytest.mark.parametrize(("base", "scale"), [(19_000.0, "log"), (30.0, "linear")])
def test_a_far_perplexity_leaves_the_lines_apart(tmp_path: Path, base: float, scale: str) -> None:
    group = group_of(tmp_path, *matrix())
    cells = [with_value(cell, "perplexity", 20.0 if cell.train_size else base) for cell in group.cells]
    given = chart_input(group, cells, analysis([cell.name for cell in cells]))
    assert drawn(score_against_size(given, score_info("perplexity"))).get_yscale() == scale


def test_marks_of_a_size_stay_at_their_size(tmp_path: Path) -> None:
    records = []
    for rate in range(1, 8):
        for size in SIZES:
            name = f"lora_{size}__train.learning_rate={rate}"
            config = record("lora", size).config | {"train": {"learning_rate": float(rate)}}
            records.append(record("lora", size, name=name, identity=name, config=config))
    group = group_of(tmp_path, *records)
    given = chart_input(group, group.cells, analysis([cell.name for cell in group.cells]))
    found = [
        np.asarray(line.get_xdata()) for line in drawn(score_against_size(given, score_info("rougeL"))).get_lines()
    ]
    lines = [at for at in found if len(at) == len(SIZES)]
    assert len(lines) == 7
    assert all(np.abs(at / [*SIZES.values()] - 1).max() < 0.08 for at in lines)


def test_the_chosen_mark_of_a_sweep_is_explained(tmp_path: Path) -> None:
    group = group_of(tmp_path, tried(1e-4, 2.0), tried(3e-4, 1.5), tried(1e-3, 1.5))
    chart = next(swept_charts(chart_input(group, group.cells, analysis([cell.name for cell in group.cells]))))
    assert chart.handles is not None
    assert [handle.get_label() for handle in chart.handles()] == ["LoRA", CHOSEN]
    assert list(chart.legend) == ["LoRA", CHOSEN]


def test_the_front_goes_through_what_lies_on_it(tmp_path: Path) -> None:
    group = group_of(tmp_path, *matrix())
    cells = group.cells
    (front,) = analysis([cell.name for cell in cells]).verdicts[0].pareto
    chart = pareto_chart(front, cells, colours(group.entries))
    line, *marks = drawn(chart).get_lines()
    assert np.asarray(line.get_xdata()).tolist() == [1.0, 3.0]
    assert [mark.get_markerfacecolor() != "none" for mark in marks] == [True, False, True]
    assert list(chart.data["cell"]) == ["lora_20k", "lora_50k", "lora_100k"]


def test_a_curve_is_the_mean_over_seeds_and_is_thinned(tmp_path: Path) -> None:
    group = group_of(tmp_path, record("lora", "20k", 0), record("lora", "20k", 1))
    (cell,) = group.cells
    for run, loss in zip(cell.runs, (2.0, 4.0), strict=True):
        for step in range(1, 1001):
            RunDir(tmp_path / run.name).log_metrics({"step": step, "loss": loss + step})
    curve = curve_of(cell)
    assert list(curve.rows["loss"][:2]) == [4.0, 5.0]
    steps, tokens, validation, _ = learning_curves([curve], colours(group.entries))
    assert len(steps.data) <= POINTS_PER_LINE
    assert steps.data.iloc[-1][["step", "loss"]].tolist() == [1000.0, 1003.0]
    assert tokens.data["tokens"].iloc[-1] == 1000 * 4_000_000 / 1250
    assert validation.data.empty
    assert [text.get_text() for text in drawn(validation).texts] == ["not measured"]


def test_a_log_that_cannot_be_read_is_no_curve(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, record())
    RunDir(tmp_path / run.name).metrics_path.write_text('{"step": 1, "loss": 2}\nnonsense\n', encoding="utf-8")
    assert read_log(run).empty


def test_svg_for_the_page_speaks_both_languages_and_takes_its_colours() -> None:
    chart = Chart("x", "heat", Text('a "title" <b>', "题"), Text("", ""), pd.DataFrame(), lambda axes: None)
    svg = (
        '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="360pt" height="40pt" '
        'viewBox="0 0 360 40"><metadata>m</metadata>'
        '<g id="figure_1"><g id="hint:a &lt;b&gt;"><path style="fill: #24292f"/></g><g id="chart-title"/>'
        "<text style=\"font-size: 9px; font-family: 'DejaVu Sans'; fill: #24292f\">Training pairs</text>"
        "<text>lora &amp; 20k</text></g></svg>"
    )
    body = inline(SvgImage(svg.encode()).add_titles(HINT), chart)
    assert body.startswith('<svg role="img" aria-label="a &quot;title&quot; &lt;b&gt;" viewBox="0 21.6 360 18.4">')
    assert '<tspan class="en">Training pairs</tspan><tspan class="zh">训练问答对数</tspan></text>' in body
    assert "<g><title>a &lt;b&gt;</title><path" in body
    assert "lora &amp; 20k</text>" in body
    assert "fill: var(--ink)" in body
    absent = ("metadata", "font-family", "figure_1", "#24292f", "chart-title", "xmlns")
    assert not [word for word in absent if word in body]


def test_long_labels_take_two_lines() -> None:
    assert two_lines("lora") == "lora"
    assert two_lines("a" * 100) == "a" * 22 + "\n" + "a" * 21 + "…"
    assert two_lines("很" * 10 + " 20k") == "很" * 10 + "\n20k"
    assert two_lines("很" * 30 + " 100k") == "很" * 11 + "\n" + "很" * 8 + "… 100k"
    assert legend_columns(["lora", "qlora"]) > legend_columns(["lora (method.rank=8, train.epochs=3)"])
