"""Defines `Run`, a row of the report, and `Cell`, the runs that differ in the seed alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

import pandas as pd

from medqa_finetune.config.identity import (
    CHOSEN_BEFORE,
    evaluation_identity,
    evaluation_settings,
    flatten,
    training_settings,
)
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import scaled
from medqa_finetune.memory import GIB
from medqa_finetune.methods.registry import described
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Environment, EvaluationRecord, Record, Score, TrainRecord
from medqa_finetune.report.scores import scores_of

HOUR = 3600.0
# Shares of a training's time that something outside it took (`TrainRecord`).
DISTURBANCES = ("cpu_taken_rate", "gpu_throttled_rate", "gpu_shared_rate")
# Our choice: such a share makes up to a ninth of the time, as little as the noise between runs on a quiet machine.
DISTURBED = 0.1


def _no_items() -> ItemScores | None:
    return None


@dataclass(frozen=True)
class Run:
    """A row of the report: a run with one of its evaluations.

    Attributes:
        name: As in the table: the run's name, and the evaluation settings that differ from the default.
        study: Path from the outputs to the run's parent; empty for the outputs themselves.
        record: Record of the run with this evaluation; None if unreadable.
        values: By column of the table (`table.COLUMNS`, and `<benchmark>/<metric>`); None, or no entry, if not
            measured.
        folder: Folder of the run.
        evaluation_dir: Folder of the evaluation; None if none has begun.
        evaluated_in: Environment of the evaluation; None if only the run's own environment is known.
        in_queue: Where a cluster's queue has it, `queued` or `running`; empty for a run in no queue.
        items: Reads the scores per question; None if there are none. Called lazily, possibly twice, so that a thousand
            runs need not be in memory together.
    """

    name: str
    study: str
    record: Record | None
    values: Mapping[str, Any] = field(default_factory=dict)
    folder: RunDir | None = None
    evaluation_dir: EvaluationDir | None = None
    evaluated_in: Environment | None = None
    in_queue: str = ""
    items: Callable[[], ItemScores | None] = _no_items

    @property
    def known(self) -> Record:
        """The record, which must be readable.

        Raises:
            ValueError: it is unreadable.
        """
        if self.record is None:
            raise ValueError(f"{self.name}: no record")
        return self.record

    @property
    def evaluation(self) -> EvaluationRecord:
        """Scores and rates of the evaluation.

        Raises:
            ValueError: the run was not evaluated.
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
        """Identity shared by all runs whose scores compare; empty if the record has none."""
        stored = self.values.get("evaluation_identity")
        if stored:
            return str(stored)
        config = self.known.config
        return evaluation_identity(config) if isinstance(config.get("evaluate"), dict) else ""

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Scores by table column; empty without an evaluation."""
        evaluation = self.known.evaluation
        return {} if evaluation is None else scores_of(evaluation)

    @property
    def trains(self) -> bool:
        """Whether the run has a training, according to its row.

        False for the untuned base, and for a done run without training, which retrieves its predictions.
        """
        retrieves = self.values.get("status") == "done" and self.values.get("train_seconds") is None
        return self.values.get("train_size") != 0 and not retrieves

    @property
    def place(self) -> str:
        """Study and name, as one path."""
        return f"{self.study}/{self.name}" if self.study else self.name


@dataclass(frozen=True)
class Cell:
    """Runs that differ only in the seed; at least one.

    Attributes:
        name: Name of the run with the lowest seed, without the seed, prefixed by its study.
        runs: Runs ordered by seed.
        entry: Its legend entry: the method, with the settings in which it differs.
        label: Short label in charts and on the page, unique within its group.
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
        """Number of test questions."""
        return self.runs[0].evaluation.n

    @property
    def train_size(self) -> int:
        """Number of training examples; 0 if it has none."""
        return train_size_of(self.first) or 0

    @property
    def trains(self) -> bool:
        """Whether a model was trained; False for the untuned base and for retrieval."""
        return any(run.known.train is not None for run in self.runs)

    @property
    def loads_model(self) -> bool:
        """Whether a model generates the predictions; False for retrieval."""
        return described(self.settings.get("method.trains")).loads_model

    @cached_property
    def settings(self) -> dict[str, object]:
        """Every setting that can change the result, except the seed, by dotted key."""
        return settings_of(self.first)

    @property
    def hours(self) -> float | None:
        """Training hours, mean over runs; 0 without training, None if not measured."""
        if not self.trains:
            return 0.0
        seconds = [run.known.train.seconds for run in self.runs if run.known.train is not None]
        return fmean(seconds) / HOUR if seconds else None

    @property
    def validation_losses(self) -> list[float]:
        """The lowest validation loss of each run that has one, in the order of the runs."""
        trained = [run.known.train for run in self.runs if run.known.train is not None]
        return [train.best_validation_loss for train in trained if train.best_validation_loss is not None]

    @property
    def disturbance(self) -> float:
        """Largest share of a run's training time that something outside it took, in [0, 1]; 0 if not measured."""
        return max((disturbance_of(run.known.train) or 0.0 for run in self.runs), default=0.0)

    @property
    def disturbed(self) -> bool:
        """Whether its hours say more about the machine's other work than about the cell."""
        return self.disturbance > DISTURBED

    @property
    def vram_gib(self) -> float | None:
        """Peak GPU memory of training in GiB, mean over runs; None if not measured."""
        return self._memory("peak_vram_bytes")

    @property
    def rss_gib(self) -> float | None:
        """Peak resident memory of training in GiB, mean over runs; None if not measured."""
        return self._memory("peak_rss_bytes")

    def _memory(self, name: str) -> float | None:
        measured = [getattr(run.known.train, name, None) for run in self.runs]
        known = [value for value in measured if value is not None]
        return fmean(known) / GIB if known else None

    def column(self, name: str) -> "pd.Series[float]":
        """Return a table column for its runs; NaN if not measured."""
        return pd.Series([run.values.get(name) for run in self.runs], dtype=float)

    def measured(self, column: str) -> bool:
        """Return whether any run has a value in a column."""
        return any(run.values.get(column) is not None for run in self.runs)

    def mean(self, column: str) -> float:
        """Return the mean over the seeds that have a value; NaN if none has."""
        return float(self.column(column).mean())

    def sd(self, column: str) -> float:
        """Return the standard deviation over seeds (n - 1); NaN for fewer than two."""
        return float(self.column(column).std())

    def value(self, column: str) -> object:
        """Return the value of a table column that all its runs share."""
        return self.runs[0].values.get(column)


def disturbance_of(train: TrainRecord | None) -> float | None:
    """Return the largest share of a training's time that something outside it took, in [0, 1]; None if not measured."""
    shares = [getattr(train, rate, None) for rate in DISTURBANCES]
    return max((share for share in shares if share is not None), default=None)


def corpus_of(record: Record) -> str:
    """Return the name of the corpus; empty if the record has none."""
    group = record.config.get("corpus")
    return str(group.get("name", "")) if isinstance(group, dict) else ""


def train_size_of(record: Record) -> int | None:
    """Return the number of training examples; 0 without training, None if the record does not say."""
    if not described(record.setting("method", "trains")).uses_training_data:
        return 0
    if record.data_manifest is not None:
        return record.data_manifest.train.n
    size, scale = record.setting("data", "train_size"), record.setting("data", "scale")
    return scaled(size, 1.0 if scale is None else scale) if isinstance(size, int) else None


def _validations(record: Record) -> dict[str, object]:
    """Return what a run of `auto` validations validated on, as a setting of its data; empty where that is not known.

    Runs of one size share it, unless one of them is of an earlier version, which validated on all of the set.
    """
    if record.validation is not None:
        times, samples = record.validation.times, record.validation.samples
    else:
        train, sets = record.config.get("train"), record.data_manifest
        if not isinstance(train, dict) or sets is None or "validation_samples" in train:
            return {}
        times, samples = train.get("validations", CHOSEN_BEFORE["train.validations"]), sets.validation.n
    return {"data.effective_validations": f"{times} x {samples}"}


def settings_of(record: Record) -> dict[str, object]:
    """Return every setting that can change the result, except the seed, by dotted key."""
    method = record.config.get("method")
    if not (isinstance(method, dict) and "trains" in method):
        settings = flatten(record.config)
    else:
        # Of the evaluation, only settings that change it: a limit above the number of questions does not.
        settings = training_settings(record.config) | evaluation_settings(record.config)
        # A default of earlier versions, which a run's name does not have: it was not asked for.
        trains = "train.validations" in settings
        unasked = [key for key, former in CHOSEN_BEFORE.items() if trains and settings.get(key) == former]
        settings |= {key: AUTO for key in unasked if f"{key}=" not in record.name}
        if settings.get("train.validations") == settings.get("train.validation_samples") == AUTO:
            settings |= _validations(record)
    return {key: value for key, value in settings.items() if key != "seed"}
