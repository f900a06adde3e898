"""All charts of a group, in the order and the sections of the page."""

from dataclasses import dataclass
from typing import Any

from medqa_finetune.evaluation.metric_registry import headlines
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures.base import Chart
from medqa_finetune.report.figures.cells import Cell
from medqa_finetune.report.figures.costs import cost_bars
from medqa_finetune.report.figures.curves import Curve, learning_curves
from medqa_finetune.report.figures.heatmap import heat_map
from medqa_finetune.report.figures.pareto import pareto_chart
from medqa_finetune.report.figures.score_vs_size import score_against_size
from medqa_finetune.report.figures.significance import significance_matrix
from medqa_finetune.report.scores import in_order, score_columns


@dataclass(frozen=True)
class Sections:
    """The charts of one group, by section of the page."""

    heat: list[Chart]
    size: list[Chart]
    curves: list[Chart]
    pareto: list[Chart]
    cost: list[Chart]
    significance: list[Chart]


def sections_of(
    cells: list[Cell], palette: dict[str, Any], analysis: Analysis, curves: list[Curve], name: str
) -> Sections:
    """Return every chart of a group.

    Args:
        cells: The group's, baselines first.
        palette: A colour per method.
        name: What the names of the charts begin with.
    """
    scores = {(score.cell, score.score): score for score in analysis.scores}
    names = {cell.name for cell in cells}
    fits = [fit for verdict in analysis.verdicts for fit in verdict.fit if set(fit.cells) <= names]
    fronts = [
        front
        for verdict in analysis.verdicts
        for front in verdict.pareto
        if {point.cell for point in front.points} & names
    ]
    signed = [signature for cell in cells for signature in cell.runs["signature"]]
    shown = in_order(score_columns(signed))
    known = [score for score in shown if _measured(cells, score.name)]
    return Sections(
        heat=[heat_map(cells, score, name) for score in known],
        size=[
            score_against_size(cells, score, scores, fits, palette=palette, name=name)
            for score in known or headlines()[:2]
        ],
        curves=list(learning_curves(curves, palette, name)),
        pareto=[pareto_chart(front, cells, palette, name) for front in fronts],
        cost=list(cost_bars(cells, palette, name)),
        significance=[
            significance_matrix(cells, score, analysis.comparisons, name)
            for score in shown
            if any(each.score == score.name and {each.first, each.second} <= names for each in analysis.comparisons)
        ],
    )


def _measured(cells: list[Cell], column: str) -> bool:
    return any(cell.measured(column) for cell in cells)
