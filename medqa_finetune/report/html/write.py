"""From the table and its analysis to `report.html` and `figures/`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd

from medqa_finetune.record.files import write_bytes
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.comparable import evaluation_shown
from medqa_finetune.report.figures.base import Chart
from medqa_finetune.report.figures.cells import Cell, cells_of, entry_colours
from medqa_finetune.report.figures.collect import Sections, sections_of
from medqa_finetune.report.figures.curves import Curve, curve_of, read_log
from medqa_finetune.report.figures.write import Drawn, write_charts
from medqa_finetune.report.groups import Group, groups_of
from medqa_finetune.report.html.answers import MOST_BYTES, answers_of
from medqa_finetune.report.html.page import GroupView, Page, rendered
from medqa_finetune.report.html.sources import Source
from medqa_finetune.report.html.table import results_of
from medqa_finetune.report.messages import label
from medqa_finetune.report.notes import CellsCut, GroupName, GroupsCut, Note

REPORT, FIGURES = "report.html", "figures"
# More than these nobody reads, and the page would grow slow: what is left out is said on it.
MOST_GROUPS, MOST_CELLS = 6, 36
# Learning curves are means over so many seeds at most: a thousand logs would take long to read.
MOST_SEEDS = 10
Sources = Mapping[tuple[str, str], Source]


def write_report(frame: pd.DataFrame, analysis: Analysis, sources: Sources, folder: Path) -> tuple[Path, list[Chart]]:
    """Write `report.html` and every chart below `figures/`; return the path of the page, and the charts.

    Args:
        frame: As `report.table.results_table` makes it.
        sources: The runs by study and name, as the table has them.
        folder: Where the summary lies.
    """
    found = groups_of(frame)
    groups = found[:MOST_GROUPS]
    notes = [*analysis.notes, *_left_out(found)]
    cells = [cells_of(group)[:MOST_CELLS] for group in groups]
    sections = [
        _sections(group, own, (analysis, sources), f"{number}_" if len(groups) > 1 else "")
        for number, (group, own) in enumerate(zip(groups, cells, strict=True), start=1)
    ]
    drawn = {each.chart.name: each for each in write_charts(_all(sections), folder / FIGURES)}
    views = []
    for group, own, charts in zip(groups, cells, sections, strict=True):
        headings, rows = results_of(own, analysis)
        answers = answers_of(own, sources, MOST_BYTES // len(groups))
        views.append(GroupView(_name(group), headings, rows, _by_section(charts, drawn), answers))
    page = Page(frame, replace(analysis, notes=tuple(notes)), [source.record for source in sources.values()], views)
    write_bytes(folder / REPORT, rendered(page))
    return folder / REPORT, [each.chart for each in drawn.values()]


def figures_as_markdown(charts: Sequence[Chart]) -> str:
    """Return the charts as a section of `report.md`, in both languages, each with a link to its data."""
    if not charts:
        return ""
    heading = label("report.figures")
    lines = ["", f"## {heading.en} · {heading.zh}", ""]
    for chart in charts:
        lines += [
            f"**{chart.title.en} · {chart.title.zh}** ([SVG]({FIGURES}/{chart.name}.svg), "
            f"[CSV]({FIGURES}/{chart.name}.csv))", "", f"![{chart.title.en}]({FIGURES}/{chart.name}.png)", "",
        ]  # fmt: skip
    return "\n".join(lines)


def _left_out(groups: list[Group]) -> list[Note]:
    notes: list[Note] = [GroupsCut(MOST_GROUPS, len(groups))] if len(groups) > MOST_GROUPS else []
    for group in groups[:MOST_GROUPS]:
        count = len(cells_of(group))
        if count > MOST_CELLS:
            notes.append(CellsCut(_name(group), MOST_CELLS, count))
    return notes


def _name(group: Group) -> GroupName:
    first = group.tuned.iloc[0]
    study, model, corpus = (str(first[column] or "") for column in ("study", "model", "corpus"))
    evaluation = evaluation_shown(first["evaluation"])
    return GroupName(study, model, corpus, int(first["n_test"]), str(first["test_sha256"])[:8], evaluation)


def _sections(group: Group, cells: list[Cell], what: tuple[Analysis, Sources], name: str) -> Sections:
    analysis, sources = what
    return sections_of(cells, entry_colours(group), analysis, _curves(cells, sources), name)


def _curves(cells: list[Cell], sources: Sources) -> list[Curve]:
    curves = [curve_of(cell, [*_logs(cell, sources)]) for cell in cells if cell.size]
    return [curve for curve in curves if not curve.rows.empty]


def _logs(cell: Cell, sources: Sources) -> Iterator[pd.DataFrame]:
    for run in cell.runs.head(MOST_SEEDS).to_dict("records"):
        source = sources.get((str(run["study"]), str(run["name"])))
        if source is not None:
            yield read_log(source.folder, source.record)


def _all(sections: list[Sections]) -> list[Chart]:
    return [chart for each in sections for field in fields(each) for chart in getattr(each, field.name)]


def _by_section(charts: Sections, drawn: dict[str, Drawn]) -> dict[str, list[Drawn]]:
    return {field.name: [drawn[chart.name] for chart in getattr(charts, field.name)] for field in fields(charts)}
