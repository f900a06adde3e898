"""Forecast cells: survey them all in one process, rehearse each kind in another, and put both together."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from medqa_finetune.config.command_line import FAULTS_VARIABLE
from medqa_finetune.config.schema import Config, ModelConfig
from medqa_finetune.data.corpus import corpus_sha256
from medqa_finetune.data.prepare import CACHE_NAME, cache_key, folder_name, rules_of
from medqa_finetune.errors import EXIT_BAD_INPUT, ConfigError, Fault, RunError
from medqa_finetune.launch.worker import faults_file, read_faults
from medqa_finetune.model.locate import has_weights, locate_architecture
from medqa_finetune.planning.cost_model import Forecast, Measured, Survey, forecast_by_reckoning, forecast_by_rehearsal
from medqa_finetune.planning.trial_retrieval import LookedUp
from medqa_finetune.planning.trial_run import Rehearsed
from medqa_finetune.planning.workload import Asked
from medqa_finetune.preflight import wait_briefly
from medqa_finetune.record.evaluations import SEPARATOR, evaluation_parts

T = TypeVar("T")

# What does not change how a cell spends its time; the kinds that are rehearsed are told apart by the rest.
NOT_KIND = ("run_name", "study", "outputs", "overwrite", "seed", "data", "interpolated")
WITHOUT_WEIGHTS = "random"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Forecasts, and what they rest on.

    Attributes:
        forecasts: Of every cell, in order.
        survey: Of the machine and of all cells.
        rehearsals: Number of kinds of cells that were rehearsed.
        weightless: Models that were rehearsed with random weights, since theirs are not here.
        looked_up: Names of the cells that look their answers up, which are always measured.
        trained_by: Of every cell that is a later evaluation of the training of an earlier one, that one's place.
    """

    forecasts: list[Forecast]
    survey: Survey
    rehearsals: int
    weightless: list[str]
    looked_up: list[str] = dataclasses.field(default_factory=list)
    trained_by: dict[int, int] = dataclasses.field(default_factory=dict)


def make_plan(configs: Sequence[Config], folder: Path, *, probe: bool) -> Plan:
    """Forecast what cells will take; a training that several of them evaluate is counted with the first one.

    Args:
        configs: The cells.
        folder: An empty folder for what is thrown away afterwards.
        probe: Whether every kind of cell is rehearsed; those without a model are in any case.

    Raises:
        MedQAError: a cell cannot run at all, or failed in the rehearsal.
    """
    cache = folder / CACHE_NAME
    for config in configs:
        _use_prepared(config, cache)
    modelled = _plan_models([config for config in configs if config.method.loads_model], folder, probe=probe)
    of_models, forecasts = iter(modelled.forecasts), []
    for config in configs:
        if config.method.loads_model:
            forecasts.append(next(of_models))
        else:
            forecasts.append(_in_fresh_process("trial_retrieval", LookedUp(config, str(cache)), Forecast))
    looked_up = [name_of(config) for config in configs if not config.method.loads_model]
    shared = shared_trainings(configs)
    forecasts = [_evaluated_alone(each) if place in shared else each for place, each in enumerate(forecasts)]
    return dataclasses.replace(modelled, forecasts=forecasts, looked_up=looked_up, trained_by=shared)


def name_of(config: Config) -> str:
    """Return what a plan calls a cell: its run, and what differs from the default settings of an evaluation."""
    return SEPARATOR.join([config.run_name, *evaluation_parts(config.evaluation_name)])


def shared_trainings(configs: Sequence[Config]) -> dict[int, int]:
    """Return the places of cells whose training an earlier cell does, each with the place of that one."""
    first: dict[Path, int] = {}
    for place, config in enumerate(configs):
        if config.run_name and config.method.trains not in ("nothing", "lookup"):
            first.setdefault(config.run_path, place)
    places = ((place, first.get(config.run_path, place)) for place, config in enumerate(configs))
    return {place: earlier for place, earlier in places if earlier != place}


def _evaluated_alone(forecast: Forecast) -> Forecast:
    """Return what a cell takes that finds its training done; its files are those of the run, which are counted there.

    Its peak of memory stays an upper bound, that of training.
    """
    return dataclasses.replace(forecast, train=0.0, validate=0.0, training_bytes=0, disk_bytes=0)


def _plan_models(configs: Sequence[Config], folder: Path, *, probe: bool) -> Plan:
    """Forecast what cells with a model will take."""
    cache = folder / CACHE_NAME
    weightless = {config.model for config in configs if not has_weights(locate_architecture(config.model))}
    made = (
        {model: _with_random_weights(model, folder, place) for place, model in enumerate(weightless)} if probe else {}
    )
    asked = Asked(list(configs), str(cache), [(model, target.path) for model, target in made.items()])
    found = _in_fresh_process("workload", asked, Survey)
    if not probe:
        pairs = zip(found.facts, configs, strict=True)
        return Plan([forecast_by_reckoning(facts, found, each.precision) for facts, each in pairs], found, 0, [])
    forecasts: dict[int, Forecast] = {}
    kinds = kinds_of(configs)
    for number, places in enumerate(kinds):
        largest = max(places, key=lambda place: found.facts[place].train_pairs)
        model = made.get(configs[largest].model, configs[largest].model)
        config = dataclasses.replace(configs[largest], model=model, outputs=str(folder / f"kind-{number}"), study="")
        facts = found.facts[largest]
        measured = _in_fresh_process(
            "trial_run", Rehearsed(config, str(cache), facts.heaviest, facts.forward_share), Measured
        )
        forecasts |= {place: forecast_by_rehearsal(found.facts[place], measured) for place in places}
    in_order = [forecasts[place] for place in range(len(configs))]
    return Plan(in_order, found, len(kinds), sorted(model.title for model in weightless))


def kinds_of(configs: Sequence[Config]) -> list[list[int]]:
    """Return the places of cells that differ in nothing but their data and seed, one list per kind."""
    kinds: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in NOT_KIND}
        if config.method.trains == "nothing":
            del settings["train"]
        kinds.setdefault(json.dumps(settings, sort_keys=True), []).append(place)
    return list(kinds.values())


def _use_prepared(config: Config, cache: Path) -> None:
    """Let a folder of prepared data be found in the cache that is thrown away, where an earlier run has left it."""
    name = folder_name(cache_key(config.corpus, rules_of(config), corpus_sha256(config.corpus)))
    before = Path(config.outputs) / CACHE_NAME / name
    cache.mkdir(exist_ok=True)
    if before.is_dir() and not (cache / name).exists():
        # Where the file system has no links, the data is prepared once more.
        with contextlib.suppress(OSError):
            (cache / name).symlink_to(before.absolute(), target_is_directory=True)


def _with_random_weights(model: ModelConfig, folder: Path, place: int) -> ModelConfig:
    return ModelConfig(model.name, str(folder / f"{WITHOUT_WEIGHTS}-{place}"), chat_template=model.chat_template)


def _in_fresh_process(module: str, asked: Any, answer: type[T]) -> T:
    """Ask a module of this folder, which loads torch, and return its answer.

    Raises:
        ConfigError: it refused what was asked.
        RunError: it failed; says with what.
    """
    wait_briefly()  # as a cell of a matrix does
    with faults_file() as refusal:
        done = subprocess.run(
            [sys.executable, "-m", f"{__package__}.{module}"],
            input=TypeAdapter(type(asked)).dump_json(asked),
            env={**os.environ, FAULTS_VARIABLE: str(refusal)},
            capture_output=True,
            check=False,
        )
        faults = read_faults(refusal)
    if done.returncode == EXIT_BAD_INPUT and faults:
        raise ConfigError(*faults)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", errors="replace").strip().splitlines() or ["it left no message"]
        problem = f"the {module} ended with exit code {done.returncode}: {lines[-1][:300]}"
        raise RunError(*(faults or [Fault("process-ended", problem)]))
    return TypeAdapter(answer).validate_json(done.stdout.splitlines()[-1])
