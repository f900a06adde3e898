"""Writes `report.html` and `figures/` from runs and their analysis."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medqa_finetune.record.files import write_bytes
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures.base import FIGURES, SECTIONS, Chart, chart_input
from medqa_finetune.report.figures.registry import charts_of
from medqa_finetune.report.figures.write import Drawn, write_charts
from medqa_finetune.report.grouping import Group
from medqa_finetune.report.html.answers import MOST_BYTES, answers_of
from medqa_finetune.report.html.page import GroupView, Page, rendered
from medqa_finetune.report.html.table import groups_of_questions, results_of
from medqa_finetune.report.names import evaluation_shown
from medqa_finetune.report.notes import CellsCut, GroupName, GroupsCut, Note
from medqa_finetune.report.runs import Run

REPORT = "report.html"
# Limits that keep the page fast; the page states what is left out.
MOST_GROUPS, MOST_CELLS = 6, 36


def write_report(
    runs: Sequence[Run], groups: Sequence[Group], analysis: Analysis, folder: Path
) -> tuple[Path, list[Chart]]:
    """Write `report.html` and every chart below `figures/`; return the path of the page, and the charts.

    Args:
        runs: All runs, in table order.
        groups: Groups of comparable runs (`grouping.groups_of`).
        analysis: Analysis of these runs.
        folder: Folder of the summary.
    """
    notes = [*analysis.notes, *_left_out(groups)]
    groups = groups[:MOST_GROUPS]
    cells = [group.cells[:MOST_CELLS] for group in groups]
    prefixes = [f"{number}_" if len(groups) > 1 else "" for number in range(1, len(groups) + 1)]
    charts = [
        charts_of(chart_input(group, own, analysis, prefix))
        for group, own, prefix in zip(groups, cells, prefixes, strict=True)
    ]
    drawn = {each.chart.name: each for each in write_charts((each for own in charts for each in own), folder / FIGURES)}
    views = []
    for group, own, of_group in zip(groups, cells, charts, strict=True):
        headings, rows = results_of(own, analysis)
        answers = answers_of(own, MOST_BYTES // len(groups))
        sections = _by_section([drawn[chart.name] for chart in of_group])
        by_group = [(score.name, *groups_of_questions(own, analysis, score.name)) for score in group.scores]
        views.append(GroupView(_name(group), headings, rows, sections, answers, [each for each in by_group if each[2]]))
    write_bytes(folder / REPORT, rendered(Page(runs, replace(analysis, notes=tuple(notes)), views)))
    return folder / REPORT, [each.chart for each in drawn.values()]


def _left_out(groups: Sequence[Group]) -> list[Note]:
    notes: list[Note] = [GroupsCut(MOST_GROUPS, len(groups))] if len(groups) > MOST_GROUPS else []
    for group in groups[:MOST_GROUPS]:
        count = len(group.cells)
        if count > MOST_CELLS:
            notes.append(CellsCut(_name(group), MOST_CELLS, count))
    return notes


def _name(group: Group) -> GroupName:
    first = group.tuned[0].run.values
    study, model, corpus = (str(first.get(column) or "") for column in ("study", "model", "corpus"))
    evaluation = evaluation_shown(first.get("evaluation"))
    return GroupName(study, model, corpus, int(first["n_test"]), str(first["test_sha256"])[:8], evaluation)


def _by_section(drawn: Sequence[Drawn]) -> dict[str, list[Drawn]]:
    return {section: [each for each in drawn if each.chart.section == section] for section in SECTIONS}
