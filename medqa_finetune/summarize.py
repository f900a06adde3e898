"""Command-line entry point for the report: tables, CSV files, charts, a page and recommendations over all runs."""

import dataclasses
import functools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from medqa_finetune.config.command_line import aligned_table, run_command, wants_help
from medqa_finetune.config.command_options import Options, describe, option, parse_options
from medqa_finetune.config.ranges import not_negative
from medqa_finetune.errors import EXIT_DONE, DataError, Fault, MedQAError
from medqa_finetune.log import visible
from medqa_finetune.record.short_names import shared_settings, short_names, without_settings

if TYPE_CHECKING:
    import pandas as pd

    from medqa_finetune.record.item_scores import ItemScores
    from medqa_finetune.record.run_dir import RunDir
    from medqa_finetune.report.analysis import Analysis
    from medqa_finetune.report.cells import ScoredRun
    from medqa_finetune.report.html.sources import Source
    from medqa_finetune.report.table import Seen

CSV, CELLS, REPORT = "results_summary.csv", "results_by_cell.csv", "report.md"
DEFAULT_METRICS = ("rouge", "bleu", "perplexity")
NAME_WIDTH = 30
# Heading on the terminal, column of the table, digits behind the point.
FIGURES = (
    ("pairs", "train_size", 0),
    ("ROUGE-L", "rougeL", 2),
    ("BLEU", "bleu", 2),
    ("ppl", "perplexity", 2),
    ("text ppl", "text_perplexity", 2),
    ("VRAM GiB", "peak_vram_gib", 2),
    ("RSS GiB", "peak_rss_gib", 2),
    ("train s", "train_seconds", 0),
    ("tokens/s", "train_tokens_per_second", 0),
    ("n", "n_test", 0),
)
# Of these, a table shows those of its own task.
ANSWER_SCORES, TEXT_SCORES = ("rougeL", "bleu", "perplexity"), ("text_perplexity",)


@dataclasses.dataclass(frozen=True)
class SummarizeOptions(Options):
    """What can be typed after `summarize`."""

    outputs: str = option("outputs", "folder with runs, at any depth; takes DIR/summary/", value="DIR")
    price_per_hour: float | None = option(
        None, "price of an hour of the machine, in any currency; without it no costs are computed", check=not_negative
    )


USAGE = f"""\
usage: python -m medqa_finetune.summarize [key=value …]

Writes tables (CSV), charts and a page (report.html) over all runs below a folder, and reports what more data and
another method gain.

  python -m medqa_finetune.summarize
  python -m medqa_finetune.summarize outputs=outputs/demo price_per_hour=2.5

options:
{describe(SummarizeOptions)}"""


def main() -> NoReturn:
    """Summarize what the command line names, and end the process."""
    run_command(summarize)


def summarize(arguments: list[str]) -> int:
    """Write table and pictures over the runs that `arguments` name, print the table, and return the exit code.

    Raises:
        ConfigError: an option is unknown.
        DataError: the folder is missing, holds no record, or cannot be written to.
    """
    if wants_help(arguments):
        print(USAGE, end="")
        return EXIT_DONE
    options = parse_options(SummarizeOptions, arguments)
    from medqa_finetune.record.run_dir import find_runs

    root = Path(options.outputs)
    if not root.is_dir():
        problem = "not a folder" if root.exists() else "no such folder"
        hint = "Give the folder that runs were written to."
        raise DataError(Fault("file-missing", problem, key="outputs", got=str(root), hint=hint))
    runs = list(find_runs(root))
    if not runs:
        hint = "Train a run first, or give another folder."
        raise DataError(Fault("no-match", "no record of a run in it", key="outputs", got=str(root), hint=hint))
    # pandas and seaborn take a second to load; bad input and --help need not wait for them.
    from medqa_finetune.report.analysis import analyse
    from medqa_finetune.report.outputs import results
    from medqa_finetune.report.outputs.benchmarks import benchmark_columns, benchmarks_as_text
    from medqa_finetune.report.seeds import apart
    from medqa_finetune.report.stats.intervals import Settings
    from medqa_finetune.report.table import results_table

    frame = results_table(runs, root)
    # Not set apart by test set, as the answers' scores are, so that what does not compare stays apart everywhere.
    frame = apart(frame, benchmark_columns(frame.columns))
    sources = _sources(runs, root, frame)
    analysis = analyse(_scored(sources), Settings(price_per_hour=options.price_per_hour))
    written = _write(results.with_intervals(frame, analysis), analysis, sources, root / "summary")
    print(as_text(frame))
    benchmarks = benchmarks_as_text(frame)
    if benchmarks:
        print("\nBenchmarks (mean over seeds; sd: standard deviation between them)\n" + benchmarks)
    print("\n" + visible_lines(results.as_text(analysis)) + "\n")
    for path in written:
        print(f"wrote {path}")
    if not any(path.suffix == ".png" for path in written):
        print("no pictures: no run that trained something is done")
    return EXIT_DONE


def as_text(frame: "pd.DataFrame") -> str:
    """Return the table for a terminal (at most 120 columns wide), why runs are not done below it, and how many."""
    rows = frame.to_dict("records")
    parts = _parts(rows)
    lines = [line for part in parts for line in (*_named(part), _table(part, _figures_of(part)), "")]
    lines += [f"{_place(row)}: {visible(' '.join(str(row['reason']).split()))}" for row in rows if row["reason"]]
    done = sum(row["status"] == "done" for row in rows)
    lines.append(f"{done} of {len(rows)} runs done" + _failed(rows) + ".")
    if len(parts) > 1:
        lines.append(
            "Rows differ in evaluation, test set or signatures: scores of different tables do not compare. In the CSV"
        )
        lines.append("the column evaluation tells evaluations apart, other differences have columns of their own.")
    return "\n".join(lines)


def _write(
    frame: "pd.DataFrame", analysis: "Analysis", sources: "dict[tuple[str, str], Source]", folder: Path
) -> list[Path]:
    from filelock import FileLock

    from medqa_finetune.record.files import sweep, write_text
    from medqa_finetune.report.figures.overview import write_plots
    from medqa_finetune.report.html.write import figures_as_markdown, write_report
    from medqa_finetune.report.outputs import results
    from medqa_finetune.report.outputs.benchmarks import benchmarks_table
    from medqa_finetune.report.seeds import apart, cells_table
    from medqa_finetune.report.table import write_csv

    spread = apart(frame)
    tables = {
        CSV: spread,
        CELLS: cells_table(spread),
        "scores.csv": results.scores_table(analysis),
        "comparisons.csv": results.comparisons_table(analysis),
    }
    try:
        # Two summaries at once write one after the other, so that what a killed one left can be swept away.
        with FileLock(folder.parent / ".summary.lock"):
            sweep(folder)
            for name, table in tables.items():
                write_csv(table, folder / name)
            page, charts = write_report(frame, analysis, sources, folder)
            benchmarks = results.benchmarks_as_markdown(benchmarks_table(frame))
            write_text(folder / REPORT, results.as_markdown(analysis) + benchmarks + figures_as_markdown(charts))
            return [*(folder / name for name in (*tables, REPORT)), *write_plots(frame, folder), page]
    except OSError as error:
        problem, hint = f"cannot be written ({error.strerror})", "Give a folder that is writable."
        raise DataError(Fault("not-writable", problem, file=str(folder), hint=hint)) from None


def _sources(runs: "Sequence[RunDir]", root: Path, frame: "pd.DataFrame") -> "dict[tuple[str, str], Source]":
    """Return the runs whose records can be read by study and name, in the order of the table."""
    from medqa_finetune.report.html.sources import Source
    from medqa_finetune.report.table import seen_runs, study_of, unicode_name

    place = {key: row for row, key in enumerate(zip(frame["study"], frame["name"], strict=True))}
    found = {}
    for run in runs:
        try:
            seen = list(seen_runs(run))
        except MedQAError:
            continue  # the table has a row that says why
        for each in (each for each in seen if each.fault is None):
            key = (unicode_name(study_of(run.path, root.absolute())), unicode_name(each.name))
            items = functools.partial(_items, each)
            answered_in = None if each.evaluation is None else each.evaluation.environment
            found[key] = Source(run, each.folder, each.record, items, answered_in)
    return dict(sorted(found.items(), key=lambda item: place.get(item[0], len(place))))


def _scored(sources: "dict[tuple[str, str], Source]") -> "list[ScoredRun]":
    """Return the done runs that have scores."""
    from medqa_finetune.report.cells import ScoredRun

    return [
        ScoredRun(name, study, source.record, source.items, source.answered_in)
        for (study, name), source in sources.items()
        if source.record.status == "done" and source.record.evaluation is not None
    ]


def _items(seen: "Seen") -> "ItemScores | None":
    """Return what every answer of an evaluation scored: from its file, or scored again where that is missing."""
    from medqa_finetune.evaluation.score import item_scores
    from medqa_finetune.evaluation.score_rows import score_rows
    from medqa_finetune.record.files import sha256_of

    folder, record = seen.folder, seen.record
    kept = None if folder is None else folder.read_item_scores()
    if folder is None or kept is not None:
        return kept
    metrics = record.setting("evaluate", "metrics")
    try:
        _, rows = score_rows(folder.read_predictions(), folder, record, metrics or DEFAULT_METRICS)
        return item_scores(rows, sha256_of(folder.predictions_path))
    except MedQAError:
        return None


def visible_lines(text: str) -> str:
    """Return a text line by line, without what a terminal would obey."""
    return "\n".join(visible(line) for line in text.split("\n"))


def _parts(rows: Sequence[dict[Any, Any]]) -> list[list[dict[Any, Any]]]:
    """Return the rows in parts whose scores compare, in order; rows without scores go with the first of their task."""
    from medqa_finetune.report.comparable import basis_of, parts_that_compare

    parts = parts_that_compare([row for row in rows if row["signature"]], basis_of)
    place = {id(row): number for number, part in enumerate(parts) for row in part}
    for row in rows:
        if id(row) not in place:
            like = (number for number, part in enumerate(parts) if part[0]["task"] == row["task"])
            place[id(row)] = next(like, 0)
    numbers = sorted(set(place.values())) or [0]
    return [[row for row in rows if place[id(row)] == number] for number in numbers]


def _table(rows: Sequence[dict[Any, Any]], figures: Sequence[tuple[str, str, int]]) -> str:
    header = ["run", "status", *(heading for heading, _, _ in figures)]
    cells = [[row["shown"], str(row["status"]), *_figures(row, figures)] for row in rows]
    return aligned_table(header, cells, left=["run", "status"])


def _named(rows: Sequence[dict[Any, Any]]) -> list[str]:
    """Put the names to be shown into the rows of a table, and return a line on what all of them lack."""
    from medqa_finetune.report.table import trains

    names = [_place(row) for row in rows]
    trained = [name for name, row in zip(names, rows, strict=True) if trains(row)]
    shared = shared_settings(trained, names) if max(map(len, names), default=0) > NAME_WIDTH else []
    shown = short_names([without_settings(name, shared) for name in names], NAME_WIDTH)
    for row, name in zip(rows, shown, strict=True):
        row["shown"] = name
    return textwrap.wrap(f"All that train: {', '.join(shared)}", 118) if shared else []


def _figures_of(rows: Sequence[dict[Any, Any]]) -> list[tuple[str, str, int]]:
    others = ANSWER_SCORES if any(row["task"] == "text" for row in rows) else TEXT_SCORES
    return [each for each in FIGURES if each[1] not in others]


def _place(row: dict[Any, Any]) -> str:
    return visible(f"{row['study']}/{row['name']}" if row["study"] else str(row["name"]))


def _figures(row: dict[Any, Any], figures: Sequence[tuple[str, str, int]]) -> list[str]:
    # A value that was not measured is a dash, never 0.
    return [_figure(row[column], digits) for _, column, digits in figures]


def _figure(value: Any, digits: int) -> str:
    import pandas as pd

    return "-" if pd.isna(value) else f"{value:,.{digits}f}"


def _failed(rows: Sequence[dict[Any, Any]]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        if row["status"] != "done":
            counts[str(row["status"])] = counts.get(str(row["status"]), 0) + 1
    return "".join(f", {count} {status}" for status, count in sorted(counts.items()))


if __name__ == "__main__":
    main()
