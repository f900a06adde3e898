"""Builds the tables for a paper, one per group of comparable runs, and writes them as Markdown (`table.md`).

They are in the reader's language (`lang=`); `latex` writes the same tables as LaTeX. A row is a cell; columns are the
headline scores, peak memory and training time.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medqa_finetune.config.labels import with_size
from medqa_finetune.evaluation.metrics.base import Prominence, ScoreInfo
from medqa_finetune.log import visible
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures.numbers import Formatter, amount
from medqa_finetune.report.grouping import Group
from medqa_finetune.report.messages import label, name_of, score_title
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.names import size_tick, size_word, some
from medqa_finetune.report.runs import HOUR, Cell
from medqa_finetune.report.scores import in_order, score_columns, training_items_of
from medqa_finetune.report.stats.intervals import CellScore, Finding

NOTHING = "–"
DAGGER = "†"


@dataclass(frozen=True)
class Figure:
    """A figure of a table: its text, its interval or deviation, and how it stands to the best of its column.

    Attributes:
        text: The value, or `NOTHING` if it was not measured.
        more: `[low, high]`, or `± sd` if there is no interval; empty if there is neither.
        best: Whether no cell has a better value.
        level: Whether no difference to the best one was shown.
    """

    text: str
    more: str = ""
    best: bool = False
    level: bool = False


@dataclass(frozen=True)
class PaperRow:
    """A cell: its method, the size of its training set, and its figures."""

    method: str
    size: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class PaperTable:
    """A table for a paper.

    Attributes:
        title: Model, corpus and what else distinguishes it from other tables.
        notes: Sentences on how to read it.
        items: Heading of the sizes of training sets, e.g. `Training pairs`.
        columns: Headings of the figures, each with an arrow that points to the better values.
        rows: One per cell, baselines first.
        signatures: (score, signature) of the scores shown.
    """

    title: str
    notes: tuple[str, ...]
    items: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    signatures: tuple[tuple[str, str], ...]


def paper_tables(groups: Sequence[Group], analysis: Analysis) -> list[PaperTable]:
    """Return a table for each group of comparable runs."""
    return [_table(group, analysis) for group in groups]


def _table(group: Group, analysis: Analysis) -> PaperTable:
    cells = group.cells
    scores = _scores(cells)
    intervals = {(each.cell, each.score): each for each in analysis.scores}
    columns = [_column_of_score(cells, score, intervals, analysis) for score in scores]
    headings = [f"{score_title(score.name).spoken}{_arrow(score)}" for score in scores]
    for heading, found in _costs(cells):
        headings.append(heading)
        columns.append(found)
    items = label(f"paper.training.{training_items_of(group.scores[0]).name}").spoken
    rows = tuple(
        PaperRow(_name(cell), size_tick(cell.train_size) if cell.train_size else NOTHING, figures)
        for cell, *figures_of in zip(cells, *columns, strict=True)
        for figures in [tuple(figures_of)]
    )
    known = group.names.signatures
    signed = tuple((score_title(score.name).spoken, known[score.name]) for score in scores if score.name in known)
    return PaperTable(
        # The number of questions stands in the notes.
        title=_unescaped(group.names.subject.spoken),
        notes=tuple(_unescaped(note.spoken) for note in _notes(group, columns, analysis)),
        items=items,
        columns=tuple(headings),
        rows=rows,
        signatures=signed,
    )


def _scores(cells: Sequence[Cell]) -> list[ScoreInfo]:
    """Return the headline scores that were measured; if there are none, all but details."""
    known = in_order(score_columns(run.values.get("signature") for cell in cells for run in cell.runs))
    measured = [score for score in known if any(cell.measured(score.name) for cell in cells)]
    headlines = [score for score in measured if score.prominence is Prominence.HEADLINE]
    return headlines or [score for score in measured if score.prominence is not Prominence.DETAIL]


def _arrow(score: ScoreInfo) -> str:
    return {1: " ↑", -1: " ↓"}.get(score.sign, "")


def _name(cell: Cell) -> str:
    return visible(_unescaped(name_of(cell.entry).spoken))


def _unescaped(name: str) -> str:
    # Names of cells and groups are made for charts, where a dollar sign would begin a formula.
    return name.replace(r"\$", "$")


def _column_of_score(
    cells: Sequence[Cell], score: ScoreInfo, intervals: dict[tuple[str, str], CellScore], analysis: Analysis
) -> list[Figure]:
    values = [cell.mean(score.name) for cell in cells]
    written = _formatter(values, score.digits)
    known = [value for value in values if not math.isnan(value)]
    best = (max(known) if score.sign > 0 else min(known)) if known and score.sign and len(known) > 1 else None
    leading = {cell.name for cell, value in zip(cells, values, strict=True) if value == best}
    level = {
        name
        for each in analysis.comparisons
        if each.score == score.name and each.verdict is Finding.NONE_SHOWN and {each.first, each.second} & leading
        for name in (each.first, each.second)
    }
    figures = []
    for cell, value in zip(cells, values, strict=True):
        if math.isnan(value):
            figures.append(Figure(NOTHING))
            continue
        found, sd = intervals.get((cell.name, score.name)), cell.sd(score.name)
        more = "" if math.isnan(sd) else f"± {written(sd)}"
        more = f"[{written(found.interval.low)}, {written(found.interval.high)}]" if found else more
        figures.append(Figure(written(value), more, cell.name in leading, cell.name in level - leading))
    return figures


def _formatter(values: Iterable[float], digits: int) -> Formatter:
    """Return a formatter with a score's decimal places, or more where its values would all be written as zero."""
    largest = max((abs(value) for value in values if not math.isnan(value)), default=0.0)
    places = digits if not 0 < largest < 0.5 * 10.0 ** (1 - digits) else digits - math.floor(math.log10(largest))
    return lambda value: f"{value:,.{places}f}"


def _costs(cells: Sequence[Cell]) -> list[tuple[str, list[Figure]]]:
    """Return heading and figures of the costs of training that were measured."""
    on_gpu = any(cell.vram_gib is not None for cell in cells)
    memory = [cell.vram_gib if on_gpu else cell.rss_gib for cell in cells]
    hours = [cell.hours if cell.trains else None for cell in cells]
    longest = max((each for each in hours if each is not None), default=0.0)
    unit, factor = ("h", 1.0) if longest >= 2 else ("min", 60.0) if longest * HOUR >= 300 else ("s", HOUR)
    times = [None if each is None else each * factor for each in hours]
    costs = [(label("paper.vram" if on_gpu else "paper.rss"), memory), (label("paper.time", unit=unit), times)]
    return [
        (heading.spoken, [Figure(NOTHING if each is None else amount(each)) for each in found])
        for heading, found in costs
        if any(each is not None for each in found)
    ]


def _notes(group: Group, columns: Sequence[Sequence[Figure]], analysis: Analysis) -> Iterable[Text]:
    first = group.tuned[0].run.values
    figures = [figure for column in columns for figure in column]
    yield label("paper.blocks" if first["task"] == "text" else "paper.questions", n=f"{first.get('n_test') or 0:,}")
    seeds = sorted({len(cell.runs) for cell in group.cells})
    if seeds == [1]:
        yield label("paper.one_seed")
    elif len(seeds) > 1:
        yield label("paper.seeds_from_to", least=seeds[0], most=seeds[-1])
    else:
        yield label("paper.seeds", seeds=seeds[0])
    if any(figure.more.startswith("[") for figure in figures):
        level = f"{analysis.settings.level:.0%}"
        yield label("paper.intervals" if seeds == [1] else "paper.intervals_seeds", level=level)
    if any(figure.more.startswith("±") for figure in figures):
        yield label("paper.sd")
    if any(figure.best for figure in figures):
        yield label("paper.best")
    if any(figure.level for figure in figures):
        yield label("paper.level", mark=DAGGER)
    if any(figure.text == NOTHING for figure in figures):
        yield label("paper.not_measured", mark=NOTHING)
    if group.missing:
        missing = [name_of(with_size(entry, size_word(size))) for entry, size in group.missing]
        yield label("paper.missing", cells=some(missing))


def tables_as_markdown(tables: Sequence[PaperTable]) -> str:
    """Format the tables as Markdown, each with its notes and signatures below."""
    parts = []
    for table in tables:
        header = [label("paper.method").spoken, table.items, *table.columns]
        lines = [header, [":---", *["---:"] * (len(header) - 1)]]
        for row in table.rows:
            lines.append([escaped(row.method), row.size, *map(_in_markdown, row.figures)])
        parts.append(f"**{escaped(table.title)}**")
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        parts.append(escaped(Text(" ".join(table.notes), "".join(table.notes)).spoken))
        if table.signatures:
            parts.append("; ".join(f"{escaped(score)}: `{signature}`" for score, signature in table.signatures) + ".")
    return "\n\n".join(parts) + "\n"


def _in_markdown(figure: Figure) -> str:
    value = f"**{figure.text}**" if figure.best else figure.text
    value += DAGGER if figure.level else ""
    return f"{value} {escaped(figure.more)}".strip()


def escaped(text: str) -> str:
    """Return a text whose characters mean nothing in a Markdown table."""
    for mark in ("\\", "`", "*", "_", "|", "<", ">", "[", "]", "#", "$", "~"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
