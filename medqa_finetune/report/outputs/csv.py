"""Writes the CSV files: one row per run, per cell, per score of a cell, or per pair of cells."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medqa_finetune.record.files import write_bytes
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.grouping import kinds_of
from medqa_finetune.report.messages import reason
from medqa_finetune.report.scores import SIGNATURE_SEPARATOR, headline_columns, is_benchmark, score_columns, signatures
from medqa_finetune.report.stats.intervals import Interval

# Characters that start a formula in a spreadsheet (OWASP "CSV injection", CWE-1236); East Asian versions of Excel
# also accept the full-width forms.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")
COMPARISON_COLUMNS = (
    "first", "second", "label", "score", "axis", "difference", "low", "high", "effect", "effect_low", "effect_high",
    "p", "p_holm", "verdict", "reason", "reason_zh",
)  # fmt: skip
SCORE_COLUMNS = ("cell", "label", "score", "value", "low", "high", "n", "seeds", "sd")
GROUP_COLUMNS = ("cell", "label", "group", "score", "value", "low", "high", "n", "seeds")
# Columns that runs of one cell share.
SHARED = (
    "study", "cell", "label", "method", "data", "train_size", "model", "corpus", "evaluation", "n_test", "test_sha256",
    "signature",
)  # fmt: skip
COSTS = ("train_seconds", "peak_vram_gib", "peak_rss_gib")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV in UTF-8 with a byte-order mark (for Excel), atomically.

    Texts and headings that a spreadsheet would run as a formula get a leading `'`; numbers are unchanged.
    """
    cells = {name: [_defused(cell) for cell in frame[name]] for name in frame}
    safe = pd.DataFrame({_defused(name): pd.Series(column, dtype=object) for name, column in cells.items()})
    write_bytes(path, safe.to_csv(index=False, lineterminator="\n").encode("utf-8-sig"))


def _defused(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    # csv does not quote a cell for a carriage return, which would end the row in some readers.
    whole = cell.replace("\r\n", "\n").replace("\r", "\n")
    return "'" + whole if cell.startswith(FORMULA_STARTS) else whole


def with_intervals(frame: pd.DataFrame, analysis: Analysis) -> pd.DataFrame:
    """Return the table with columns `<score>_low` and `<score>_high` added for each run's headline scores.

    They are over questions alone, since a row is one run; a cell's interval over several seeds is in `analysis.scores`.
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
    """Return one row per pair of cells and score, with the columns `COMPARISON_COLUMNS`.

    `label` is what the difference is called: the label of the second cell, less that of the first.
    """
    labels = analysis.labels
    rows = []
    for each in analysis.comparisons:
        why = reason(each)
        label = f"{labels.get(each.second, each.second)} − {labels.get(each.first, each.first)}"
        found = (each.first, each.second, label, each.score, each.axis, each.difference, *_ends(each.interval))
        effect = (each.effect, *_ends(each.effect_interval))
        rows.append((*found, *effect, each.p, each.p_holm, each.verdict, why.en, why.zh))
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS), dtype=object)


def scores_table(analysis: Analysis) -> pd.DataFrame:
    """Return one row per cell and score, with the columns `SCORE_COLUMNS`."""
    rows = [
        (s.cell, analysis.labels.get(s.cell, s.cell), s.score, s.value, *_ends(s.interval), s.n, s.seeds, s.sd)
        for s in analysis.scores
    ]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS), dtype=object)


def groups_table(analysis: Analysis) -> pd.DataFrame:
    """Return one row per cell, group of questions and score, with the columns `GROUP_COLUMNS`."""
    rows = [
        (g.cell, analysis.labels.get(g.cell, g.cell), g.group, g.score, g.value, *_ends(g.interval), g.n, g.seeds)
        for g in analysis.groups
    ]
    return pd.DataFrame(rows, columns=list(GROUP_COLUMNS), dtype=object)


def cells_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell (`grouping.cell_names`).

    Columns: what the runs share, `seeds` (their number), `seed_list`, and for every figure `<figure>_mean` and
    `<figure>_sd`, the standard deviation between seeds (n - 1), which is blank, never 0, for one seed. Both are blank
    if one of the runs lacks the figure. Of copies of one run, the first is used.

    Args:
        frame: Table from `report.table.results_table` or `apart`.
    """
    averaged = [*score_columns(frame["signature"]), *COSTS, *_more_scores(list(frame.columns))]
    done = frame[frame["cell"].notna()].drop_duplicates(["cell", "seed"])
    cells: dict[str, list[dict[str, Any]]] = {}
    for run in done[[*SHARED, "seed", *averaged]].to_dict("records"):
        cells.setdefault(run["cell"], []).append({str(column): value for column, value in run.items()})
    rows = [_row_of_cell(runs, averaged) for runs in cells.values()]
    figures = [f"{figure}_{kind}" for figure in averaged for kind in ("mean", "sd")]
    order = [*SHARED[:-2], "seeds", "seed_list", *figures, *SHARED[-2:]]
    table = pd.DataFrame(rows, columns=order, dtype=object)
    return table.where(table.notna(), None)


def _row_of_cell(runs: Sequence[Mapping[str, Any]], averaged: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {column: runs[0][column] for column in SHARED}
    row["signature"] = _signatures([run["signature"] for run in runs])
    row["seeds"] = len(runs)
    row["seed_list"] = " ".join(str(seed) for seed in sorted(run["seed"] for run in runs))
    for figure in averaged:
        known = [float(run[figure]) for run in runs if not pd.isna(run[figure])]
        # A mean is shown only if all seeds have a value, so that cells are comparable.
        whole, several = len(known) == len(runs), len(runs) > 1
        values = pd.Series(known, dtype="Float64") if whole and several else None
        row[f"{figure}_mean"] = values.mean() if values is not None else known[0] if whole else None
        row[f"{figure}_sd"] = values.std(ddof=1) if values is not None else None
    return row


def apart(frame: pd.DataFrame) -> pd.DataFrame:
    """Split score columns so that none holds figures of several kinds (`grouping.kinds_of`).

    Kind 1 stays in the score's own column; the others get columns `<score>#2`, `<score>#3`, … at the end. Rows of
    different evaluations share columns; `evaluation` distinguishes them.

    Args:
        frame: Table from `report.table.results_table` or `with_intervals`.
    """
    spread = frame.copy()
    rows = frame.to_dict("records")
    for score in (*score_columns(frame["signature"]), *filter(is_benchmark, frame.columns)):
        kinds = pd.Series(kinds_of(rows, score), index=frame.index, dtype=object)
        for number in range(2, max(kinds.dropna(), default=1) + 1):
            here = kinds == number
            for column in (score, f"{score}_low", f"{score}_high"):
                if column in frame:
                    spread[column.replace(score, f"{score}#{number}")] = frame[column].where(here)
                    spread[column] = spread[column].mask(here)
    return spread


def _more_scores(columns: Sequence[str]) -> list[str]:
    """Return the columns of benchmarks and of split-off figures, which have no intervals."""
    found = [column for column in columns if is_benchmark(column) or "#" in column]
    ends = {f"{column}{end}" for column in found for end in ("_low", "_high")}
    return [column for column in found if is_benchmark(column) or column not in ends]


def _signatures(runs: Sequence[str | None]) -> str | None:
    """Return the signatures of all scores of any run, given those of each."""
    every = {score: own for cell in runs for score, own in signatures(cell).items()}
    return SIGNATURE_SEPARATOR.join(f"{score}={own}" for score, own in sorted(every.items())) or None


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)
