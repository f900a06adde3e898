"""Formats the report for the terminal: tables of runs and benchmarks, and the verdict."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd

from medqa_finetune.config.command_line import aligned_table
from medqa_finetune.evaluation.metric_registry import shortlist
from medqa_finetune.languages.choice import chosen
from medqa_finetune.languages.translate import say
from medqa_finetune.log import visible
from medqa_finetune.record.short_names import shared_settings, short_names, without_settings
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.grouping import tables_of
from medqa_finetune.report.messages import Outcome, label, name_of, text
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.outputs.benchmarks import HEADER, benchmarks_table
from medqa_finetune.report.runs import Run
from medqa_finetune.report.scores import in_order, is_benchmark, signatures
from medqa_finetune.report.stats.intervals import Finding
from medqa_finetune.report.verdict import Refusals, Verdict

WIDTH = 118
# Statuses of runs that have not ended.
OPEN = ("pending", "running")
RUN_WIDTH, BENCHMARK_WIDTH = 30, 50
# Words and intervals are not broken; each Chinese character counts as a word.
WORD = re.compile(r"\[[^\[\]]{1,24}\]\S*|[!-Z\\^-~]+|.", re.DOTALL)
# Heading, column of the table, decimal places.
Figure = tuple[str, str, int]
# Of a table; more scroll away.
MOST_ROWS = 300
# Keys of headings in `messages`.
SIZE: Figure = ("pairs", "train_size", 0)
COSTS: tuple[Figure, ...] = (
    ("vram", "peak_vram_gib", 2),
    ("rss", "peak_rss_gib", 2),
    ("terminal_seconds", "train_seconds", 0),
    ("tokens", "train_tokens_per_second", 0),
    ("tested", "n_test", 0),
)


def runs_as_text(runs: Sequence[Run]) -> str:
    """Format the runs as tables at most 120 characters wide, then why runs are not done, and how many are."""
    tables = tables_of(runs)
    lines = [line for table in tables for line in (*_table(table), "")]
    # The answer names those that have not ended.
    reasons = [(run, run.values.get("reason")) for run in runs if run.values["status"] not in OPEN]
    lines += [f"{visible(run.place)}: {visible(' '.join(reason.split()))}" for run, reason in reasons if reason]
    counts = Counter(str(run.values["status"]) for run in runs if not run.done)
    others = "".join(
        say(", {count} {status}", count=count, status=say(status)) for status, count in sorted(counts.items())
    )
    done = len(runs) - counts.total()
    lines.append(say("{count} of {all} runs done{others}.", count=done, all=len(runs), others=others))
    if len(tables) > 1:
        apart = say("Scores in different tables do not compare: evaluation, test set or signature differs.")
        how = say(
            "In the CSV files the column `evaluation` names the evaluation; other differences have their own columns."
        )
        lines.append(_wrapped(Text(f"{apart} {how}", f"{apart}{how}").spoken))
    return "\n".join(lines)


def _table(runs: Sequence[Run]) -> Iterator[str]:
    places = [visible(run.place) for run in runs]
    trained = [place for place, run in zip(places, runs, strict=True) if run.trains]
    shared = shared_settings(trained, places)
    if shared:
        yield _wrapped(label("terminal.shared", settings=", ".join(shared)).spoken)
    seeds = Counter(run.values.get("label") for run in runs)
    listed, more = runs[:MOST_ROWS], len(runs[MOST_ROWS:])
    names = [_name(run, several=seeds[run.values.get("label")] > 1) for run in listed]
    figures = [_figure_of(*SIZE), *_scores(runs), *(_figure_of(*cost) for cost in COSTS)]
    header = [say("run"), say("status"), *(heading for heading, _, _ in figures)]
    shown = short_names(names, RUN_WIDTH)
    rows = [
        [name, say(str(run.values["status"])), *(_figure(run, column, digits) for _, column, digits in figures)]
        for name, run in zip(shown, listed, strict=True)
    ]
    yield aligned_table(header, rows, left=header[:2])
    if more:
        yield say("{count} more runs are in results_summary.csv", count=f"{more:,}")


def _name(run: Run, *, several: bool) -> str:
    """Return what a run is called; with its seed, where several runs would be called the same."""
    name = visible(name_of(str(run.values.get("label") or run.place)).spoken)
    is_seed = several and run.record is not None
    return say("{label} seed {seed}", label=name, seed=run.known.seed) if is_seed else name


def _scores(runs: Sequence[Run]) -> list[Figure]:
    """Return the scores of a table: its task's shortlist, or the first measured scores if none of it was measured."""
    shown = list(shortlist(running_text=any(run.values.get("task") == "text" for run in runs)))
    measured = {name for run in runs for name in signatures(run.values.get("signature")) if not is_benchmark(name)}
    if measured and measured.isdisjoint(score.name for score in shown):
        shown = in_order(measured)[: len(shown)]
    return [(score.words_in(chosen()).short, score.name, score.digits) for score in shown]


def _figure_of(key: str, column: str, digits: int) -> Figure:
    return label(f"column.{key}").spoken, column, digits


def _figure(run: Run, column: str, digits: int) -> str:
    value = run.values.get(column)
    # Unmeasured values are a dash, never 0.
    return "-" if value is None else f"{value:,.{digits}f}"


def benchmarks_as_text(frame: pd.DataFrame) -> str:
    """Format the table of benchmarks; empty if none was measured.

    Args:
        frame: Table from `report.table.results_table`.
    """
    rows = benchmarks_table(frame)
    if not rows:
        return ""
    header = [Text(*(name.split(" ") * 2)[:2]).spoken for name in HEADER]
    names = [row[0] for row in rows]
    # Settings that all rows share are printed above the table of runs.
    shared = shared_settings(names, names) if max(map(len, names)) > BENCHMARK_WIDTH else []
    cells = short_names([visible(without_settings(name, shared)) for name in names], BENCHMARK_WIDTH)
    benchmarks = short_names([visible(row[1]) for row in rows], BENCHMARK_WIDTH)
    shown = [[cell, name, *row[2:]] for cell, name, row in zip(cells, benchmarks, rows, strict=True)]
    return aligned_table(header, shown, left=header[:2])


def analysis_as_text(analysis: Analysis) -> str:
    """Format the answer in lines of at most 118 columns, then how it was got; English advice is repeated in Chinese."""
    unfinished = ["\n".join(_in_both(text(each))) for each in analysis.unfinished]
    blocks = ["\n".join(unfinished)] if unfinished else []
    notes = [text(note, analysis.labels).spoken for note in analysis.notes]
    if not analysis.scores:
        return "\n\n".join([*blocks, *map(_wrapped, notes)])
    blocks += ["\n".join(_verdict_lines(analysis, verdict)) for verdict in analysis.verdicts]
    # Printed once, since there is one verdict per evaluation.
    for caution in dict.fromkeys(verdict.caution for verdict in analysis.verdicts):
        blocks.append("\n".join(_in_both(text(caution))))
    if notes:
        blocks.append("\n".join(_wrapped(label("terminal.note", note=note).spoken) for note in notes))
    blocks.append(_wrapped(text(analysis.settings).spoken))
    return "\n\n".join(blocks)


def _verdict_lines(analysis: Analysis, verdict: Verdict) -> Iterator[str]:
    refusals = _refusals(analysis, verdict)
    rest: list[Outcome] = [*verdict.steps, *(fit for fit in verdict.fit if fit.score == verdict.score)]
    rest += [front for front in verdict.pareto if front.score == verdict.score and len(front.points) > 1]
    rest += [] if refusals is None else [refusals]
    advice = text(verdict.advice, analysis.labels)
    yield f"== {verdict.title}"
    yield from _in_both(advice)
    parts: list[tuple[str, Sequence[Outcome]]] = [("report.choices", verdict.choices), ("", verdict.sizes), ("", rest)]
    for heading, outcomes in parts:
        # Scores that are not comparable for the same reason share one line.
        lines = dict.fromkeys(text(outcome, analysis.labels).spoken for outcome in outcomes)
        if lines:
            yield ""
            if heading:
                yield label("terminal.heading", words=label(heading)).spoken
        yield from map(_wrapped, lines)


def _refusals(analysis: Analysis, verdict: Verdict) -> Refusals | None:
    cells = {point.cell for front in verdict.pareto for point in front.points}
    cells |= {cell for fit in verdict.fit for cell in fit.cells}
    refused = [
        each
        for each in analysis.comparisons
        if each.verdict is Finding.NOT_COMPARABLE and each.score == verdict.score and {each.first, each.second} & cells
    ]
    return Refusals(len(refused), refused[0]) if refused else None


def _in_both(words: Text) -> list[str]:
    """Return what every reader must understand: in English and Chinese, or in Chinese alone for who asks for it."""
    return [_wrapped(each) for each in ([words.zh] if chosen() == "zh" else [words.en, words.zh])]


def _wrapped(words: str) -> str:
    """Wrap a text to lines of at most `WIDTH` columns; a Chinese character takes two."""
    lines, line, width = [], "", 0
    # A name longer than a line is broken before one of its settings.
    parts = [
        part for word in WORD.findall(words) for part in (re.split("(?=__)", word) if len(word) > WIDTH else [word])
    ]
    for part in parts:
        columns = sum(2 if unicodedata.east_asian_width(letter) in "FW" else 1 for letter in part)
        if width + columns > WIDTH and line:
            lines.append(line.rstrip())
            line, width = "", 2
        if line or not part.isspace():
            line, width = line + part, width + columns
    return "\n  ".join([*lines, line.rstrip()])
