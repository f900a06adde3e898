"""Estimates cells: counts their work in one process, makes a trial run of each kind in another, and combines both."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from medqa_finetune.child_process import NoReplyError, call
from medqa_finetune.config.folder_names import SEPARATOR
from medqa_finetune.config.schema import Config, ModelConfig
from medqa_finetune.data.corpus import corpus_sha256
from medqa_finetune.data.parts import published_parts
from medqa_finetune.data.prepare import CACHE_NAME, cache_key, folder_name, rules_of
from medqa_finetune.errors import Fault, RunError
from medqa_finetune.methods.registry import method_of
from medqa_finetune.model.locate import has_weights, locate_architecture
from medqa_finetune.planning import trial_runs
from medqa_finetune.planning.batches import Batches, batches_of
from medqa_finetune.planning.cost_model import Forecast, Workload, forecast_from_trial, forecast_from_workload
from medqa_finetune.planning.trial_runs import TrialRequest, TrialWithoutModelRequest
from medqa_finetune.planning.workload import WorkloadRequest, measure_workload
from medqa_finetune.record.evaluations import evaluation_parts

Request = TypeVar("Request")
Reply = TypeVar("Reply")

# Settings that do not change how a cell spends its time; cells that differ in any other are of different kinds.
NOT_KIND = ("run_name", "study", "outputs", "storage", "time_limit", "overwrite", "seed", "data", "interpolated")
WITHOUT_WEIGHTS = "random"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Forecasts of cells and their basis.

    Attributes:
        forecasts: One per cell, in order.
        workload: Work of all cells, and the machine.
        trials: Number of trial runs, one for each kind of cell.
        without_weights: Models whose trial runs used random weights, because their weights are missing.
        without_model: Names of the cells that load no model, which are always measured.
        batches: Micro-batch and gradient checkpointing of every cell.
        trained_by: Index of the cell that trains, for each cell that only evaluates an earlier cell's training.
    """

    forecasts: list[Forecast]
    workload: Workload
    trials: int
    without_weights: list[str]
    without_model: list[str] = dataclasses.field(default_factory=list)
    trained_by: dict[int, int] = dataclasses.field(default_factory=dict)
    batches: list[Batches] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class PlannedFor:
    """What cells are planned for.

    Attributes:
        gpu: Short name of a card (`model/cards.py`); None for this machine.
        gpus: GPUs of each cell.
    """

    gpu: str | None = None
    gpus: int = 1


HERE = PlannedFor()


def make_plan(configs: Sequence[Config], folder: Path, *, probe: bool, planned: PlannedFor = HERE) -> Plan:
    """Forecast the costs of cells; a training shared by several evaluations is counted with the first cell.

    Args:
        configs: Settings of the cells.
        folder: An empty folder for temporary files.
        probe: Whether to make a trial run of every kind of cell; cells without a model always get one.
        planned: The GPUs to plan for.

    Raises:
        MedQAError: a cell cannot run, or failed in its trial run.
    """
    cache = folder / CACHE_NAME
    for config in configs:
        _link_prepared_data(config, cache)
    with_model = [config for config in configs if method_of(config.method).loads_model]
    modelled = _plan_models(with_model, folder, probe, planned)
    of_models, forecasts = iter(modelled.forecasts), []
    for config in configs:
        if method_of(config.method).loads_model:
            forecasts.append(next(of_models))
        else:
            forecasts.append(_call(trial_runs.run_trial_without_model, TrialWithoutModelRequest(config, str(cache))))
    without_model = [name_of(config) for config in configs if not method_of(config.method).loads_model]
    shared = shared_trainings(configs)
    forecasts = [_without_training(each) if place in shared else each for place, each in enumerate(forecasts)]
    batches = batches_of(configs, modelled.workload.batches, [name_of(config) for config in configs])
    return dataclasses.replace(
        modelled, forecasts=forecasts, without_model=without_model, trained_by=shared, batches=batches
    )


def name_of(config: Config) -> str:
    """Return a cell's name in a plan: its run, and the evaluation settings that differ from the default."""
    return SEPARATOR.join([config.run_name, *evaluation_parts(config.evaluation_name)])


def shared_trainings(configs: Sequence[Config]) -> dict[int, int]:
    """Map the index of each cell whose run an earlier cell trains to the index of that cell."""
    first: dict[Path, int] = {}
    for place, config in enumerate(configs):
        if config.run_name and method_of(config.method).trains_weights:
            first.setdefault(config.run_path, place)
    places = ((place, first.get(config.run_path, place)) for place, config in enumerate(configs))
    return {place: earlier for place, earlier in places if earlier != place}


def _without_training(forecast: Forecast) -> Forecast:
    """Return the forecast of the evaluation alone; disk is counted with the cell that trains.

    Peak memory stays that of training, an upper bound.
    """
    untrained = dataclasses.replace(forecast, train=0.0, validate=0.0, training_bytes=0, disk_bytes=0)
    return dataclasses.replace(untrained, validations=0, validation_samples=0, exchanged_bytes=0)


def _plan_models(configs: Sequence[Config], folder: Path, probe: bool, planned: PlannedFor) -> Plan:
    """Forecast the costs of cells that load a model."""
    cache = folder / CACHE_NAME
    without_weights = {config.model for config in configs if not has_weights(locate_architecture(config.model))}
    made = (
        {model: _with_random_weights(model, folder, place) for place, model in enumerate(without_weights)}
        if probe
        else {}
    )
    targets = [(model, target.path) for model, target in made.items()]
    request = WorkloadRequest(list(configs), str(cache), targets, planned.gpu, planned.gpus)
    found = _call(measure_workload, request)
    if not probe:
        pairs = zip(found.cells, configs, strict=True)
        return Plan([forecast_from_workload(facts, found, each.precision) for facts, each in pairs], found, 0, [])
    forecasts: dict[int, Forecast] = {}
    kinds = kinds_of(configs)
    for number, places in enumerate(kinds):
        largest = max(places, key=lambda place: found.cells[place].train_pairs)
        model = made.get(configs[largest].model, configs[largest].model)
        train = found.batches[largest].train
        config = dataclasses.replace(
            configs[largest], model=model, train=train, outputs=str(folder / f"kind-{number}"), study=""
        )
        facts = found.cells[largest]
        measured = _call(trial_runs.run_trial, TrialRequest(config, str(cache), facts.heaviest, facts.forward_share))
        forecasts |= {place: forecast_from_trial(found.cells[place], measured) for place in places}
    in_order = [forecasts[place] for place in range(len(configs))]
    return Plan(in_order, found, len(kinds), sorted(model.title for model in without_weights))


def kinds_of(configs: Sequence[Config]) -> list[list[int]]:
    """Group the indices of cells that differ only in data and seed, one list per kind."""
    kinds: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in NOT_KIND}
        if not method_of(config.method).trains_weights:
            del settings["train"]
        kinds.setdefault(json.dumps(settings, sort_keys=True), []).append(place)
    return list(kinds.values())


def _link_prepared_data(config: Config, cache: Path) -> None:
    """Link data prepared by an earlier run into the temporary cache."""
    corpus = config.corpus
    name = folder_name(cache_key(corpus, rules_of(config), corpus_sha256(corpus), published_parts(corpus)))
    before = Path(config.outputs) / CACHE_NAME / name
    cache.mkdir(exist_ok=True)
    if before.is_dir() and not (cache / name).exists():
        # Without support for links, the data is prepared again.
        with contextlib.suppress(OSError):
            (cache / name).symlink_to(before.absolute(), target_is_directory=True)


def _with_random_weights(model: ModelConfig, folder: Path, place: int) -> ModelConfig:
    path = str(folder / f"{WITHOUT_WEIGHTS}-{place}")
    return dataclasses.replace(model, path=path, repository=None, revision=ModelConfig.revision)


def _call(function: Callable[[Request], Reply], request: Request) -> Reply:
    """Call a function that loads torch in a fresh process.

    Raises:
        MedQAError: the function raised it.
        RunError: the process failed; says how.
    """
    try:
        return call(function, request, quiet=True)
    except NoReplyError as error:
        name = function.__module__.rpartition(".")[2]
        said = error.last_line[:300] or "it printed nothing"
        raise RunError(Fault("process-ended", f"the {name} {error.problem}: {said}")) from None
