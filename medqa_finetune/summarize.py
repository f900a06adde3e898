"""Command-line entry point for the report: tables, CSV files, charts, a page and recommendations over all runs.

pandas and matplotlib take a second to load, so everything that loads them is imported after the options are checked.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.config.command_options import Options, describe, option, parse_options
from medqa_finetune.config.ranges import not_negative
from medqa_finetune.errors import EXIT_DONE, DataError, Fault
from medqa_finetune.languages.choice import chosen
from medqa_finetune.languages.translate import say
from medqa_finetune.log import visible

if TYPE_CHECKING:
    import pandas as pd

    from medqa_finetune.report.analysis import Analysis
    from medqa_finetune.report.runs import Run

RUNS, CELLS, REPORT = "results_summary.csv", "results_by_cell.csv", "report.md"
GROUPS = "scores_by_group.csv"


@dataclasses.dataclass(frozen=True)
class SummarizeOptions(Options):
    """Options of `summarize`."""

    outputs: str = option("outputs", "folder with runs, at any depth; takes DIR/summary/", value="DIR")
    price_per_hour: float | None = option(
        None, "price of an hour of the machine, in any currency; without it no costs are computed", check=not_negative
    )


USAGE = f"""\
usage: python -m medqa_finetune.summarize [key=value …]

Writes tables (CSV, and for a paper LaTeX and Markdown), charts and a page (report.html) over all runs below a folder,
and reports what more data and another method gain.

  python -m medqa_finetune.summarize
  python -m medqa_finetune.summarize outputs=outputs/demo price_per_hour=2.5

options:
{describe(SummarizeOptions)}"""


def main() -> NoReturn:
    """Run the command `summarize`, and end the process."""
    run_command(summarize)


def summarize(arguments: list[str]) -> int:
    """Write the summary of the runs that `arguments` name, print the table and the verdict, and return the exit code.

    Raises:
        ConfigError: an option is unknown.
        DataError: the folder is missing, contains no record, or cannot be written to.
    """
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    options = parse_options(SummarizeOptions, arguments)
    from medqa_finetune.record.run_dir import find_runs

    root = Path(options.outputs)
    if not root.is_dir():
        problem = "not a folder" if root.exists() else "no such folder"
        hint = "Give the folder that runs were written to."
        raise DataError(Fault("file-missing", problem, key="outputs", got=str(root), hint=hint))
    folders = list(find_runs(root))
    if not folders:
        hint = "Train a run first, or give another folder."
        raise DataError(Fault("no-match", "no record of a run in it", key="outputs", got=str(root), hint=hint))
    from medqa_finetune.compat.fonts import missing_font
    from medqa_finetune.report.analysis import analyse
    from medqa_finetune.report.load import load_runs
    from medqa_finetune.report.outputs.terminal import analysis_as_text, benchmarks_as_text, runs_as_text
    from medqa_finetune.report.stats.intervals import Settings
    from medqa_finetune.report.table import results_table

    runs = _with_queue(load_runs(folders, root))
    table = results_table(runs)
    analysis = analyse(runs, Settings(price_per_hour=options.price_per_hour))
    written = _write(runs, table, analysis, root / "summary")
    print(runs_as_text(runs))
    benchmarks = benchmarks_as_text(table)
    if benchmarks:
        print(f"\n{say('Benchmarks (mean over seeds; sd: standard deviation over seeds)')}\n{benchmarks}")
    print("\n" + "\n".join(visible(line) for line in analysis_as_text(analysis).split("\n")) + "\n")
    for path in written:
        print(say("wrote {path}", path=path))
    names = [str(value) for run in runs for value in (run.study, run.name, *_named(run))]
    font = missing_font([*names, *(each.group for each in analysis.groups)], chinese=chosen() == "zh")
    if font is not None:
        print(say("note: {note}", note=font))
    if not any(path.suffix == ".png" for path in written):
        print(say("no pictures: no run that trained something is done"))
    return EXIT_DONE


def _with_queue(runs: "list[Run]") -> "list[Run]":
    """Return runs with their places in a cluster's queue; where no open one was ever submitted, as they are."""
    from medqa_finetune.launch.cluster import slurm
    from medqa_finetune.launch.cluster.naming import RAY, SLURM, digest_of, queue_folder
    from medqa_finetune.launch.cluster.queue import QueueSilentError
    from medqa_finetune.launch.cluster.ray import jobs

    live: dict[str, str] = {}
    folders = {run.folder.path for run in runs if run.folder is not None and not run.done}
    try:
        # Each submitted cell has its description there.
        if any(any(queue_folder(folder, SLURM).glob("*.json")) for folder in folders):
            live |= slurm.live_digests()
        live |= jobs.live_digests({queue_folder(folder, RAY) for folder in folders})
    except QueueSilentError as error:
        print(say("note: the queue does not answer ({words}); what is queued is not known", words=error))
    if not live:
        return runs
    return [
        dataclasses.replace(run, in_queue=state)
        if not run.done
        and run.record is not None
        and run.evaluation_dir is not None
        and (state := live.get(digest_of(run.evaluation_dir.path, run.record.identity)))
        else run
        for run in runs
    ]


def _named(run: "Run") -> list[object]:
    return [run.values.get(column) or "" for column in ("method", "data", "model", "corpus")]


def _write(runs: "Sequence[Run]", table: "pd.DataFrame", analysis: "Analysis", folder: Path) -> list[Path]:
    from filelock import FileLock

    from medqa_finetune.record.files import sweep, write_text
    from medqa_finetune.report.figures.overview import pictured, write_overview
    from medqa_finetune.report.grouping import groups_of
    from medqa_finetune.report.html.write import write_report
    from medqa_finetune.report.outputs import csv, markdown
    from medqa_finetune.report.outputs.benchmarks import benchmarks_table
    from medqa_finetune.report.outputs.captions import captions_as_markdown
    from medqa_finetune.report.outputs.latex import tables_as_latex
    from medqa_finetune.report.outputs.paper import paper_tables, tables_as_markdown

    rows = csv.apart(csv.with_intervals(table, analysis))
    tables = {
        RUNS: rows,
        CELLS: csv.cells_table(rows),
        "scores.csv": csv.scores_table(analysis),
        "comparisons.csv": csv.comparisons_table(analysis),
    }
    if analysis.groups:
        tables[GROUPS] = csv.groups_table(analysis)
    groups = groups_of(runs)
    shown = pictured(groups)
    try:
        # One summary at a time, so that temporary files of a killed one can be removed.
        with FileLock(folder.parent / ".summary.lock"):
            sweep(folder)
            if not analysis.groups:
                (folder / GROUPS).unlink(missing_ok=True)
            for name, frame in tables.items():
                csv.write_csv(frame, folder / name)
            page, charts = write_report(runs, groups, analysis, folder)
            benchmarks = markdown.benchmarks_as_markdown(benchmarks_table(table))
            text = markdown.as_markdown(analysis) + benchmarks + markdown.figures_as_markdown(charts)
            for_papers = paper_tables(groups, analysis)
            texts = {
                REPORT: text,
                "table.md": tables_as_markdown(for_papers),
                "table.tex": tables_as_latex(for_papers),
                "captions.md": captions_as_markdown(shown, charts),
            }
            for name, content in texts.items():
                write_text(folder / name, content)
            return [*(folder / name for name in (*tables, *texts)), *write_overview(shown, analysis, folder), page]
    except OSError as error:
        problem, hint = f"cannot be written ({error.strerror})", "Give a folder that is writable."
        raise DataError(Fault("not-writable", problem, file=str(folder), hint=hint)) from None


if __name__ == "__main__":
    main()
