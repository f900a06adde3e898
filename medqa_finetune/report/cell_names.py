"""Which runs make a cell: those that differ in nothing but the seed, and whose scores are the same figures."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from medqa_finetune.config.identity import evaluation_settings, flatten, training_settings
from medqa_finetune.config.schema import scaled
from medqa_finetune.methods.registry import described
from medqa_finetune.record.schema import Record
from medqa_finetune.report.comparable import basis_of_record, parts_that_compare

SEED_IN_NAME = re.compile(r"__seed=-?\d+(?=__|$)")


class NamedRun(NamedTuple):
    """A done run as the table calls it."""

    study: str
    name: str
    record: Record


def cell_names(runs: Sequence[NamedRun]) -> list[str]:
    """Return the name of every run's cell, in order.

    Runs of one cell have the same study, method, model, training pairs and settings but for the seed, the same test
    set, and the same signature of every score that both have. The name is that of the run with the lowest seed, without
    the seed, its study before it; a second cell of that name has ` (2)` behind it.
    """
    alike: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        alike.setdefault(_key(run), []).append(place)
    basis = [basis_of_record(run.record) for run in runs]
    cells = [part for places in alike.values() for part in parts_that_compare(places, basis.__getitem__)]
    found, taken = [""] * len(runs), dict[str, int]()
    for cell in sorted(cells):
        name = _name(min((runs[place] for place in cell), key=lambda run: run.record.seed))
        taken[name] = taken.get(name, 0) + 1
        for place in cell:
            found[place] = name if taken[name] == 1 else f"{name} ({taken[name]})"
    return found


def train_size_of(record: Record) -> int | None:
    """Return the number of training pairs; 0 where nothing is trained, None where the record does not say."""
    if not described(record.setting("method", "trains")).uses_training_data:
        return 0
    if record.data_manifest is not None:
        return record.data_manifest.train.n
    size, scale = record.setting("data", "train_size"), record.setting("data", "scale")
    return scaled(size, 1.0 if scale is None else scale) if isinstance(size, int) else None


def settings_of(record: Record) -> dict[str, Any]:
    """Return every setting that can change the result, but the seed, as dotted keys."""
    method = record.config.get("method")
    whole = isinstance(method, dict) and "trains" in method
    if not whole:
        settings = flatten(record.config)
    else:
        # Of an evaluation, what makes it another one: a limit that all questions are within makes none.
        settings = training_settings(record.config) | evaluation_settings(record.config)
    return {key: value for key, value in settings.items() if key != "seed"}


def _name(run: NamedRun) -> str:
    name = SEED_IN_NAME.sub("", run.name)
    return f"{run.study}/{name}" if run.study else name


def _key(run: NamedRun) -> str:
    record = run.record
    return repr((run.study, record.method, record.model, train_size_of(record), sorted(settings_of(record).items())))
