"""Puts the answer of one training size together: each method against another, and each against the baselines."""

from collections.abc import Sequence

from medqa_finetune.config.size_names import size_name
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.stats.intervals import Comparison, Interval
from medqa_finetune.report.verdict import Contrast, SizeAnswer

# Other methods are compared with the first of these that was trained.
REFERENCES = ("lora", "full")
UNTUNED = "none"


def size_answers(cells: Sequence[Cell], comparisons: Sequence[Comparison], score: str) -> list[SizeAnswer]:
    """Return one answer per model and training size, ascending; none without a comparison.

    Args:
        cells: Cells that count (`choice.Chosen.cells`).
        comparisons: Comparisons of these cells.
        score: Name of the score.
    """
    found = {frozenset((each.first, each.second)): each for each in comparisons if each.score == score}
    sizes: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        if cell.trains:
            sizes.setdefault((cell.first.model, cell.train_size), []).append(cell)
    answers = []
    several = len({model for model, _ in sizes}) > 1
    for (model, size), trained in sorted(sizes.items()):
        ordered = sorted(trained, key=_rank)
        reference, others = ordered[0], [cell for cell in ordered[1:] if cell.first.method != ordered[0].first.method]
        bases = [cell for cell in cells if cell.first.method == UNTUNED and cell.first.model == model]
        between = [_contrast(reference, other, found) for other in others]
        over = [_contrast(base, cell, found) for base in bases for cell in ordered]
        # Retrieval has no model: that of its settings answers nothing.
        retrieved = [cell for cell in cells if not cell.loads_model and cell.train_size == size]
        over_retrieval = [_contrast(baseline, cell, found) for baseline in retrieved for cell in ordered]
        name = size_name(trained[0].first.data, size)
        name = f"{model} {name}" if several else name
        parts = (tuple(filter(None, part)) for part in (between, over, over_retrieval))
        answer = SizeAnswer(name, score, *parts)
        if answer.between or answer.over or answer.over_retrieval:
            answers.append(answer)
    return answers


def _rank(cell: Cell) -> tuple[int, str]:
    method = cell.first.method
    return (REFERENCES.index(method) if method in REFERENCES else len(REFERENCES), cell.name)


def _contrast(first: Cell, second: Cell, found: dict[frozenset[str], Comparison]) -> Contrast | None:
    each = found.get(frozenset((first.name, second.name)))
    if each is None:
        return None
    gain, interval = each.difference, each.interval
    if gain is not None and interval is not None and each.first == second.name:
        gain, interval = -gain, Interval(-interval.high, -interval.low)
    return Contrast(
        first.entry or first.name, second.entry or second.name, gain, interval, each.verdict, each.differences
    )
