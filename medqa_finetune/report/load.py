"""Loads run folders into `Run`s; every record is read once, and the whole report uses these runs."""

import dataclasses
import functools
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medqa_finetune.config.folder_names import SEPARATOR
from medqa_finetune.config.schema import DEFAULT_METRICS
from medqa_finetune.errors import MedQAError
from medqa_finetune.evaluation.score import item_scores, score_rows
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluation_parts, evaluations_of, row_name
from medqa_finetune.record.files import sha256_of
from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, Record
from medqa_finetune.report.grouping import cell_names, kinds_of
from medqa_finetune.report.labels import in_reading_order, labels_of
from medqa_finetune.report.runs import Run
from medqa_finetune.report.scores import is_benchmark
from medqa_finetune.report.sharing import Shared
from medqa_finetune.report.table import row_of

UNREADABLE = "unreadable"


def load_runs(folders: Iterable[RunDir], root: Path | None = None) -> list[Run]:
    """Read runs, one `Run` per evaluation of each: the untuned base first, then method by method.

    The `Run` of the default evaluation has the run's name; others have the suffix `__evaluate.key=value` for settings
    that differ from the default (`record.evaluations.row_name`). A run without a begun evaluation gives one `Run`. An
    unreadable record gives one with the status `unreadable` and the reason.

    Args:
        folders: Run folders in any order. Runs of a method are sorted by training size, seed, study and name.
        root: Folder that `study`, the path to a run's parent, is relative to; if None, the deepest folder that holds
            all runs.
    """
    found = list(folders)
    base = root.absolute() if root is not None else _common_parent(found)
    shared = Shared()
    runs = sorted((run for folder in found for run in _read(folder, _study(folder.path, base), shared)), key=_order)
    done = [place for place, run in enumerate(runs) if run.done]
    cells = dict(zip(done, cell_names([runs[place] for place in done]), strict=True))
    labels = labels_of(runs, [cells.get(place) for place in range(len(runs))])
    rows = [
        dict(run.values)
        | {"cell": cells.get(place), "entry": label.entry, "short_label": label.short, "label": label.whole}
        for place, (run, label) in enumerate(zip(runs, labels, strict=True))
    ]
    _set_benchmarks_apart(rows)
    labelled = [dataclasses.replace(run, values=row) for run, row in zip(runs, rows, strict=True)]
    # In the order of the values that labels show, as of learning rates, which names do not have.
    return sorted(labelled, key=lambda run: (*_order(run)[:-1], in_reading_order(str(run.values["label"])), run.name))


def _read(folder: RunDir, study: str, shared: Shared) -> Iterator[Run]:
    try:
        record = folder.read()
        evaluations = [] if record is None else evaluations_of(folder, record)
    except MedQAError as error:
        yield _unreadable(folder.path.name, study, str(error))
        return
    if record is None:
        yield _unreadable(folder.path.name, study, "the record was removed while it was read")
        return
    begun = False
    for evaluation_dir, evaluation, fault in evaluations:
        begun = begun or evaluation is not None or fault is not None
        if fault is not None:
            name = SEPARATOR.join([record.name, *evaluation_parts(evaluation_dir.path.name)])
            yield _unreadable(name, study, str(fault))
        elif evaluation is not None:
            run = _run(folder, study, record.seen_by(evaluation), evaluation, shared)
            items = functools.partial(_items, evaluation_dir, run.known)
            environment = shared.value(evaluation.environment)
            yield dataclasses.replace(run, evaluation_dir=evaluation_dir, evaluated_in=environment, items=items)
    if not begun:
        yield _run(folder, study, record, None, shared)


def _run(folder: RunDir, study: str, seen: Record, evaluation: Evaluation | None, shared: Shared) -> Run:
    seen = shared.record(seen)
    name = _writable(seen.name if evaluation is None else row_name(seen.name, evaluation))
    row = {"name": name, "study": study} | {key: _measured(value) for key, value in row_of(seen, evaluation).items()}
    texts = {key: shared.text(value) for key, value in row.items() if isinstance(value, str)}
    return Run(name, study, seen, row | texts, folder)


def _items(folder: EvaluationDir, record: Record) -> ItemScores | None:
    """Return the scores per question of an evaluation from its file, or compute them if the file is missing."""
    stored = folder.read_item_scores()
    if stored is not None:
        return stored
    metrics = record.setting("evaluate", "metrics")
    try:
        _, rows = score_rows(folder.read_predictions(), folder, record, metrics or DEFAULT_METRICS)
        return item_scores(rows, sha256_of(folder.predictions_path))
    except MedQAError:
        return None


def _unreadable(name: str, study: str, reason: str) -> Run:
    name, reason = _writable(name), _writable(reason)
    return Run(name, study, None, {"name": name, "study": study, "status": UNREADABLE, "reason": reason})


def _measured(value: object) -> object:
    if isinstance(value, float) and math.isnan(value):
        return None
    return _writable(value) if isinstance(value, str) else value


def _writable(text: str) -> str:
    # File names may hold undecodable bytes, and JSON lone surrogates; neither can be written as UTF-8.
    return text.encode("utf-8", "backslashreplace").decode()


def _study(folder: Path, root: Path) -> str:
    """Return the path from the root to a run's parent; empty if that is the root."""
    parent = folder.absolute().parent
    path = parent.relative_to(root) if parent.is_relative_to(root) else Path()
    return "" if path == Path() else _writable(path.as_posix())


def _common_parent(folders: list[RunDir]) -> Path:
    return Path(os.path.commonpath([each.path.absolute().parent for each in folders])) if folders else Path()


def _set_benchmarks_apart(rows: list[dict[str, Any]]) -> None:
    """Move figures of a benchmark that do not compare with most runs' to columns `<benchmark>/<metric>#2` and so on.

    Scores of predictions share a column here; groups, tables and CSV files (`outputs.csv.apart`) separate those that do
    not compare.
    """
    for column in sorted({column for row in rows for column in row if is_benchmark(column)}):
        for row, kind in zip(rows, kinds_of(rows, column), strict=True):
            if kind is not None and kind > 1:
                row[f"{column}#{kind}"] = row.pop(column)


def _order(run: Run) -> tuple[object, ...]:
    method, size, seed = (run.values.get(column) for column in ("method", "train_size", "seed"))
    unknown = method is None
    return (
        unknown,
        not (unknown or size == 0 or method == "none"),
        method or "",
        size is None,
        size or 0,
        seed or 0,
        run.study,
        run.name,
    )
