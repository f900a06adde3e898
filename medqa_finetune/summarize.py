"""The door to the results: one table, one CSV file and two pictures over all runs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from medqa_finetune.config.command_line import aligned_table, parse_options, run_door, wants_help
from medqa_finetune.errors import EXIT_DONE, DataError
from medqa_finetune.log import visible
from medqa_finetune.record.files import sweep
from medqa_finetune.record.run_dir import find_runs

if TYPE_CHECKING:
    import pandas as pd

USAGE = """\
Put all runs into one table, two CSV files (one row per run; mean and spread over seeds) and two pictures.

  python -m medqa_finetune.summarize [outputs=DIR]

Options:
  outputs=DIR   folder with runs, at any depth; takes DIR/summary/    default outputs
"""
CSV, CELLS = "results_summary.csv", "results_by_cell.csv"
NAME_WIDTH = 30
# Heading on the terminal, column of the table, digits behind the point.
FIGURES = (
    ("pairs", "train_size", 0),
    ("ROUGE-L", "rougeL", 2),
    ("BLEU", "bleu", 2),
    ("ppl", "perplexity", 2),
    ("VRAM GiB", "peak_vram_gib", 2),
    ("RSS GiB", "peak_rss_gib", 2),
    ("train s", "train_seconds", 0),
    ("tokens/s", "train_tokens_per_second", 0),
    ("n", "n_test", 0),
)


@dataclasses.dataclass(frozen=True)
class SummarizeOptions:
    """What can be typed after `summarize`.

    Attributes:
        outputs: Folder with runs, at any depth.
    """

    outputs: str = "outputs"


def main() -> NoReturn:
    """Summarize what the command line names, and end the process."""
    run_door(summarize)


def summarize(arguments: list[str]) -> int:
    """Write table and pictures over the runs that `arguments` name, print the table, and return the exit code.

    Raises:
        ConfigError: an option is unknown.
        DataError: the folder is missing, holds no record, or cannot be written to.
    """
    if wants_help(arguments):
        print(USAGE, end="")
        return EXIT_DONE
    root = Path(parse_options(SummarizeOptions, arguments).outputs)
    if not root.is_dir():
        raise DataError(f"outputs={root}: no such folder; the one that runs were written to is wanted.")
    runs = list(find_runs(root))
    if not runs:
        raise DataError(f"outputs={root}: no record of a run below it; train one first, or name another folder.")
    # pandas and seaborn take a second to load; bad input and --help need not wait for them.
    from medqa_finetune.report.table import results_table

    frame = results_table(runs, root)
    written = _write(frame, root / "summary")
    print(as_text(frame))
    for path in written:
        print(f"wrote {path}")
    if not any(path.suffix == ".png" for path in written):
        print("no pictures: no run that trained something is done")
    return EXIT_DONE


def as_text(frame: "pd.DataFrame") -> str:
    """Return the table for a terminal (at most 120 columns wide), why runs are not done below it, and how many."""
    rows = frame.to_dict("records")
    lines = [line for part in _parts(rows) for line in (_table(part), "")]
    lines += [f"{_place(row)}: {visible(' '.join(str(row['reason']).split()))}" for row in rows if row["reason"]]
    done = sum(row["status"] == "done" for row in rows)
    lines.append(f"{done} of {len(rows)} runs done" + _failed(rows) + ".")
    if not _compare(rows):
        lines.append(
            "The runs differ in test set, number of questions or signatures: scores of different tables above do"
        )
        lines.append("not compare. The CSV keeps them in columns of their own, the pictures in panels.")
    return "\n".join(lines)


def _write(frame: "pd.DataFrame", folder: Path) -> list[Path]:
    from filelock import FileLock

    from medqa_finetune.report.plots import write_plots
    from medqa_finetune.report.seeds import apart, cells_table
    from medqa_finetune.report.table import write_csv

    try:
        # Two summaries at once write one after the other, so that what a killed one left can be swept away.
        with FileLock(folder.parent / ".summary.lock"):
            sweep(folder)
            write_csv(apart(frame), folder / CSV)
            write_csv(cells_table(frame), folder / CELLS)
            return [folder / CSV, folder / CELLS, *write_plots(frame, folder)]
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); a writable folder is wanted.") from None


def _parts(rows: Sequence[dict[Any, Any]]) -> list[list[dict[Any, Any]]]:
    """Return the rows in parts whose scores compare, in order; rows without scores go with the first part."""
    parts: dict[tuple[Any, ...], list[dict[Any, Any]]] = {}
    first = next((_basis(row) for row in rows if row["signature"]), ())
    for row in rows:
        parts.setdefault(_basis(row) if row["signature"] else first, []).append(row)
    return list(parts.values())


def _basis(row: dict[Any, Any]) -> tuple[Any, ...]:
    return (row["test_sha256"], row["n_test"], row["signature"])


def _table(rows: Sequence[dict[Any, Any]]) -> str:
    header = ["run", "status", *(heading for heading, _, _ in FIGURES)]
    return aligned_table(
        header, [[_name(row), str(row["status"]), *_figures(row)] for row in rows], left=["run", "status"]
    )


def _name(row: dict[Any, Any]) -> str:
    name = _place(row)
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"


def _place(row: dict[Any, Any]) -> str:
    return visible(f"{row['study']}/{row['name']}" if row["study"] else str(row["name"]))


def _figures(row: dict[Any, Any]) -> list[str]:
    # A value that was not measured is a dash, never 0.
    return [_figure(row[column], digits) for _, column, digits in FIGURES]


def _figure(value: Any, digits: int) -> str:
    import pandas as pd

    return "-" if pd.isna(value) else f"{value:,.{digits}f}"


def _failed(rows: Sequence[dict[Any, Any]]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        if row["status"] != "done":
            counts[str(row["status"])] = counts.get(str(row["status"]), 0) + 1
    return "".join(f", {count} {status}" for status, count in sorted(counts.items()))


def _compare(rows: Sequence[dict[Any, Any]]) -> bool:
    return len(_parts(rows)) <= 1


if __name__ == "__main__":
    main()
