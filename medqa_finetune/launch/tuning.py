"""`hydra/sweeper=tuning`: settings proposed by Optuna, chosen by validation loss; every trial is a cell of its own.

Methods, sizes, models, corpora and seeds are compared, not chosen: where they are several, each combination is a study.

Scores of the test set are never read: settings that are chosen by them make them too good.
"""

import dataclasses
import hashlib
import itertools
import shlex
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.utils import JobReturn

from medqa_finetune.compat.hydra import outcome_of
from medqa_finetune.config.compose import COMPOSITION_ERRORS
from medqa_finetune.config.explain import explain
from medqa_finetune.config.identity import flatten, training_settings
from medqa_finetune.config.no_effect import refuse_unused_settings
from medqa_finetune.config.ranges import AUTO, one_of
from medqa_finetune.errors import EXIT_BAD_INPUT, ConfigError, Fault, MedQAError, RunError, brief
from medqa_finetune.languages.translate import say
from medqa_finetune.launch.cell_launcher import CellLauncher
from medqa_finetune.launch.study import SAMPLERS, Study, Trial, check_optuna, propose
from medqa_finetune.launch.sweep_parameters import default_sweeps
from medqa_finetune.launch.sweeper import MatrixSweeper, found_nothing
from medqa_finetune.launch.trials import launch_trials, load_cell
from medqa_finetune.launch.validate import check_all
from medqa_finetune.log import visible
from medqa_finetune.methods.registry import method_of
from medqa_finetune.model.locate import locate_architecture, locate_model

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell

# Settings that are compared, not chosen.
AXES = ("method", "data", "data.train_size", "model", "corpus", "seed")
FEWER = "evaluate.max_samples=20"
# Settings that change what the validation loss is a mean over; losses of two values do not compare.
NOT_COMPARED = ("model", "corpus", "profile", "data.scale", "data.validation_size", "data.split_seed",
                "data.near_duplicate_threshold", "train.max_length")  # fmt: skip
# Settings that say how many examples a validation has, where that is left to the size of the training.
OF_VALIDATIONS = ("data", "data.train_size", "train", "train.epochs", "train.max_steps", "train.validations")
# Settings of the training that no identity names: their effective values are there.
SIZES = ("data.train_size",)


class TuningSweeper(MatrixSweeper):
    """Proposes, trains and remembers trials until there are `n_trials`, failed ones included."""

    def __init__(
        self,
        *,
        space: dict[str, str] | None = None,
        n_trials: int = 20,
        n_jobs: int | None = None,
        sampler: str = "tpe",
        seed: int = 0,
        params: dict[str, str] | None = None,
    ) -> None:
        # `params`, which a profile may set, is the matrix of that profile.
        super().__init__(space)
        self._trials, self._jobs, self._sampler, self._seed = n_trials, n_jobs, sampler, seed

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Train what is missing of the study, and print the best trial with its command.

        Raises:
            MedQAError: the study is impossible, or its first trials cannot run; nothing has been started.
            RunError: no trial is done.
        """
        if self._task is not None:
            return super().sweep(arguments)
        if isinstance(self.launcher, CellLauncher):
            self.launcher.check_waits()
        space, combinations = self._checked(arguments)
        studies = [self._study(space, fixed) for fixed in combinations]
        results: list[JobReturn] = []
        faults: list[Fault] = []
        for number, study in enumerate(studies, 1):
            if len(studies) > 1:
                said = say("study {number} of {count}", number=number, count=len(studies))
                print(visible(f"{said}  {' '.join(study.axes)}"), file=sys.stderr)
            results += self._finish(study, space)
            try:
                _say(study, self._command(study))
            except RunError as error:
                faults += error.faults
        if faults:
            raise RunError(*faults)
        return results

    def _finish(self, study: Study, space: dict[str, Override]) -> list[JobReturn]:
        """Run what is missing of a study."""
        results: list[JobReturn] = []
        while batch := self._next(study, space):
            study.write(self._command(study))
            results += self._run(study, batch)
        study.write(self._command(study))
        return results

    def _checked(self, arguments: Sequence[str]) -> tuple[dict[str, Override], list[list[str]]]:
        """Return what is tuned, and the other overrides of every study.

        Raises:
            MedQAError: a study is impossible, which is said before that Optuna is missing.
        """
        assert self.config is not None, "setup() comes first"  # noqa: S101
        self._check_settings()
        space, combinations = self._space_of(arguments)
        sample = Trial({key: _first_value(override) for key, override in space.items()})
        locate = locate_model if self._task is None else locate_architecture
        load = partial(load_cell, self._load, config=self.config, locate=locate)

        def check(fixed: list[str]) -> None:
            _check_chosen(load((*fixed, *sample.overrides)), space)

        check_all(combinations, check)
        check_optuna()
        return space, combinations

    def _planned(self, arguments: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the overrides of as many trials, of settings that may be proposed."""
        assert self.config is not None, "setup() comes first"  # noqa: S101
        space, combinations = self._checked(arguments)
        values = propose(space, [], self._trials, "random", self._seed)
        asked = [(*fixed, *Trial(each).overrides) for fixed in combinations for each in values]
        said = say(
            "{count} trials ({studies} studies of {each}) with settings drawn at random; a study proposes others"
            if len(combinations) > 1
            else "{count} trials with settings drawn at random; a study proposes others",
            count=len(asked),
            studies=len(combinations),
            each=len(values),
        )
        print(said, file=sys.stderr)
        fewer = say("every trial answers the test questions, which choose nothing: {setting} asks fewer", setting=FEWER)
        print(fewer, file=sys.stderr)
        return asked

    def _check_settings(self) -> None:
        faults = [
            Fault("out-of-range", "must be an integer ≥ 1", key=f"hydra.sweeper.{key}", got=value)
            for key, value in (("n_trials", self._trials), ("n_jobs", self._jobs))
            if value is not None and value < 1
        ]
        faults += one_of("hydra.sweeper.sampler", self._sampler, SAMPLERS)
        if faults:
            raise ConfigError(*faults)

    def _space_of(self, arguments: Sequence[str]) -> tuple[dict[str, Override], list[list[str]]]:
        """Return the sweep of every tuned key, and the other overrides of every study."""
        assert self.hydra_context is not None, "setup() comes first"  # noqa: S101
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        try:
            parsed = parser.parse_overrides([*default_sweeps(self.params, arguments), *arguments])
            faults = [fault for override in parsed if (fault := _fault_of_range(override)) is not None]
        except COMPOSITION_ERRORS as error:
            raise ConfigError(*explain(error, ["--multirun", *arguments])) from None
        last = {override.get_key_element(): override for override in parsed}
        swept = {key.lstrip("+"): override for key, override in last.items() if override.is_sweep_override()}
        compared = {key: override for key, override in swept.items() if key in AXES and override.is_discrete_sweep()}
        space = {key: override for key, override in swept.items() if key not in compared}
        if not space:
            hint = "Give a range, such as train.learning_rate='tag(log,interval(1e-5,1e-3))'."
            raise ConfigError(Fault("missing-key", "no setting is swept", key="hydra.sweeper.space", hint=hint))
        if faults := [*faults, *(fault for key in space if (fault := _fault_of_key(key)) is not None)]:
            raise ConfigError(*faults)
        fixed = [
            [f"{key}={value}" for value in override.sweep_string_iterator()]
            if key.lstrip("+") in compared
            else [str(override.input_line)]
            for key, override in last.items()
            if key.lstrip("+") not in space
        ]
        return space, [list(each) for each in itertools.product(*fixed)]

    def _study(self, space: dict[str, Override], fixed: list[str]) -> Study:
        """Return the study of this space and these settings, with the trials that were begun before."""
        assert self.config is not None, "setup() comes first"  # noqa: S101
        (values,) = propose(space, [], 1, self._sampler, self._seed)
        cell = load_cell(self._load, (*fixed, *Trial(values).overrides), self.config)
        written = {key: str(override.input_line).partition("=")[2] for key, override in sorted(space.items())}
        same = [*sorted(fixed), *written.items(), cell.fingerprints.corpus, cell.fingerprints.model]
        digest = hashlib.sha256(repr(same).encode()).hexdigest()[:8]
        names = "_".join(key.rpartition(".")[2] for key in written)
        axes = [each for each in fixed if each.partition("=")[0].lstrip("+") in AXES]
        study = Study(cell.run.path.parent / f"sweep_{names}_{digest}.json", written, fixed, axes=axes)
        study.read()
        return study

    def _next(self, study: Study, space: dict[str, Override]) -> list[Trial]:
        """Return the trials to run next: those that a stop left, then new ones; none where there are enough."""
        left = [trial for trial in study.trials if trial.status == "pending"]
        if left:
            return left
        count = min(self._at_a_time(), self._trials - len(study.trials))
        if count < 1:
            return []
        new = [Trial(values) for values in propose(space, study.trials, count, self._sampler, self._seed)]
        study.trials += new
        if not new:
            tried = say("all {count} settings of this space have been tried", count=len(study.trials))
            print(tried, file=sys.stderr)
        return new

    def _at_a_time(self) -> int:
        return self._jobs or (self.launcher.slots if isinstance(self.launcher, CellLauncher) else 1)

    def _run(self, study: Study, batch: Sequence[Trial]) -> list[JobReturn]:
        assert self.config is not None, "setup() comes first"  # noqa: S101
        # A file may have been edited since, in the night or between two starts.
        study.settle(training_settings(self._cell(study, study.trials[0]).written_settings))
        asked = [(*study.fixed, *trial.overrides) for trial in batch]
        for trial in batch:
            print(visible(say("{trial}  begins", trial=self._where(study, trial))), file=sys.stderr)
        results = launch_trials(self._launch, self._load, self.config, asked, here=self._runs_here)
        for trial, result in zip(batch, results, strict=True):
            outcome = outcome_of(result)
            if isinstance(outcome, MedQAError) and outcome.exit_code == EXIT_BAD_INPUT and study.best is None:
                raise outcome
            _end(trial, outcome)
            shown = (
                say("validation loss {value}", value=f"{trial.value:.4f}")
                if trial.value is not None
                else say("failed: {reason}", reason=trial.reason)
            )
            print(visible(f"{self._where(study, trial)}  {shown}"), file=sys.stderr)
        return results

    def _where(self, study: Study, trial: Trial) -> str:
        number, most = study.trials.index(trial) + 1, max(self._trials, len(study.trials))
        return f"{say('trial {number} of {most}', number=number, most=most)}  {' '.join(trial.overrides)}"

    def _cell(self, study: Study, trial: Trial) -> "Cell":
        assert self.config is not None, "setup() comes first"  # noqa: S101
        return load_cell(self._load, (*study.fixed, *trial.overrides), self.config)

    def _command(self, study: Study) -> tuple[str, ...]:
        """Return the command of the best trial, and note its run."""
        if study.best is None:
            return ()
        cell = self._cell(study, study.best)
        study.best.run = str(cell.run.path)
        return cell.command


def _first_value(override: Override) -> Any:
    """Return a value that may be proposed."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return value.start
    return next(iter(override.sweep_string_iterator()))


def _fault_of_range(override: Override) -> Fault | None:
    """Return why a sweep proposes nothing; None if it does, or is none."""
    if not override.is_sweep_override():
        return None
    if override.is_discrete_sweep():
        return None if any(True for _ in override.sweep_string_iterator()) else found_nothing(override)
    interval = override.value()
    assert isinstance(interval, IntervalSweep), "the only sweep without values"  # noqa: S101
    low, high, key = float(interval.start or 0), float(interval.end or 0), override.get_key_element()
    got = str(override.input_line).partition("=")[2]
    if not low < high:
        hint = f"Give the smaller one first: {key}='interval(LOW,HIGH)'."
        return Fault("out-of-range", "must begin below its end", key=key, got=got, hint=hint)
    if "log" in interval.tags and low <= 0:
        hint = "Begin above 0, or leave out log."
        return Fault("out-of-range", "must begin above 0 on a logarithmic scale", key=key, got=got, hint=hint)
    return None


def _fault_of_key(key: str) -> Fault | None:
    if any(f"{key}.".startswith(f"{each}.") for each in NOT_COMPARED):
        problem = "cannot be chosen by validation loss: losses of two values do not compare"
        return Fault("conflict", problem, key=key, hint="Give one value.")
    return None


def _check_chosen(cell: "Cell", keys: Iterable[str]) -> None:
    """Refuse a cell without a validation loss, and sweeps that do not change it.

    Raises:
        ConfigError: nothing can be chosen.
    """
    method = cell.config.method
    if not method_of(method).trains_weights:
        problem = "trains nothing, and trials are chosen by their validation loss"
        raise ConfigError(Fault("conflict", problem, key="method", got=method.name, hint="Give method=lora."))
    keys = list(keys)
    samples = "train.validation_samples"
    moved = [key for key in keys if key in OF_VALIDATIONS and cell.config.train.validation_samples == AUTO]
    if moved:
        problem = f"cannot be chosen by validation loss with {samples}=auto, which gives trials other examples"
        raise ConfigError(*(Fault("conflict", problem, key=key, hint=f"Give {samples}=200.") for key in moved))
    single, used = flatten(dataclasses.asdict(cell.config)), {*training_settings(cell.settings), *SIZES}
    problem = f"cannot be chosen by validation loss, on which it has no effect with method={method.name}"
    unused = {key: "Give one value." for key in keys if key in single and key not in used}
    for key in keys:
        if key.startswith(("method.", "train.")) and method_of(method).ignores(key):
            unused[key] = "Choose a method that uses it, such as method=lora."
    if unused:
        raise ConfigError(*(Fault("conflict", problem, key=key, hint=hint) for key, hint in unused.items()))
    refuse_unused_settings([(cell.config, cell.overrides)])


def _end(trial: Trial, outcome: Any) -> None:
    """Note how a trial ended."""
    if isinstance(outcome, float):
        trial.status, trial.value = "done", outcome
        return
    trial.status = "failed"
    said = " ".join(str(outcome).split()).removeprefix("failed: ")
    trial.reason = brief(said) if outcome is not None else "it has no validation loss"


def _say(study: Study, command: Sequence[str]) -> None:
    """Print the best trial.

    Raises:
        RunError: none is done.
    """
    best, failed = study.best, [trial for trial in study.trials if trial.status == "failed"]
    if best is None:
        faults = [Fault("run-failed", trial.reason, file=" ".join(trial.overrides)) for trial in failed]
        raise RunError(Fault("runs-not-done", f"none of {len(study.trials)} trials is done"), *faults)
    count = (
        say("{count} trials ({failed} failed)", count=len(study.trials), failed=len(failed))
        if failed
        else say("{count} trials", count=len(study.trials))
    )
    chosen = say(
        "best of {trials} by validation loss ({loss}) for {study}: {settings}; all of them: {path}"
        if study.axes
        else "best of {trials} by validation loss ({loss}): {settings}; all of them: {path}",
        trials=count,
        loss=f"{best.value:.4f}",
        study=" ".join(study.axes),
        settings=" ".join(best.overrides),
        path=study.path,
    )
    print(visible(chosen))
    print(say("its command: {command}", command=shlex.join(command)))
