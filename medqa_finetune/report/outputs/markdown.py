"""Writes `report.md`: the verdict, the scores and the comparisons, every sentence in both languages."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures.base import FIGURES, Chart
from medqa_finetune.report.messages import label, reason, score_title, text
from medqa_finetune.report.messages.language import Text, span
from medqa_finetune.report.outputs.benchmarks import HEADER
from medqa_finetune.report.scores import headline_columns
from medqa_finetune.report.stats.intervals import Comparison, Finding
from medqa_finetune.report.verdict import Verdict


def as_markdown(analysis: Analysis) -> str:
    """Format the analysis as Markdown, every sentence in both languages."""
    labels, how = analysis.labels, text(analysis.settings)
    parts = [f"**{each.en}**\n\n**{each.zh}**" for each in map(_escaped, map(text, analysis.unfinished))]
    parts += [part for verdict in analysis.verdicts for part in _verdict_markdown(verdict, labels)]
    shown = _shown(analysis)
    rows = [
        [
            labels.get(each.cell, each.cell),
            score_title(each.score).en,
            f"{each.value:.2f}",
            span(each.interval.low, each.interval.high),
            f"{each.n:,}",
            str(each.seeds),
            "–" if each.sd is None else f"{each.sd:.2f}",
        ]
        for each in analysis.scores
        if each.score in shown
    ]
    header = [*map(_heading, ("cell", "score", "value", "interval")), "n", _heading("seeds"), "sd"]
    parts += [_section("scores"), _table(header, rows), _section("comparisons"), _comparisons_markdown(analysis)]
    parts += _groups_markdown(analysis)
    if analysis.notes:
        parts += [_section("notes"), _bullets(text(note, labels) for note in analysis.notes)]
    parts += [_section("how"), f"{how.en}\n\n{how.zh}"]
    return "\n\n".join(parts) + "\n"


def benchmarks_as_markdown(rows: list[list[str]]) -> str:
    """Format the rows of `benchmarks_table` as a section of `report.md`; empty without rows."""
    if not rows:
        return ""
    return f"\n{_section('benchmarks')}\n\n{_both(label('report.benchmarks_how'))}\n\n{_table(HEADER, rows)}\n"


def figures_as_markdown(charts: Sequence[Chart]) -> str:
    """Format the charts as a section of `report.md`, in both languages, each with a link to its data."""
    if not charts:
        return ""
    heading = label("report.figures")
    lines = ["", f"## {heading.en} · {heading.zh}", ""]
    for chart in charts:
        files = ", ".join(f"[{ending.upper()}]({FIGURES}/{chart.name}.{ending})" for ending in ("svg", "pdf", "csv"))
        lines += [f"**{chart.title.en} · {chart.title.zh}** ({files})", ""]
        lines += [f"![{chart.title.en}]({FIGURES}/{chart.name}.png)", ""]
    return "\n".join(lines)


def _section(name: str) -> str:
    return f"## {_both(label(f'report.{name}'))}"


def _heading(column: str) -> str:
    return _both(label(f"column.{column}"))


def _both(words: Text) -> str:
    return f"{words.en} {words.zh}"


def _bullets(texts: Iterable[Text]) -> str:
    return "\n".join(f"- {each.en}\n  {each.zh}" for each in map(_escaped, texts))


def _shown(analysis: Analysis) -> set[str]:
    return {*headline_columns(), *(verdict.score for verdict in analysis.verdicts)}


def _verdict_markdown(verdict: Verdict, labels: Mapping[str, str]) -> Iterator[str]:
    yield f"## {_cell(verdict.title)}"
    for sentence in map(_escaped, (text(verdict.advice, labels), text(verdict.caution))):
        yield f"**{sentence.en}**\n\n**{sentence.zh}**"
    parts = (
        ("sizes", verdict.sizes),
        ("choices", verdict.choices),
        ("steps", verdict.steps),
        ("fits", verdict.fit),
        ("fronts", [front for front in verdict.pareto if len(front.points) > 1]),
    )
    for name, outcomes in parts:
        sentences = dict.fromkeys(text(outcome, labels) for outcome in outcomes)
        if sentences:
            yield f"#{_section(name)}"
            yield _bullets(sentences)


def _groups_markdown(analysis: Analysis) -> Iterator[str]:
    """Yield a section with a table of the headline scores per group of questions; nothing without groups."""
    if analysis.groups:
        header = [*map(_heading, ("group", "cell", "score", "value", "interval")), "n"]
        rows = [
            [
                each.group or _both(label("report.no_group")),
                analysis.labels.get(each.cell, each.cell),
                score_title(each.score).en,
                f"{each.value:.2f}",
                "–" if each.interval is None else span(each.interval.low, each.interval.high),
                f"{each.n:,}",
            ]
            for each in sorted(analysis.groups, key=lambda each: (each.group == "", -each.n, each.group))
        ]
        yield from (_section("groups"), _table(header, rows))


def _comparisons_markdown(analysis: Analysis) -> str:
    rows = [
        [
            analysis.labels.get(each.first, each.first),
            analysis.labels.get(each.second, each.second),
            score_title(each.score).en,
            each.axis,
            _amount(each),
            "–" if each.effect is None else f"{each.effect:+.2f}",
            "–" if each.p_holm is None else f"{each.p_holm:.4f}",
            _both(label(each.verdict)),
            reason(each).en if each.verdict is Finding.NOT_COMPARABLE else "",
        ]
        for each in analysis.comparisons
        if each.score in _shown(analysis)
    ]
    compared = map(_heading, ("first", "second", "score", "axis", "difference"))
    header = [*compared, "d_z", "p (Holm)", *map(_heading, ("verdict", "reason"))]
    return f"{_table(header, rows)}\n\n{_both(label('report.every_score'))}"


def _amount(comparison: Comparison) -> str:
    if comparison.difference is None or comparison.interval is None:
        return "–"
    return f"{comparison.difference:+.2f} {span(comparison.interval.low, comparison.interval.high)}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    # Names come from files, so they must not be interpreted as markup.
    for mark in ("\\", "`", "*", "_", "|", "<", ">", "[", "]", "#"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _escaped(text: Text) -> Text:
    return Text(_cell(text.en), _cell(text.zh))
