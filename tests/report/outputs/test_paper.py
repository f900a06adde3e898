"""The tables for a paper, as Markdown and as LaTeX, which a TeX compiles where there is one."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from medqa_finetune.report.grouping import Group
from medqa_finetune.report.outputs.captions import captions_as_markdown
from medqa_finetune.report.outputs.latex import escaped, tables_as_latex
from medqa_finetune.report.outputs.paper import Figure, PaperRow, PaperTable, paper_tables, tables_as_markdown
from medqa_finetune.report.stats.intervals import Finding
from tests.report.builders import evaluation, group_of, matrix, record, train
from tests.report.folders import analysis

NASTY = r"a_b & 50% #1 {x} $y$ \ ~ ^ <z> | [q] *s* --c '\""
DOCUMENT = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{table}\end{document}"


def table_of(group: Group) -> PaperTable:
    (table,) = paper_tables([group], analysis([cell.name for cell in group.cells]))
    return table


def test_the_best_is_bold_and_has_its_interval(tmp_path: Path) -> None:
    table = table_of(group_of(tmp_path, *matrix()))
    best = [(row.method, row.size, row.figures[0]) for row in table.rows if row.figures[0].best]
    assert best == [("LoRA", "100k", Figure("27.55", "[20.00, 30.00]", best=True))]
    assert [row.size for row in table.rows] == ["–", "20k", "50k", "100k", "20k", "50k", "100k"]
    assert [score for score, _ in table.signatures] == ["ROUGE-L", "BLEU"]
    assert "**27.55**" in tables_as_markdown([table])
    assert r"\textbf{27.55}" in tables_as_latex([table])


def test_a_cell_that_is_level_with_the_best_has_a_dagger(tmp_path: Path) -> None:
    group = group_of(tmp_path, *matrix())
    statistics = analysis([cell.name for cell in group.cells])
    level = {
        name
        for each in statistics.comparisons
        if each.verdict is Finding.NONE_SHOWN and "lora_100k" in (each.first, each.second)
        for name in (each.first, each.second)
    }
    (table,) = paper_tables([group], statistics)
    shown = [cell.name for cell, row in zip(group.cells, table.rows, strict=True) if row.figures[0].level]
    assert sorted(shown) == sorted(level - {"lora_100k"})


def test_lower_is_best_and_ties_are_all_bold(tmp_path: Path) -> None:
    records = [record("lora", evaluation=evaluation(20, 3)), record("qlora", evaluation=evaluation(20, 3))]
    table = table_of(group_of(tmp_path, *records))
    assert [row.figures[0].best for row in table.rows] == [True, True]


def test_one_cell_is_best_of_nothing(tmp_path: Path) -> None:
    (row,) = table_of(group_of(tmp_path, record())).rows
    assert not row.figures[0].best


@pytest.mark.parametrize(("rouge", "written"), [(0.004, "0.00400"), (-3.25, "-3.25"), (43210.5, "43,210.50")])
def test_digits_follow_the_magnitude(tmp_path: Path, rouge: float, written: str) -> None:
    (row,) = table_of(group_of(tmp_path, record(evaluation=evaluation(rouge, 1.0)))).rows
    assert row.figures[0].text == written


def test_costs_are_not_measured_as_zero(tmp_path: Path) -> None:
    records = [record("none"), record(train=train(1000.0, vram=None)), record("qlora", train=None)]
    table = table_of(group_of(tmp_path, *records))
    assert table.columns[-2:] == ("Memory (GiB)", "Training (min)")
    assert [row.figures[-1].text for row in table.rows] == ["–", "16.7", "–"]


def test_cells_that_are_missing_are_named(tmp_path: Path) -> None:
    table = table_of(group_of(tmp_path, *matrix()[:6]))
    assert any("QLoRA 100k" in note for note in table.notes)


def test_latex_shows_names_as_they_are() -> None:
    assert escaped("a_b 50% -- [x] 3−1") == r"a\_b 50\% -{}- {[}x{]} 3$-$1"
    assert escaped("低秩") == "低秩"
    rows = (PaperRow(NASTY, "–", (Figure("-3.10", "[-4.00, -2.00]", best=True),)),)
    table = PaperTable(NASTY, (NASTY,), "pairs", ("x",), rows, (("s", "a|b"),))
    source = tables_as_latex([table])
    assert source.isascii()
    assert not re.search(r"(?<!\\)[%#_](?!.*(?:Include|preamble))", source.split("\n", 1)[1])
    assert "Chinese" in tables_as_latex([dataclasses.replace(table, title="低秩")])
    # Every bar of the rows is a column's, or escaped.
    (line,) = [line for line in tables_as_markdown([table]).split("\n") if line.startswith("| a")]
    assert len(re.findall(r"(?<!\\)\|", line)) == 4


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    own = table_of(group_of(tmp_path / "runs", *matrix()))
    nasty = dataclasses.replace(own, title=NASTY, rows=(PaperRow(NASTY, "–", own.rows[0].figures), *own.rows))
    (tmp_path / "table.tex").write_text(tables_as_latex([own, nasty]), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(DOCUMENT, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


def test_captions_hold_the_signatures(tmp_path: Path) -> None:
    group = group_of(tmp_path, *matrix())
    text = captions_as_markdown([group], [])
    assert "## data_scale_comparison" in text
    assert f"`{group.names.signatures['rougeL']}`" in text
