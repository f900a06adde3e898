"""From runs to cells: the mean over seeds; and from a table to one whose columns hold only figures that compare."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from medqa_finetune.report.scores import SIGNATURE_SEPARATOR, is_benchmark, score_columns, score_info, signatures

# What runs of one cell share, beside all that their name says.
SHARED = ("study", "cell", "method", "data", "train_size", "model", "corpus", "evaluation", "n_test", "test_sha256",
          "signature")  # fmt: skip
COSTS = ("train_seconds", "peak_vram_gib", "peak_rss_gib")


def cells_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell (`cell_names`).

    Columns: what the runs share, `seeds` (how many), `seed_list`, and for every figure `<figure>_mean` and
    `<figure>_sd`, the standard deviation between seeds (n - 1 below the line); blank for one seed, never 0, and where
    one of the runs does not have the figure. Of copies of one run the first counts.

    Args:
        frame: As `report.table.results_table` makes it, or `apart`.
    """
    averaged = [*score_columns(frame["signature"]), *COSTS, *_more_scores(list(frame.columns))]
    done = frame[frame["cell"].notna()].drop_duplicates(["cell", "seed"])
    rows = []
    for _, runs in done.groupby("cell", sort=False):
        row: dict[str, Any] = {column: runs.iloc[0][column] for column in SHARED}
        row["signature"] = _signatures(runs)
        row["seeds"] = len(runs)
        row["seed_list"] = " ".join(str(seed) for seed in sorted(runs["seed"]))
        for figure in averaged:
            values = runs[figure].astype("Float64")
            # A mean over some of the seeds would be beside one over all of them.
            whole = values.notna().all()
            row[f"{figure}_mean"] = values.mean() if whole else None
            row[f"{figure}_sd"] = values.std(ddof=1) if whole and len(runs) > 1 else None
        rows.append(row)
    figures = [f"{figure}_{kind}" for figure in averaged for kind in ("mean", "sd")]
    order = [*SHARED[:-2], "seeds", "seed_list", *figures, *SHARED[-2:]]
    table = pd.DataFrame(rows, columns=order, dtype=object)
    return table.where(table.notna(), None)


def apart(frame: pd.DataFrame, scores: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a table in which no column of a score holds figures that do not compare.

    Figures compare if test set, number of questions and the score's signature agree; perplexities, which depend on the
    tokenizer, if the model does as well. Most runs' figures stay in the score's own column; every other kind gets a
    column `<score>#2`, `<score>#3`, … behind the last one. Figures of a benchmark compare if its signature agrees. Rows
    of different evaluations share columns: `evaluation` says which is which.

    Args:
        frame: As `report.table.results_table` makes it.
        scores: Those whose columns are looked at; all if None.
    """
    spread = frame.copy()
    every = [*score_columns(frame["signature"]), *filter(is_benchmark, frame.columns)]
    for score in every if scores is None else scores:
        kinds = pd.Series(_kinds(frame, score), index=frame.index, dtype=object)
        for number in range(2, max(kinds.dropna(), default=1) + 1):
            here = kinds == number
            for column in (score, f"{score}_low", f"{score}_high"):
                if column in frame:
                    spread[column.replace(score, f"{score}#{number}")] = frame[column].where(here)
                    spread[column] = spread[column].mask(here)
    return spread


def _kinds(frame: pd.DataFrame, score: str) -> list[int | None]:
    """Return, for every row, the number of the kind of its figure among those of its evaluation, from 1; or None."""
    rows = frame.to_dict("records")
    keys = [_key(row, score) for row in rows]
    counted: dict[str, dict[str, int]] = {}
    for row, key in zip(rows, keys, strict=True):
        if key is not None:
            of_evaluation = counted.setdefault(str(row["evaluation_identity"]), {})
            of_evaluation[key] = of_evaluation.get(key, 0) + 1
    # The sort is stable: of kinds that are equally frequent, the first stays first.
    order = {name: sorted(kinds, key=kinds.__getitem__, reverse=True) for name, kinds in counted.items()}
    return [
        None if key is None else order[str(row["evaluation_identity"])].index(key) + 1
        for row, key in zip(rows, keys, strict=True)
    ]


def _key(row: dict[Any, Any], score: str) -> str | None:
    if pd.isna(row[score]):
        return None
    test = [] if is_benchmark(score) else [row["test_sha256"], row["n_test"]]
    parts = [*test, signatures(row["signature"]).get(score, "")]
    return repr([*map(str, parts), row["model"] if score_info(score).per_tokenizer else ""])


def _more_scores(columns: Sequence[str]) -> list[str]:
    """Return the columns of further scores: of benchmarks, and of figures set apart, without intervals."""
    found = [column for column in columns if is_benchmark(column) or "#" in column]
    ends = {f"{column}{end}" for column in found for end in ("_low", "_high")}
    return [column for column in found if is_benchmark(column) or column not in ends]


def _signatures(runs: pd.DataFrame) -> str | None:
    """Return the signatures of all scores that any of the runs has."""
    every = {score: own for cell in runs["signature"] for score, own in signatures(cell).items()}
    return SIGNATURE_SEPARATOR.join(f"{score}={own}" for score, own in sorted(every.items())) or None
