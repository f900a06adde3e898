"""The analysis as files and text: columns of the table, CSV files, what a terminal and report.md show."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from medqa_finetune.record.short_names import shared_settings, without_settings
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.messages import label, reason, score_title, text
from medqa_finetune.report.outputs.benchmarks import HEADER
from medqa_finetune.report.scores import headline_columns
from medqa_finetune.report.stats.intervals import Comparison, Finding, Interval
from medqa_finetune.report.verdict import Refusals, Verdict
from medqa_finetune.report.words import Text, span

COMPARISON_COLUMNS = ("first", "second", "score", "axis", "difference", "low", "high", "effect", "effect_low",
                      "effect_high", "p", "p_holm", "verdict", "reason", "reason_zh")  # fmt: skip
SCORE_COLUMNS = ("cell", "score", "value", "low", "high", "n", "seeds", "sd")
WIDTH = 118
# Words and intervals stay whole; a Chinese character is a word of its own.
WORD = re.compile(r"\[[^\[\]]{1,24}\]\S*|[!-Z\\^-~]+|.", re.DOTALL)
PAIRS_SHOWN = 20


def with_intervals(frame: pd.DataFrame, analysis: Analysis) -> pd.DataFrame:
    """Return the table with `<score>_low` and `<score>_high` of each run's headline scores as further columns.

    They are over questions alone, for the row is one run; a cell's interval over several seeds is in `analysis.scores`.
    """
    known = {(run.study, run.name, run.score): run.interval for run in analysis.runs}
    whole = frame.copy()
    keys = list(zip(frame["study"], frame["name"], strict=True))
    for score in headline_columns():
        found = [known.get((study, name, score)) for study, name in keys]
        for end in ("low", "high"):
            cells = [None if each is None else getattr(each, end) for each in found]
            whole[f"{score}_{end}"] = pd.Series(cells, index=frame.index, dtype=object)
    return whole


def comparisons_table(analysis: Analysis) -> pd.DataFrame:
    """Return one row per pair of cells and score, with the columns `COMPARISON_COLUMNS`."""
    said = [reason(each) for each in analysis.comparisons]
    rows = [
        (c.first, c.second, c.score, c.axis, c.difference, *_ends(c.interval), c.effect, *_ends(c.effect_interval),
         c.p, c.p_holm, c.verdict, why.en, why.zh)
        for c, why in zip(analysis.comparisons, said, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS), dtype=object)


def scores_table(analysis: Analysis) -> pd.DataFrame:
    """Return one row per cell and score, with the columns `SCORE_COLUMNS`."""
    rows = [(s.cell, s.score, s.value, *_ends(s.interval), s.n, s.seeds, s.sd) for s in analysis.scores]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS), dtype=object)


def as_text(analysis: Analysis) -> str:
    """Return the verdict for a terminal, at most 118 columns wide: English, and the answer in Chinese as well."""
    notes = [text(note).en for note in analysis.notes]
    if not analysis.scores:
        return "\n".join(map(_wrapped, notes))
    blocks = [_wrapped(text(analysis.settings).en)]
    blocks += ["\n".join(_verdict_lines(analysis, verdict)) for verdict in analysis.verdicts]
    # Once for all answers: there is one per evaluation.
    for caution in dict.fromkeys(verdict.caution for verdict in analysis.verdicts):
        blocks.append(f"{_wrapped(text(caution).en)}\n{_wrapped(text(caution).zh)}")
    if notes:
        blocks.append("\n".join(_wrapped(label("terminal.note", note=note).en) for note in notes))
    return "\n\n".join(blocks)


def _verdict_lines(analysis: Analysis, verdict: Verdict) -> Iterator[str]:
    # Of scores that cannot be compared for the same reason, it is said once.
    outcomes = [text(step).en for step in verdict.steps]
    outcomes = list(dict.fromkeys(outcomes))
    outcomes += [text(fit).en for fit in verdict.fit if fit.score == verdict.score]
    outcomes += [text(front).en for front in verdict.pareto if front.score == verdict.score]
    refusals = _refusals(analysis, verdict)
    outcomes += [text(refusals).en] if refusals is not None else []
    answer, shared = text(verdict.advice), _shared(verdict)
    yield f"== {verdict.title}"
    if shared:
        yield _wrapped(label("terminal.shared", settings=", ".join(shared)).en)
    for said in (*outcomes, "", answer.en, answer.zh):
        yield _wrapped(without_settings(said, shared))


def _shared(verdict: Verdict) -> list[str]:
    """Return the settings in names that all trained cells of an answer share: they are said once, not in every name."""
    return shared_settings([cell for fit in verdict.fit for cell in fit.cells], verdict.cells)


def as_markdown(analysis: Analysis) -> str:
    """Return the analysis as Markdown, every sentence in both languages."""
    how = text(analysis.settings)
    parts = [f"{how.en}\n\n{how.zh}"]
    parts += [part for verdict in analysis.verdicts for part in _verdict_markdown(verdict)]
    shown = _shown(analysis)
    rows = [
        [s.cell, score_title(s.score).en, f"{s.value:.2f}", span(s.interval.low, s.interval.high), f"{s.n:,}",
         str(s.seeds), "–" if s.sd is None else f"{s.sd:.2f}"]
        for s in analysis.scores if s.score in shown
    ]  # fmt: skip
    header = [*map(_heading, ("cell", "score", "value", "interval")), "n", _heading("seeds"), "sd"]
    parts += [_section("scores"), _table(header, rows), _section("comparisons"), _comparisons_markdown(analysis)]
    if analysis.notes:
        parts += [_section("notes"), _bullets(map(text, analysis.notes))]
    return "\n\n".join(parts) + "\n"


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
    shared = _shared(verdict)
    yield f"## {_cell(verdict.title)}"
    if shared:
        yield _both(_escaped(label("terminal.shared", settings=", ".join(shared))))
    for said in map(_escaped, (_brief(text(verdict.advice), shared), text(verdict.caution))):
        yield f"**{said.en}**\n\n**{said.zh}**"
    for name, outcomes in (("steps", verdict.steps), ("fits", verdict.fit), ("fronts", verdict.pareto)):
        said_once = dict.fromkeys(_brief(text(outcome), shared) for outcome in outcomes)
        if said_once:
            yield f"#{_section(name)}"
            yield _bullets(said_once)


def _brief(words: Text, shared: Sequence[str]) -> Text:
    """Return sentences with the settings left out of names that all of them share."""
    return Text(without_settings(words.en, shared), without_settings(words.zh, shared))


def _comparisons_markdown(analysis: Analysis) -> str:
    rows = [
        [c.first, c.second, score_title(c.score).en, c.axis, _amount(c),
         "–" if c.effect is None else f"{c.effect:+.2f}", "–" if c.p_holm is None else f"{c.p_holm:.4f}",
         _both(label(c.verdict)), reason(c).en if c.verdict is Finding.NOT_COMPARABLE else ""]
        for c in analysis.comparisons if c.score in _shown(analysis)
    ]  # fmt: skip
    header = [*map(_heading, ("first", "second", "score", "axis", "difference")), "d_z", "p (Holm)",
              *map(_heading, ("verdict", "reason"))]  # fmt: skip
    return f"{_table(header, rows)}\n\n{_both(label('report.every_score'))}"


def benchmarks_as_markdown(rows: list[list[str]]) -> str:
    """Return a table of benchmarks as a section of report.md; empty where there are no rows."""
    if not rows:
        return ""
    return f"\n{_section('benchmarks')}\n\n{_both(label('report.benchmarks_how'))}\n\n{_table(HEADER, rows)}\n"


def _refusals(analysis: Analysis, verdict: Verdict) -> Refusals | None:
    cells = {point.cell for front in verdict.pareto for point in front.points}
    cells |= {cell for fit in verdict.fit for cell in fit.cells}
    refused = [
        each
        for each in analysis.comparisons
        if each.verdict is Finding.NOT_COMPARABLE and each.score == verdict.score and {each.first, each.second} & cells
    ]
    return Refusals(len(refused), refused[0]) if refused else None


def _amount(comparison: Comparison) -> str:
    if comparison.difference is None or comparison.interval is None:
        return "–"
    return f"{comparison.difference:+.2f} {span(comparison.interval.low, comparison.interval.high)}"


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    # Names come from files: nothing of them may become markup.
    for mark in ("\\", "`", "*", "_", "|", "<", ">", "[", "]", "#"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _escaped(text: Text) -> Text:
    return Text(_cell(text.en), _cell(text.zh))


def _wrapped(text: str) -> str:
    """Return a text in lines of at most `WIDTH` columns, of which a Chinese character takes two."""
    lines, line, width = [], "", 0
    # A name longer than a line is broken before one of the settings in it.
    words = [
        part for word in WORD.findall(text) for part in (re.split("(?=__)", word) if len(word) > WIDTH else [word])
    ]
    for word in words:
        columns = sum(2 if unicodedata.east_asian_width(letter) in "FW" else 1 for letter in word)
        if width + columns > WIDTH and line:
            lines.append(line.rstrip())
            line, width = "", 2
        if line or not word.isspace():
            line, width = line + word, width + columns
    return "\n  ".join([*lines, line.rstrip()])
