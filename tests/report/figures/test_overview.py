import dataclasses
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.collections import LineCollection
from matplotlib.text import Text as Drawing
from PIL import Image

from medqa_finetune.record.schema import Record, Score
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures import overview
from medqa_finetune.report.figures.base import NOT_MEASURED, chart_input
from medqa_finetune.report.figures.costs import MISSING, measures_of
from medqa_finetune.report.figures.overview import (
    METHODS,
    GroupInput,
    data_scale_figure,
    method_figure,
    pictured,
    write_overview,
)
from medqa_finetune.report.grouping import Group, groups_of
from medqa_finetune.report.names import compact, plain, size_tick, size_word
from medqa_finetune.report.stats.intervals import Settings
from tests.report.builders import SIZES, evaluation, failed, group_of, matrix, record, runs_of, train, write
from tests.report.folders import analysis as statistics

NOTHING = Analysis(Settings(), (), (), (), (), ())


def groups(root: Path, *records: Record) -> list[Group]:
    return groups_of(runs_of(root, *records))


def given(*found: Group) -> list[GroupInput]:
    return [(group, chart_input(group, group.cells, NOTHING)) for group in found]


def drawn_axes(figure: Any) -> list[Any]:
    return [ax for part in figure.subfigs for ax in part.axes]


def test_both_pictures_are_written_whole_and_sharp(tmp_path: Path) -> None:
    found = groups(tmp_path, *matrix())
    before = dict(mpl.rcParams)
    paths = write_overview(found, NOTHING, tmp_path / "summary")
    assert dict(mpl.rcParams) == before
    assert sorted(path.name for path in (tmp_path / "summary").iterdir()) == sorted(path.name for path in paths)
    assert {path.suffix for path in paths} == {".png", ".svg", ".pdf"}
    for path in (path for path in paths if path.suffix == ".png"):
        with Image.open(path) as image:
            image.load()
            assert round(image.info["dpi"][0]) >= 150
            assert image.width > 1500


def test_lines_per_method_with_the_base_across(tmp_path: Path) -> None:
    rouge, bleu = drawn_axes(data_scale_figure(given(*groups(tmp_path, *matrix()))))
    lines = {line.get_label(): line for line in rouge.get_lines()}
    assert set(lines) == {"LoRA", "QLoRA", "untuned base"}
    # Methods stand a little apart, so that their intervals do not overlap.
    assert list(lines["LoRA"].get_xdata()) == pytest.approx(list(SIZES.values()), rel=0.05)
    assert list(lines["LoRA"].get_ydata()) == pytest.approx([24.35, 25.95, 27.55])
    assert set(lines["untuned base"].get_ydata()) == {18.1}
    assert (rouge.get_xscale(), bleu.get_xscale()) == ("log", "log")
    assert list(rouge.get_xticks()) == list(SIZES.values())


def test_missing_cells_are_marked_and_named(tmp_path: Path) -> None:
    records = [*matrix()[:5], failed("qlora", "50k")]
    group = group_of(tmp_path, *records)
    assert "QLoRA 50k (failed)" in group.names.caption.en
    crosses = [line for line in drawn_axes(data_scale_figure(given(group)))[0].get_lines() if line.get_marker() == "x"]
    # The cell that failed, and the one that nobody started.
    assert sorted(line.get_xdata()[0] for line in crosses) == [50000, 100000]
    bars = drawn_axes(method_figure(given(group)))[0]
    assert len([line for line in bars.get_lines() if line.get_marker() == "x"]) == 2
    assert sum(len(container) for container in bars.containers) == 4


def test_the_legend_explains_what_is_missing(tmp_path: Path) -> None:
    group = group_of(tmp_path, *matrix()[:5], failed("qlora", "50k"), record("qlora", "100k", train=None))
    scale, methods = data_scale_figure(given(group)), method_figure(given(group))
    assert MISSING in [text.get_text() for text in scale.subfigs[0].legends[0].get_texts()]
    assert {MISSING, NOT_MEASURED} <= {text.get_text() for text in drawn_axes(methods)[-1].get_legend().get_texts()}


def test_the_baseline_crosses_neither_bars_nor_numbers(tmp_path: Path) -> None:
    # The base scores as much as a cell, so that its line meets the number behind that cell's bar.
    records = [record("none", evaluation=evaluation(24.6, 5.0)), *matrix()[1:]]
    figure = method_figure(given(group_of(tmp_path, *records)))
    figure.draw_without_rendering()
    axes = drawn_axes(figure)[0]
    (dashes,) = [each for each in axes.collections if isinstance(each, LineCollection)]
    lines = [axes.transData.transform(segment) for segment in dashes.get_segments()]
    boxes = [text.get_window_extent() for text in axes.texts] + [bar.get_window_extent() for bar in axes.patches]
    crossed = [
        (x, box)
        for (x, low), (_, high) in lines
        for box in boxes
        if box.x0 < x < box.x1 and low < box.y1 and high > box.y0
    ]
    assert len(lines) == 7
    assert crossed == []


def test_one_seed_has_the_interval_of_its_questions(tmp_path: Path) -> None:
    group = group_of(tmp_path, *matrix())
    found = [(group, chart_input(group, group.cells, statistics([cell.name for cell in group.cells])))]
    rouge, bleu = drawn_axes(method_figure(found))[:2]
    assert [list(line.get_xdata()) for line in rouge.get_lines()] == [[20.0, 30.0]] * 6
    assert bleu.get_lines() == []


def test_signatures_stand_in_no_picture(tmp_path: Path) -> None:
    group = group_of(tmp_path, *matrix())
    for figure in (data_scale_figure(given(group)), method_figure(given(group))):
        assert not [text for text in figure.findobj(Drawing) if "tokens:" in text.get_text()]
    assert "rougeL" in group.names.signatures


@pytest.mark.parametrize(("rouge", "written"), [(0.004, "0.0040"), (-3.25, "-3.25"), (0.0, "0")])
def test_a_bar_says_its_number(tmp_path: Path, rouge: float, written: str) -> None:
    group = group_of(tmp_path, record(evaluation=evaluation(rouge, 1.0)))
    axes = drawn_axes(method_figure(given(group)))[0]
    assert [text.get_text() for text in axes.texts] == [written]
    low, high = axes.get_xlim()
    assert low <= rouge <= high


def test_seeds_are_averaged_and_shown(tmp_path: Path) -> None:
    group = group_of(tmp_path, *[record("lora", data, seed) for data in SIZES for seed in (0, 1, 2)])
    assert group.entries == ["LoRA"]
    assert "Mean over seeds" in group.names.caption.en
    line = drawn_axes(data_scale_figure(given(group)))[0].get_lines()[0]
    assert list(line.get_ydata()) == pytest.approx([24.5, 26.1, 27.7])
    assert drawn_axes(method_figure(given(group)))[0].collections


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation": evaluation(20, 3, n=999)},
        {"model": "tiny"},
        {"config": record().config | {"corpus": {"name": "other"}}},
        {"data_manifest": dataclasses.replace(record().data_manifest, test=record().data_manifest.train)},  # type: ignore[union-attr,type-var]
        {"evaluation": dataclasses.replace(evaluation(20, 3), scores={"rougeL": Score(20.0, "words")})},
    ],
)
def test_what_does_not_compare_is_not_in_one_panel(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = groups(tmp_path, record("lora", "20k"), record("qlora", "20k", **changes))
    assert [group.entries for group in found] in ([["LoRA"], ["QLoRA"]], [["QLoRA"], ["LoRA"]])
    assert len({group.names.title for group in found}) == 2 or changes.get("evaluation")
    assert len(data_scale_figure(given(*found)).subfigs) == 2


def test_studies_are_apart(tmp_path: Path) -> None:
    write(tmp_path / "demo", *matrix())
    assert [group.names.title.en for group in groups(tmp_path, *matrix())] == [
        "qwen2.5-3b on huatuo26m_lite (n = 1,000)",
        "qwen2.5-3b on huatuo26m_lite, study demo (n = 1,000)",
    ]


def test_variants_have_their_own_entry_and_shared_settings_none(tmp_path: Path) -> None:
    names = ["lora_20k__train.epochs=3", "lora_50k__train.epochs=3__seed=1", "lora_20k__method.rank=8__train.epochs=3"]
    records = [
        record("lora", name[5:8], name=name, identity=str(place), seed=place) for place, name in enumerate(names)
    ]
    group = group_of(tmp_path, *records)
    assert group.entries == ["LoRA", "LoRA rank 8"]


def test_copies_of_a_run_count_once(tmp_path: Path) -> None:
    group = group_of(tmp_path, record(), record(name="copy", evaluation=evaluation(90, 90)))
    assert len(group.tuned) == 1


def test_a_base_of_another_test_set_is_left_out_and_named(tmp_path: Path) -> None:
    group = group_of(tmp_path, record(), record("none", evaluation=evaluation(50, 50, n=5)))
    assert not group.base
    assert "Not shown, because test set or signature differs: none." in group.names.caption.en


def test_memory_is_the_gpus_where_measured(tmp_path: Path) -> None:
    group = group_of(tmp_path / "gpu", *matrix())
    assert "GPU" in measures_of(group.cells)[0].axis
    group = group_of(tmp_path / "cpu", record(train=train(100.0, vram=None)))
    assert "process" in measures_of(group.cells)[0].axis


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    found = groups(tmp_path, record(train=None, evaluation=evaluation(20, 3)))
    texts = [text.get_text() for ax in drawn_axes(method_figure(given(*found))) for text in ax.texts]
    assert texts.count("not measured") == 3


def test_no_tuned_run_done_no_pictures(tmp_path: Path) -> None:
    found = groups(tmp_path, record("none"), failed("lora", "20k"))
    old = tmp_path / f"{METHODS}.pdf"
    old.write_bytes(b"old")
    assert write_overview(found, NOTHING, tmp_path) == []
    assert not old.exists()


def test_odd_names_and_sizes_draw_without_warning(tmp_path: Path) -> None:
    sizes = (1, 2, 199, 200, 1_500_000)
    manifest = record().data_manifest
    assert manifest is not None
    records = [
        record(
            name=f"lora_{size}__note=$x_1$",
            identity=str(size),
            model="$\\alpha$ 医学",
            data_manifest=dataclasses.replace(manifest, train=dataclasses.replace(manifest.train, n=size)),
        )
        for size in sizes
    ]
    group = group_of(tmp_path, *records)
    assert len(write_overview([group], NOTHING, tmp_path / "summary")) == 6
    assert list(drawn_axes(data_scale_figure(given(group)))[0].get_xticks()) == [1, 199, 1_500_000]


def test_many_methods(tmp_path: Path) -> None:
    records = [
        dataclasses.replace(record("lora", data), method=name, name=f"{name}_{data}", identity=name + data)
        for name in ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k")
        for data in SIZES
    ]
    assert len(write_overview(groups(tmp_path, *records), NOTHING, tmp_path / "summary")) == 6


@pytest.mark.parametrize(("size", "label"), [(1, "1"), (999, "999"), (1500, "1.5k"), (20000, "20k"), (2_000_000, "2M")])
def test_compact(size: int, label: str) -> None:
    assert compact(size) == label


@pytest.mark.parametrize(
    ("size", "tick", "word"), [(300, "300", "n300"), (1500, "1,500", "n1500"), (20000, "20k", "20k")]
)
def test_sizes_are_written_as_runs_are_called(size: int, tick: str, word: str) -> None:
    assert (size_tick(size), size_word(size)) == (tick, word)


def test_plain_hides_formulas() -> None:
    assert plain("a$b$") == r"a\$b\$"


def test_pictures_of_many_cells_show_the_first_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "MOST_CELLS", 3)
    (group,) = groups(tmp_path, *matrix())
    (shown,) = pictured([group])
    assert [cell.name for cell in shown.cells] == [cell.name for cell in group.cells[:3]]
    assert len(group.cells) > 3
    assert (shown.of_cells, shown.missing) == (len(group.cells) + len(group.missing), [])
    assert f"{shown.of_cells}" in shown.names.caption.en
    assert not [bar for bar in overview._bars(shown, given(shown)[0][1]) if bar.cell is None]
    assert pictured([shown])[0].cells == shown.cells


def test_pictures_of_many_groups_show_the_first_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "MOST_GROUPS", 1)
    (group,) = groups(tmp_path, *matrix())
    (shown,) = pictured([group] * 7)
    assert "7" in shown.names.caption.en.removeprefix(group.names.caption.en)
    assert pictured([group]) == [group]
