"""`Run`, a row of the report, and `Cell`, the runs that differ in the seed alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

import pandas as pd

from medqa_finetune.config.identity import evaluation_identity, evaluation_settings, flatten, training_settings
from medqa_finetune.config.schema import scaled
from medqa_finetune.memory import GIB
from medqa_finetune.methods.registry import described
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Environment, EvaluationRecord, Record, Score
from medqa_finetune.report.scores import scores_of

HOUR = 3600.0


def _no_items() -> ItemScores | None:
    return None


@dataclass(frozen=True)
class Run:
    """A row of the report: a run as one of its evaluations sees it.

    Attributes:
        name: As in the table: the run's name, and the settings of the evaluation that differ from the default.
        study: Path from the outputs to the run's parent; empty where that is the outputs.
        record: As the evaluation sees it; None where it cannot be read.
        values: By column of the table (`table.COLUMNS`, and `<benchmark>/<metric>`); None, or no entry, where nothing
            was measured.
        folder: Of the run.
        evaluation_dir: Of the evaluation; None where none has begun.
        evaluated_in: Where the evaluation took place; None where only the run's own environment is known.
        items: Reads the scores per question; None where there are none. Called late and perhaps twice, so that a
            thousand runs need not be in memory together.
    """

    name: str
    study: str
    record: Record | None
    values: Mapping[str, Any] = field(default_factory=dict)
    folder: RunDir | None = None
    evaluation_dir: EvaluationDir | None = None
    evaluated_in: Environment | None = None
    items: Callable[[], ItemScores | None] = _no_items

    @property
    def known(self) -> Record:
        """The record.

        Raises:
            ValueError: it cannot be read.
        """
        if self.record is None:
            raise ValueError(f"{self.name}: no record")
        return self.record

    @property
    def evaluation(self) -> EvaluationRecord:
        """Its scores and rates.

        Raises:
            ValueError: it was not evaluated.
        """
        if self.known.evaluation is None:
            raise ValueError(f"{self.name}: no evaluation")
        return self.known.evaluation

    @property
    def done(self) -> bool:
        """Whether training and evaluation are complete."""
        return self.record is not None and self.record.status == "done"

    @property
    def scored(self) -> bool:
        """Whether it is done and has scores."""
        return self.done and self.known.evaluation is not None

    @property
    def evaluation_identity(self) -> str:
        """What it shares with every run whose scores compare; empty where the record does not say."""
        stored = self.values.get("evaluation_identity")
        if stored:
            return str(stored)
        config = self.known.config
        return evaluation_identity(config) if isinstance(config.get("evaluate"), dict) else ""

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Its scores by their column in the table; empty where it has none."""
        evaluation = self.known.evaluation
        return {} if evaluation is None else scores_of(evaluation)

    @property
    def trains(self) -> bool:
        """Whether it trains something, as far as its row says.

        Not so for the untuned base, nor for a done run without training, which retrieves its answers.
        """
        retrieves = self.values.get("status") == "done" and self.values.get("train_seconds") is None
        return self.values.get("train_size") != 0 and not retrieves

    @property
    def place(self) -> str:
        """Study and name, as one path."""
        return f"{self.study}/{self.name}" if self.study else self.name


@dataclass(frozen=True)
class Cell:
    """Runs that differ in nothing but the seed, by seed; one at least.

    Attributes:
        name: That of the run with the lowest seed, without the seed, its study before it.
        runs: By seed.
        entry: What the legend of its group calls it: the method, with the settings that set it apart.
        label: What charts and the page of its group call it: short, and no other's there.
    """

    name: str
    runs: tuple[Run, ...]
    entry: str = ""
    label: str = ""

    @property
    def first(self) -> Record:
        """Record of the run with the lowest seed."""
        return self.runs[0].known

    @property
    def n(self) -> int:
        """Test questions."""
        return self.runs[0].evaluation.n

    @property
    def train_size(self) -> int:
        """Training examples; 0 where it has none."""
        return train_size_of(self.first) or 0

    @property
    def trains(self) -> bool:
        """Whether a model was trained; not so for the untuned base, nor where answers are retrieved."""
        return any(run.known.train is not None for run in self.runs)

    @property
    def loads_model(self) -> bool:
        """Whether a model generates the predictions; not so where they are retrieved."""
        return described(self.settings.get("method.trains")).loads_model

    @cached_property
    def settings(self) -> dict[str, object]:
        """Every setting that can change the result, but the seed, as dotted keys."""
        return settings_of(self.first)

    @property
    def hours(self) -> float | None:
        """Hours of training, mean over runs; 0 where nothing is trained, None where not measured."""
        if not self.trains:
            return 0.0
        seconds = [run.known.train.seconds for run in self.runs if run.known.train is not None]
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
        measured = [getattr(run.known.train, name, None) for run in self.runs]
        known = [value for value in measured if value is not None]
        return fmean(known) / GIB if known else None

    def column(self, name: str) -> "pd.Series[float]":
        """Return a column of the table for its runs, NaN where not measured."""
        return pd.Series([run.values.get(name) for run in self.runs], dtype=float)

    def measured(self, column: str) -> bool:
        """Say whether any run has a value in a column."""
        return any(run.values.get(column) is not None for run in self.runs)

    def mean(self, column: str) -> float:
        """Return the mean over the seeds that have a value, NaN where none has."""
        return float(self.column(column).mean())

    def sd(self, column: str) -> float:
        """Return the standard deviation over seeds (n - 1), NaN for fewer than two."""
        return float(self.column(column).std())

    def value(self, column: str) -> object:
        """Return what all its runs share in a column of the table."""
        return self.runs[0].values.get(column)


def corpus_of(record: Record) -> str:
    """Return the name of the corpus, empty where the record does not say."""
    group = record.config.get("corpus")
    return str(group.get("name", "")) if isinstance(group, dict) else ""


def train_size_of(record: Record) -> int | None:
    """Return the number of training examples; 0 where nothing is trained, None where the record does not say."""
    if not described(record.setting("method", "trains")).uses_training_data:
        return 0
    if record.data_manifest is not None:
        return record.data_manifest.train.n
    size, scale = record.setting("data", "train_size"), record.setting("data", "scale")
    return scaled(size, 1.0 if scale is None else scale) if isinstance(size, int) else None


def settings_of(record: Record) -> dict[str, object]:
    """Return every setting that can change the result, but the seed, as dotted keys."""
    method = record.config.get("method")
    if not (isinstance(method, dict) and "trains" in method):
        settings = flatten(record.config)
    else:
        # Of an evaluation, what makes it another one: a limit that all questions are within makes none.
        settings = training_settings(record.config) | evaluation_settings(record.config)
    return {key: value for key, value in settings.items() if key != "seed"}
