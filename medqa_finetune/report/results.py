"""The analysis as files and text: columns of the table, CSV files, what a terminal and report.md show."""

import re
import unicodedata
from collections.abc import Iterator

import pandas as pd

from medqa_finetune.record.short_names import shared_settings, without_settings
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.exams import HEADER
from medqa_finetune.report.scores import HEADLINE_COLUMNS, title
from medqa_finetune.report.statistics import Comparison, Interval
from medqa_finetune.report.value import VERDICTS_ZH
from medqa_finetune.report.verdict import Verdict
from medqa_finetune.report.words import Text, span

COMPARISON_COLUMNS = ("first", "second", "score", "axis", "difference", "low", "high", "effect", "effect_low",
                      "effect_high", "p", "p_holm", "verdict", "reason", "reason_zh")  # fmt: skip
SCORE_COLUMNS = ("cell", "score", "value", "low", "high", "n", "seeds", "sd")
WIDTH = 118
# Words and intervals stay whole; a Chinese character is a word of its own.
WORD = re.compile(r"\[[^\[\]]{1,24}\]\S*|[!-Z\\^-~]+|.", re.DOTALL)
PAIRS_SHOWN = 20


def with_intervals(frame: pd.DataFrame, analysis: Analysis) -> pd.DataFrame:
    """Return the table with `<score>_low` and `<score>_high` of each run's headline scores, beside `identity`.

    They are over questions alone, for the row is one run; a cell's interval over several seeds is in `analysis.scores`.
    """
    known = {(run.study, run.name, run.score): run.interval for run in analysis.runs}
    whole = frame.copy()
    keys = list(zip(frame["study"], frame["name"], strict=True))
    for score in HEADLINE_COLUMNS:
        found = [known.get((study, name, score)) for study, name in keys]
        for end in ("low", "high"):
            cells = [None if each is None else getattr(each, end) for each in found]
            whole[f"{score}_{end}"] = pd.Series(cells, index=frame.index, dtype=object)
    return whole


def comparisons_table(analysis: Analysis) -> pd.DataFrame:
    """Return one row per pair of cells and score, with the columns `COMPARISON_COLUMNS`."""
    rows = [
        (c.first, c.second, c.score, c.axis, c.difference, *_ends(c.interval), c.effect, *_ends(c.effect_interval),
         c.p, c.p_holm, c.verdict, c.reason.en, c.reason.zh)
        for c in analysis.comparisons
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS), dtype=object)


def scores_table(analysis: Analysis) -> pd.DataFrame:
    """Return one row per cell and score, with the columns `SCORE_COLUMNS`."""
    rows = [(s.cell, s.score, s.value, *_ends(s.interval), s.n, s.seeds, s.sd) for s in analysis.scores]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS), dtype=object)


def how(analysis: Analysis) -> Text:
    """Return how the statistics were done, the seed among it."""
    s = analysis.settings
    return Text(
        f"{s.level:.0%} intervals: bootstrap over questions (or blocks of running text), {s.resamples:,} resamples, "
        f"Student's t over seeds. Comparisons: paired approximate randomisation, {s.trials:,} trials, Holm over all "
        f"pairs of a score, {1 - s.level:.2g} to count. Intervals of differences are not corrected for the number of "
        f"pairs. Seed of both {s.seed}.",
        f"{s.level:.0%} 区间：对题目（或文本块）做 bootstrap，{s.resamples:,} 次重抽样；对种子用 t 分布。"
        f"比较：配对近似随机化检验，{s.trials:,} 次，同一分数的所有配对做 Holm 校正，"
        f"校正后小于 {1 - s.level:.2g} 才算有差异。"
        f"差异的区间未按配对数校正。两者的随机种子 {s.seed}。",
    )


def as_text(analysis: Analysis) -> str:
    """Return the verdict for a terminal, at most 118 columns wide: English, and the answer in Chinese as well."""
    if not analysis.scores:
        return "\n".join(_wrapped(note.en) for note in analysis.notes)
    blocks = [_wrapped(how(analysis).en)]
    for verdict in analysis.verdicts:
        # Of scores that cannot be compared for the same reason, it is said once.
        told = list(dict.fromkeys(step.text.en for step in verdict.steps))
        told += [fit.text.en for fit in verdict.fit if fit.score == verdict.score]
        told += [front.text.en for front in verdict.pareto if front.score == verdict.score]
        told += [_refusals(analysis, verdict).en] if _refusals(analysis, verdict).en else []
        answer = verdict.recommendation.text
        told += ["", answer.en, answer.zh]
        # Settings that all cells share are said once, not in every name.
        cells = [cell for fit in verdict.fit for cell in fit.cells]
        shared = shared_settings(cells, [each.cell for each in analysis.scores])
        lines = [f"== {verdict.title}", *([_wrapped(f"All that train: {', '.join(shared)}")] if shared else [])]
        lines += [_wrapped(without_settings(text, shared)) for text in told]
        lines += ["", _wrapped(verdict.caution.en), _wrapped(verdict.caution.zh)]
        blocks.append("\n".join(lines))
    blocks += ["\n".join(_wrapped(f"Note: {note.en}") for note in analysis.notes)] if analysis.notes else []
    return "\n\n".join(blocks)


def as_markdown(analysis: Analysis) -> str:
    """Return the analysis as Markdown, every sentence in both languages."""
    parts = [f"{how(analysis).en}\n\n{how(analysis).zh}"]
    parts += [part for verdict in analysis.verdicts for part in _verdict_markdown(verdict)]
    shown = _shown(analysis)
    rows = [
        [s.cell, title(s.score), f"{s.value:.2f}", span(s.interval.low, s.interval.high), f"{s.n:,}", str(s.seeds),
         "–" if s.sd is None else f"{s.sd:.2f}"]
        for s in analysis.scores if s.score in shown
    ]  # fmt: skip
    header = ["cell 格", "score 分数", "value 值", "interval 区间", "n", "seeds 种子", "sd"]
    parts += ["## Scores 分数", _table(header, rows), "## Comparisons 比较", _comparisons_markdown(analysis)]
    if analysis.notes:
        parts += ["## Notes 说明", "\n".join(f"- {note.en}\n  {note.zh}" for note in map(_escaped, analysis.notes))]
    return "\n\n".join(parts) + "\n"


def _shown(analysis: Analysis) -> set[str]:
    return {*HEADLINE_COLUMNS, *(verdict.score for verdict in analysis.verdicts)}


def _verdict_markdown(verdict: Verdict) -> Iterator[str]:
    yield f"## {_cell(verdict.title)}"
    for text in (verdict.recommendation.text, verdict.caution):
        yield f"**{_escaped(text).en}**\n\n**{_escaped(text).zh}**"
    for heading, texts in (
        ("What more data buys 更多数据的收益", [step.text for step in verdict.steps]),
        ("Score against data size 分数与数据量", [fit.text for fit in verdict.fit]),
        ("Score against cost 分数与成本", [front.text for front in verdict.pareto]),
    ):
        if texts:
            yield f"### {heading}"
            yield "\n".join(f"- {text.en}\n  {text.zh}" for text in map(_escaped, texts))


def _comparisons_markdown(analysis: Analysis) -> str:
    rows = [
        [c.first, c.second, title(c.score), c.axis, _amount(c), "–" if c.effect is None else f"{c.effect:+.2f}",
         "–" if c.p_holm is None else f"{c.p_holm:.4f}", f"{c.verdict} {VERDICTS_ZH[c.verdict]}",
         c.reason.en if c.verdict == "not comparable" else ""]
        for c in analysis.comparisons if c.score in _shown(analysis)
    ]  # fmt: skip
    header = ["first 甲", "second 乙", "score 分数", "axis 轴", "second - first 乙减甲", "d_z", "p (Holm)",
              "verdict 结论", "reason 原因"]  # fmt: skip
    return _table(header, rows) + "\n\nEvery score: `comparisons.csv`. 全部分数见 `comparisons.csv`。"


def exams_as_markdown(rows: list[list[str]]) -> str:
    """Return a table of exams beside the answers as a section of report.md; empty where there are no rows."""
    if not rows:
        return ""
    said = (
        "Mean over seeds, and standard deviation between them. How each was measured, and parts of exams: "
        "`results_summary.csv`. 各种子均值与标准差；测法与分项见 `results_summary.csv`。"
    )
    return f"\n## Beside the answers 问答之外\n\n{said}\n\n{_table(HEADER, rows)}\n"


def _refusals(analysis: Analysis, verdict: Verdict) -> Text:
    cells = {point.cell for front in verdict.pareto for point in front.points}
    cells |= {cell for fit in verdict.fit for cell in fit.cells}
    refused = [
        c for c in analysis.comparisons
        if c.verdict == "not comparable" and c.score == verdict.score and {c.first, c.second} & cells
    ]  # fmt: skip
    if not refused:
        return Text("", "")
    first = refused[0]
    return Text(
        f"No winner is called for {len(refused)} pairs, the first {first.first} and {first.second}: {first.reason.en} "
        "The others are in comparisons.csv.",
        f"有 {len(refused)} 对不判胜负，第一对是 {first.first} 与 {first.second}：{first.reason.zh}"
        "其余见 comparisons.csv。",
    )


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
    for word in WORD.findall(text):
        columns = sum(2 if unicodedata.east_asian_width(letter) in "FW" else 1 for letter in word)
        if width + columns > WIDTH and line:
            lines.append(line.rstrip())
            line, width = "", 2
        if line or not word.isspace():
            line, width = line + word, width + columns
    return "\n  ".join([*lines, line.rstrip()])
