"""The trials of a study, in one JSON file: settings, validation losses, and the best; Optuna only proposes settings.

The file, not a database of Optuna's, is what is continued, so that any version of Optuna goes on. A trial is proposed
from its number and the results before it alone: a study that was stopped goes on as it would have.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from medqa_finetune.errors import ConfigError, DataError, Fault
from medqa_finetune.record.files import write_text

if TYPE_CHECKING:
    import optuna

VERSION = 1
SAMPLERS = ("tpe", "random")
# Proposals made per trial that is asked for: where they give no new settings, the space counts as exhausted.
PROPOSALS = 50
# Digits of a proposed number: it names a folder, and no result depends on the fourth.
DIGITS = 3


@dataclasses.dataclass
class Trial:
    """One trial.

    Attributes:
        values: Value of each swept key, as typed in an override.
        status: `pending`, `done` or `failed`.
        value: Lowest validation loss; None unless done.
        run: Folder of the run.
        reason: Why it failed.
    """

    values: dict[str, Any]
    status: str = "pending"
    value: float | None = None
    run: str = ""
    reason: str = ""

    @property
    def overrides(self) -> tuple[str, ...]:
        """The values as overrides."""
        return tuple(f"{key}={value}" for key, value in self.values.items())


@dataclasses.dataclass
class Study:
    """All trials over one space.

    Attributes:
        path: Its file.
        space: Sweep of every key that is tuned, as typed.
        fixed: The other overrides of its trials.
        trials: In the order in which they were proposed.
        axes: Those of the other overrides that tell it apart from studies of other methods or sizes.
        settings: Training settings of the first trial, by dotted key; empty before it.
    """

    path: Path
    space: dict[str, str]
    fixed: list[str]
    trials: list[Trial] = dataclasses.field(default_factory=list)
    axes: list[str] = dataclasses.field(default_factory=list)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def best(self) -> Trial | None:
        """The trial with the lowest validation loss; the first of equal ones."""
        done = [trial for trial in self.trials if trial.value is not None]
        return min(done, key=lambda trial: trial.value or 0.0, default=None)

    def read(self) -> None:
        """Take the trials over that the file holds, if there is one.

        Raises:
            DataError: it cannot be read.
        """
        if not self.path.is_file():
            return
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self.trials = [Trial(**each) for each in found["trials"]]
            self.settings = dict(found.get("settings", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "Move it away to begin anew; trials that are done are not repeated."
            problem = f"is not a study ({type(error).__name__})"
            raise DataError(Fault("not-readable", problem, file=str(self.path), hint=hint)) from None

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Take the settings of the first trial as it is composed now, or check that they are still those of before.

        Raises:
            ConfigError: a file has changed since; losses of trials with other settings do not compare.
        """
        plain = json.loads(json.dumps(settings, default=str))
        # A newer version may have further settings.
        changed = {key: value for key, value in self.settings.items() if key in plain and plain[key] != value}
        if changed:
            hint = "Put the files back, or begin another study: study=NAME."
            problem = f"the study in {self.path} has another value, and losses of the two do not compare"
            raise ConfigError(
                *(Fault("conflict", problem, key=key, got=plain[key], allowed=(value,), hint=hint)
                  for key, value in changed.items())
            )  # fmt: skip
        self.settings = plain

    def write(self, command: Sequence[str] = ()) -> None:
        """Write the file, with the command of the best trial."""
        best = None if self.best is None else {**dataclasses.asdict(self.best), "command": list(command)}
        whole = {
            "version": VERSION,
            "chosen_by": "lowest validation loss",
            "space": self.space,
            "fixed": self.fixed,
            "settings": self.settings,
            "best": best,
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(whole, ensure_ascii=False, indent=2) + "\n")


def check_optuna() -> None:
    """Refuse a study where Optuna is not installed.

    Raises:
        ConfigError: it is not, or is too old.
    """
    key, hint = "hydra/sweeper", "Run `pip install 'medqa-finetune[optuna]'`, or sweep over single values: key=1,2,3."
    if find_spec("optuna") is None:
        raise ConfigError(Fault("not-installed", "optuna is not installed", key=key, got="tuning", hint=hint))
    import optuna

    if not hasattr(optuna.distributions, "FloatDistribution"):
        problem = f"optuna {optuna.__version__} is too old"
        raise ConfigError(Fault("not-installed", problem, key=key, got="tuning", hint=hint))


def propose(
    space: Mapping[str, Override], trials: Sequence[Trial], count: int, sampler: str, seed: int
) -> list[dict[str, Any]]:
    """Return values for up to `count` further trials, none of which repeats another; fewer if the space is exhausted.

    Args:
        space: A sweep for every key.
        trials: All trials so far.
        count: How many are asked for.
        sampler: Of `SAMPLERS`.
        seed: Of the sampler, with the trial's number.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(override) for key, override in space.items()}
    known = [trial.values for trial in trials]
    found: list[dict[str, Any]] = []
    for attempt in range(count * PROPOSALS):
        if len(found) == count:
            break
        study = optuna.create_study(sampler=_sampler(sampler, (seed * 1000 + len(known)) * 1000 + attempt))
        study.add_trials([_as_known(trial, distributions) for trial in trials])
        # Those that run at the same time count as such.
        for values in found:
            study.enqueue_trial(values)
            study.ask(distributions)
        values = {key: _rounded(value, distributions[key]) for key, value in study.ask(distributions).params.items()}
        if values not in known:
            known.append(values)
            found.append(values)
    return found


def _sampler(name: str, seed: int) -> "optuna.samplers.BaseSampler":
    import optuna

    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, constant_liar=True)


def _as_known(trial: Trial, distributions: Mapping[str, Any]) -> "optuna.trial.FrozenTrial":
    import optuna

    states = optuna.trial.TrialState
    return optuna.trial.create_trial(
        state=states.FAIL if trial.value is None else states.COMPLETE,
        value=trial.value,
        params=trial.values,
        distributions=dict(distributions),
    )


def _distribution(override: Override) -> "optuna.distributions.BaseDistribution":
    """Return what a sweep ranges over: `interval(a,b)`, with `tag(log, …)` or `int(…)`; a range; choices."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log="log" in value.tags)
        return FloatDistribution(float(low or 0), float(high or 0), log="log" in value.tags)
    choices = list(override.sweep_string_iterator())
    if isinstance(value, RangeSweep) and all(choice.lstrip("-").isdigit() for choice in choices) and not value.shuffle:
        numbers = sorted(map(int, choices))
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        return IntDistribution(numbers[0], numbers[-1], step=step)
    return CategoricalDistribution(choices)


def _rounded(value: Any, distribution: Any) -> Any:
    if not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), distribution.low), distribution.high)
