"""Cells: runs that differ in nothing but the seed, and what they cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from medqa_finetune.methods.registry import described
from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.record.schema import Environment, EvaluationRecord, Record, Score
from medqa_finetune.report.cell_names import NamedRun, cell_names, settings_of, train_size_of
from medqa_finetune.report.comparable import evaluation_identity_of
from medqa_finetune.report.scores import scores_of
from medqa_finetune.report.table import BYTES_PER_GIB

HOUR = 3600.0


@dataclass(frozen=True)
class ScoredRun:
    """A done run, and how its per-question scores are had.

    Attributes:
        name: As in the table.
        study: As in the table.
        record: As its folder holds it; with an evaluation.
        answered_in: Where the evaluation took place; None where only the run's own environment is known.
        items: Reads the per-question scores; None where there are none. Called late and perhaps twice, so that a
            thousand runs need not be in memory together.
    """

    name: str
    study: str
    record: Record
    items: Callable[[], ItemScores | None]
    answered_in: Environment | None = None

    @property
    def evaluation(self) -> EvaluationRecord:
        """How its answers scored."""
        if self.record.evaluation is None:
            raise ValueError(f"{self.name}: no evaluation")
        return self.record.evaluation

    @property
    def evaluation_identity(self) -> str:
        """What it shares with every run whose scores compare."""
        return evaluation_identity_of(self.record)

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Its scores by their column in the table."""
        return scores_of(self.evaluation)


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
        return described(self.settings.get("method.trains")).loads_model

    @property
    def family(self) -> tuple[str, str, str, str]:
        """Study, corpus, task and identity of the evaluation, which cells must share to be compared."""
        task = self.first.setting("corpus", "task")
        return self.runs[0].study, corpus_of(self.first), str(task or ""), self.runs[0].evaluation_identity

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
    names = cell_names([NamedRun(run.study, run.name, run.record) for run in runs])
    for name, run in zip(names, runs, strict=True):
        grouped.setdefault(name, {}).setdefault(run.record.seed, run)
    return [Cell(name, tuple(seeds[seed] for seed in sorted(seeds))) for name, seeds in grouped.items()]


def corpus_of(record: Record) -> str:
    """Return the name of the corpus, empty where the record does not say."""
    group = record.config.get("corpus")
    return str(group.get("name", "")) if isinstance(group, dict) else ""
