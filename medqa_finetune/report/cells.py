"""Cells: runs that differ in nothing but the seed, and what they cost."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from medqa_finetune.config.identity import flatten, identity_settings
from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.record.schema import EvaluationRecord, Record
from medqa_finetune.report.table import BYTES_PER_GIB, train_size_of

SEED_IN_NAME = re.compile(r"__seed=-?\d+(?=__|$)")
HOUR = 3600.0


@dataclass(frozen=True)
class ScoredRun:
    """A done run, and how its per-question scores are had.

    Attributes:
        name: As in the table.
        study: As in the table.
        record: As its folder holds it; with an evaluation.
        items: Reads the per-question scores; None where there are none. Called late and perhaps twice, so that a
            thousand runs need not be in memory together.
    """

    name: str
    study: str
    record: Record
    items: Callable[[], ItemScores | None]

    @property
    def evaluation(self) -> EvaluationRecord:
        """How its answers scored."""
        if self.record.evaluation is None:
            raise ValueError(f"{self.name}: no evaluation")
        return self.record.evaluation


@dataclass(frozen=True)
class Cell:
    """Runs that differ in nothing but the seed, by seed; one at least."""

    name: str
    runs: tuple[ScoredRun, ...]

    @property
    def first(self) -> Record:
        """Record of the run with the lowest seed."""
        return self.runs[0].record

    @property
    def n(self) -> int:
        """Test questions."""
        return self.runs[0].evaluation.n

    @property
    def train_size(self) -> int:
        """Pairs that it learned from; 0 where it has none."""
        return train_size_of(self.first) or 0

    @property
    def trains(self) -> bool:
        """Whether a model was trained; not so for the untuned base, nor where answers are looked up."""
        return any(run.record.train is not None for run in self.runs)

    @property
    def loads_model(self) -> bool:
        """Whether a model answers; not so where answers are looked up."""
        return self.settings.get("method.trains") != "lookup"

    @property
    def study_and_corpus(self) -> tuple[str, str]:
        """What cells must share to be looked at together."""
        return self.runs[0].study, corpus_of(self.first)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting that can change the result, but the seed, as dotted keys."""
        return settings_of(self.first)

    @property
    def hours(self) -> float | None:
        """Hours of training, mean over runs; 0 where nothing is trained, None where not measured."""
        if not self.trains:
            return 0.0
        seconds = [run.record.train.seconds for run in self.runs if run.record.train is not None]
        return fmean(seconds) / HOUR if seconds else None

    @property
    def vram_gib(self) -> float | None:
        """Peak GPU memory of training, mean over runs; None where not measured."""
        return self._memory("peak_vram_bytes")

    @property
    def rss_gib(self) -> float | None:
        """Peak resident memory of training, mean over runs; None where not measured."""
        return self._memory("peak_rss_bytes")

    def _memory(self, name: str) -> float | None:
        measured = [getattr(run.record.train, name, None) for run in self.runs]
        known = [value for value in measured if value is not None]
        return fmean(known) / BYTES_PER_GIB if known else None


def cells_of(runs: Sequence[ScoredRun]) -> list[Cell]:
    """Return the cells of runs, in the order of their first runs; of copies of one run, the first counts."""
    grouped: dict[str, dict[int, ScoredRun]] = {}
    for run in runs:
        seeds = grouped.setdefault(_key(run), {})
        seeds.setdefault(run.record.seed, run)
    names: dict[str, int] = {}
    cells = []
    for seeds in grouped.values():
        name = cell_name(seeds[min(seeds)])
        names[name] = names.get(name, 0) + 1
        unique = name if names[name] == 1 else f"{name} ({names[name]})"
        cells.append(Cell(unique, tuple(seeds[seed] for seed in sorted(seeds))))
    return cells


def cell_name(run: ScoredRun) -> str:
    """Return a run's name without its seed, its study before it."""
    name = SEED_IN_NAME.sub("", run.name)
    return f"{run.study}/{name}" if run.study else name


def corpus_of(record: Record) -> str:
    """Return the name of the corpus, empty where the record does not say."""
    group = record.config.get("corpus")
    return str(group.get("name", "")) if isinstance(group, dict) else ""


def settings_of(record: Record) -> dict[str, Any]:
    """Return every setting that can change the result, but the seed, as dotted keys."""
    method = record.config.get("method")
    whole = isinstance(method, dict) and "trains" in method
    settings = identity_settings(record.config) if whole else flatten(record.config)
    return {key: value for key, value in settings.items() if key != "seed"}


def _key(run: ScoredRun) -> str:
    record = run.record
    shown = (run.study, record.method, record.model, train_size_of(record), sorted(settings_of(record).items()))
    return repr(shown)
