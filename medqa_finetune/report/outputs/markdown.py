"""Writes `report.md`: the verdict, the scores and the comparisons, every sentence in both languages."""

from collections.abc import Iterable, Iterator, Sequence

from medqa_finetune.record.short_names import without_settings
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
    how = text(analysis.settings)
    parts = [f"{how.en}\n\n{how.zh}"]
    parts += [part for verdict in analysis.verdicts for part in _verdict_markdown(verdict)]
    shown = _shown(analysis)
    rows = [
        [
            each.cell,
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
    if analysis.notes:
        parts += [_section("notes"), _bullets(map(text, analysis.notes))]
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


def _verdict_markdown(verdict: Verdict) -> Iterator[str]:
    shared = verdict.shared_settings
    yield f"## {_cell(verdict.title)}"
    if shared:
        yield _both(_escaped(label("terminal.shared", settings=", ".join(shared))))
    for sentence in map(_escaped, (_brief(text(verdict.advice), shared), text(verdict.caution))):
        yield f"**{sentence.en}**\n\n**{sentence.zh}**"
    for name, outcomes in (("steps", verdict.steps), ("fits", verdict.fit), ("fronts", verdict.pareto)):
        sentences = dict.fromkeys(_brief(text(outcome), shared) for outcome in outcomes)
        if sentences:
            yield f"#{_section(name)}"
            yield _bullets(sentences)


def _brief(words: Text, shared: Sequence[str]) -> Text:
    """Remove the settings that all names share from sentences."""
    return Text(without_settings(words.en, shared), without_settings(words.zh, shared))


def _comparisons_markdown(analysis: Analysis) -> str:
    rows = [
        [
            each.first,
            each.second,
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
