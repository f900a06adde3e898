"""What an experiment or a matrix will cost, before anything runs: `python -m medqa_finetune.plan [-m] key=value …`."""

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from medqa_finetune.config.command_line import aligned_table, print_help, run_command, wants_help
from medqa_finetune.config.command_options import Options, describe, option, parse_options, split_options
from medqa_finetune.config.composition_line import read_composition
from medqa_finetune.config.ranges import above_zero, at_least
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault, noting
from medqa_finetune.languages.labels import spoken_label
from medqa_finetune.languages.translate import say
from medqa_finetune.memory import in_units
from medqa_finetune.model.cards import CARDS
from medqa_finetune.planning.rows import CellRow, Content, Totals
from medqa_finetune.record.files import existing_part
from medqa_finetune.record.short_names import short_names

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medqa_finetune.config.schema import Config
    from medqa_finetune.planning.batches import Batches
    from medqa_finetune.planning.cost_model import Forecast
    from medqa_finetune.planning.plan_cells import Plan

HOUR = 3600.0
# Cells named when all together take too long.
DEAREST = 5
# The rest of 88 columns.
NAME_WIDTH = 24


def _at_least_one(key: str, value: int) -> Iterator[Fault]:
    return at_least(key, value, 1)


@dataclasses.dataclass(frozen=True)
class PlanOptions(Options):
    """Options of `plan`, in addition to the settings of the experiments."""

    PREFIX = "plan."

    probe: bool = option(
        False,
        "measure a few real steps and answers of every model and method here; otherwise times are computed from the "
        "model's arithmetic and this machine's speed",
    )
    budget_hours: float | None = option(None, "exit with 2 if all cells together take longer", check=above_zero)
    price_per_hour: float | None = option(
        None, "price of an hour of this machine or GPU, in any currency", check=above_zero
    )
    gpu: str | None = option(
        None,
        "plan for a card that is not here, computed from its data sheet; null for this machine. One of "
        + ", ".join(CARDS),
        value="CARD",
        allowed=tuple(CARDS),
        bare=True,
    )
    gpus: int | None = option(
        None,
        "GPUs of a cell; null: hydra.launcher.gpus_per_cell",
        value="N",
        check=_at_least_one,
        bare=True,
    )
    format: str = option("text", "a table, or one JSON object", allowed=("text", "json"), bare=True)

    def conflicts(self) -> Iterable[Fault]:
        """Yield a fault of measuring on a card that is not here."""
        if self.gpu is not None and self.probe:
            problem = "measures on this machine, and gpu asks for the times of a card elsewhere"
            yield Fault("conflict", problem, key="plan.probe", got=True, hint="Leave out one of the two.")


USAGE = f"""\
usage: python -m medqa_finetune.plan [-m] [key=value …] [group=choice …]

Predicts hours, peak memory, disk and money of every cell that `python -m medqa_finetune.train` would run with the same
arguments, and their sum. Nothing is started. The model's config.json and tokenizer are enough; the corpus is fetched
where it is missing. Finished cells are planned as if they were new.

  python -m medqa_finetune.plan -m profile=demo plan.probe=true
  python -m medqa_finetune.plan -m method=lora,qlora plan.price_per_hour=0.5 plan.budget_hours=12
  python -m medqa_finetune.plan -m method=lora,qlora gpu=t4
  python -m medqa_finetune.plan method=full train.sharding=full gpu=t4 gpus=2

options:
{describe(PlanOptions)}\
and every group and key that `python -m medqa_finetune.train --help` lists
"""


class ExcessError(ConfigError):
    """The cells need more time than the budget or more disk than is free.

    Attributes:
        content: The plan, included in its JSON, so that `format=json` prints one object.
    """

    def __init__(self, content: "Content", *faults: Fault) -> None:
        super().__init__(*faults)
        self.content = content

    def as_json(self) -> dict[str, Any]:
        """Return the plan with the faults."""
        return {**self.content, **super().as_json()} | {"error": ConfigError.__name__}


def main() -> NoReturn:
    """Run the command `plan`, and end the process: 0 done, 2 bad input, or over the budget or the disk."""
    run_command(plan)


def plan(arguments: list[str]) -> int:
    """Print the time, memory and disk that the cells in `arguments` need; return the exit code.

    Raises:
        ConfigError: a setting is impossible.
        ExcessError: the cells need more time than the budget or more disk than is free.
        MedQAError: the corpus or the model is missing.
    """
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    line = read_composition(arguments, PlanOptions)
    own, rest = split_options(PlanOptions, line.overrides)
    options = parse_options(PlanOptions, own)
    composed = compose([*line.typed_flags, *rest], arguments)
    configs = composed.configs
    if line.only_shows:
        return EXIT_DONE
    # Imported late, so that --help is fast.
    from medqa_finetune.config.labels import labels_of
    from medqa_finetune.planning.evaluations import answered_by_transformers, notes_on
    from medqa_finetune.planning.plan_cells import PlannedFor, make_plan
    from medqa_finetune.planning.several_gpus import AskedGpus, gpus_of_a_cell

    faults = [*precision_faults(configs, options)]
    gpus = 1
    with noting(faults):
        asked = AskedGpus(composed.gpus_per_cell, options.gpus, options.gpu)
        gpus = gpus_of_a_cell(configs, asked, probe=options.probe)
    if faults:
        raise ConfigError(*faults)
    room = existing_part(Path(configs[0].outputs))
    with tempfile.TemporaryDirectory(prefix=".plan-", dir=room, ignore_cleanup_errors=True) as folder:
        cells = [answered_by_transformers(each) for each in configs]
        found = make_plan(cells, Path(folder), probe=options.probe, planned=PlannedFor(options.gpu, gpus))
    of_cells = zip(configs, found.forecasts, found.batches, strict=True)
    rows = [row(config, forecast, options, batches, gpus=gpus) for config, forecast, batches in of_cells]
    for each, label in zip(rows, labels_of(configs), strict=True):
        each["label"] = label
    for place, earlier in found.trained_by.items():
        rows[place]["trained_by"] = rows[earlier]["name"]
    content = as_object(rows, found, options)
    excess = excess_faults(rows, found, options)
    if options.format == "json":
        if excess:
            raise ExcessError(content, *excess)
        print(json.dumps(content, ensure_ascii=False, allow_nan=False))
    else:
        print(as_text(rows, found, options))
        for note in notes_on(configs):
            print(note)
    if excess:
        raise ExcessError(content, *excess)
    return EXIT_DONE


@dataclasses.dataclass(frozen=True)
class Composed:
    """What a command asks for.

    Attributes:
        configs: Settings of every cell.
        gpus_per_cell: That of the launcher; 1 where it has none.
    """

    configs: list["Config"]
    gpus_per_cell: int


def compose(arguments: Sequence[str], typed: Sequence[str] | None = None) -> Composed:
    """Return every cell that `train` would run with these arguments; `typed` are those of the command.

    Raises:
        ConfigError: with the faults of all cells.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from medqa_finetune.cell import Cell
    from medqa_finetune.compat.hydra import as_typed
    from medqa_finetune.config.compose import readable
    from medqa_finetune.config.no_effect import chosen_last, refuse_of_a_matrix, refuse_unused_settings
    from medqa_finetune.evaluation.benchmarks import check_benchmarks
    from medqa_finetune.launch.compose import compose_and_call, make_cell
    from medqa_finetune.launch.validate import check_all, distinct_cells
    from medqa_finetune.model.locate import locate_architecture
    from medqa_finetune.preflight import CELL_KEY, check_packages

    cells: list[Cell] = []
    compositions: list[DictConfig] = []
    asked: list[Sequence[str]] = []
    faults: list[Fault] = []
    gpus_per_cell = {1}

    def take(composed: "DictConfig") -> None:
        hydra_config = HydraConfig.get()
        if hydra_config.mode == RunMode.RUN:
            # torchrun starts the processes of one cell; a plan takes their number from either.
            refuse_of_a_matrix([each for each in as_typed(hydra_config.overrides.hydra) if CELL_KEY not in each])
        gpus_per_cell.add(int(hydra_config.launcher.get("gpus_per_cell", 1)))
        overrides = tuple(as_typed(hydra_config.overrides.task))
        compositions.append(composed)
        asked.append(overrides)
        with noting(faults):
            cells.append(make_cell(composed, hydra_config, overrides, locate_architecture))

    # Hydra's own matrix is the same as ours, and would be launched.
    basic = chosen_last(arguments, "hydra/sweeper") == "basic"
    compose_and_call(take, [*arguments, *(["hydra/sweeper=matrix"] if basic else [])], typed or arguments, plans=True)
    if faults:
        # What can never work is said before a model or corpus that is missing.
        refuse_unused_settings(readable(compositions, asked))
        raise ConfigError(*faults)
    refuse_unused_settings([(cell.config, cell.overrides) for cell in cells])
    configs = [cell.config for cell in distinct_cells(cells)]
    check_all(configs, check_packages)
    check_all(configs, check_benchmarks)
    return Composed(configs, max(gpus_per_cell))


def precision_faults(configs: Sequence["Config"], options: PlanOptions) -> Iterable[Fault]:
    """Yield a fault of a precision that the card to plan for does not compute in."""
    if options.gpu is not None:
        allowed = ("auto", *CARDS[options.gpu].precisions)
        for precision in dict.fromkeys(config.precision for config in configs):
            if precision not in allowed:
                problem = f"{CARDS[options.gpu].title} has no {precision} in hardware"
                yield Fault("not-supported", problem, key="precision", got=precision, allowed=allowed)


def row(config: "Config", forecast: "Forecast", options: PlanOptions, batches: "Batches", *, gpus: int = 1) -> CellRow:
    """Return the row of a cell that trains on `gpus` GPUs, times rounded to 0.1 s."""
    from medqa_finetune.planning.plan_cells import name_of

    return {
        "name": name_of(config),
        "label": name_of(config),
        "seconds": round(forecast.seconds, 1),
        "start_seconds": round(forecast.start, 1),
        "train_seconds": round(forecast.train, 1),
        "validation_seconds": round(forecast.validate, 1),
        "evaluation_seconds": round(forecast.answer, 1),
        "peak_memory_bytes": forecast.memory_bytes,
        "training_memory_bytes": forecast.training_bytes,
        "disk_bytes": forecast.disk_bytes,
        "price": _price(gpus * forecast.seconds, options),
        "trained_by": None,
        "batches": dataclasses.asdict(batches),
        "examples_cut": round(forecast.examples_cut, 4),
        "questions_cut": round(forecast.questions_cut, 4),
        "validations": forecast.validations,
        "validation_samples": forecast.validation_samples,
        "fits": forecast.fits,
        "training_limit": forecast.training_limit,
        "training_utilization": None if forecast.utilization is None else round(forecast.utilization, 3),
        "training_parts": {name: round(seconds, 1) for name, seconds in forecast.training_parts.items()},
        "gpus": gpus,
        "batch_size": config.train.batch_size if forecast.train else None,
        "exchanged_bytes": forecast.exchanged_bytes,
    }


def _price(seconds: float, options: PlanOptions) -> float | None:
    return None if options.price_per_hour is None else round(seconds / HOUR * options.price_per_hour, 2)


def as_object(rows: Sequence[CellRow], found: "Plan", options: PlanOptions) -> Content:
    """Return the plan as a JSON object."""
    from medqa_finetune.planning.basis import matrix_rates

    return {
        "cells": rows,
        "sum": _totals(rows, options),
        "basis": "probe" if found.trials else "estimated" if found.workload.gpu is None else "roofline",
        "gpu": found.workload.gpu,
        "random_weights": found.without_weights,
        "machine": dataclasses.asdict(found.workload.machine),
        "matrix_flops_per_second": matrix_rates(found),
        "copied_bytes_per_second": found.workload.copy_rate,
    }


def _totals(rows: Sequence[CellRow], options: PlanOptions) -> Totals:
    seconds = sum(each["seconds"] for each in rows)
    busy = sum(each["gpus"] * each["seconds"] for each in rows)
    return {
        "hours": seconds / HOUR,
        "gpu_hours": busy / HOUR,
        "peak_memory_bytes": max(each["peak_memory_bytes"] for each in rows),
        "disk_bytes": sum(each["disk_bytes"] for each in rows),
        "price": _price(busy, options),
    }


def as_text(rows: Sequence[CellRow], found: "Plan", options: PlanOptions) -> str:
    """Return a table with a row per cell and their sum, and notes on how the figures were obtained."""
    from medqa_finetune.planning.basis import describe_basis
    from medqa_finetune.planning.batches import describe_batches
    from medqa_finetune.planning.card_fit import describe_fit
    from medqa_finetune.planning.examples import describe_cut, describe_validations
    from medqa_finetune.planning.several_gpus import describe_several

    whole = _totals(rows, options)
    labels = {each["name"]: spoken_label(each["label"]) for each in rows}
    rows = [_with_labels(each, labels) for each in rows]
    header = [
        *(say("cell"), say("time"), say("training"), say("validation"), say("evaluation"), say("memory"), say("disk"))
    ]
    cells = [
        [
            name,
            _time(each["seconds"]),
            _time(each["train_seconds"]),
            _time(each["validation_seconds"]),
            _time(each["evaluation_seconds"]),
            in_units(each["peak_memory_bytes"]),
            in_units(each["disk_bytes"]),
        ]
        for each, name in zip(rows, short_names([each["name"] for each in rows], NAME_WIDTH), strict=True)
    ]
    sums = [
        say("sum"),
        _time(whole["hours"] * HOUR),
        _time(sum(each["train_seconds"] for each in rows)),
        _time(sum(each["validation_seconds"] for each in rows)),
        _time(sum(each["evaluation_seconds"] for each in rows)),
        in_units(whole["peak_memory_bytes"]),
        in_units(whole["disk_bytes"]),
    ]
    if options.price_per_hour is not None:
        header.append(say("price"))
        for line, price in zip([*cells, sums], [*(each["price"] for each in rows), whole["price"]], strict=True):
            line.append(f"{price:.2f}")
    shared = sum(each["trained_by"] is not None for each in rows)
    evaluated = say(
        "{count} cells evaluate what an earlier one trains; the training is counted there."
        if shared > 1
        else "{count} cell evaluates what an earlier one trains; the training is counted there.",
        count=shared,
    )
    once = [evaluated] if shared else []
    return "\n".join(
        [
            aligned_table(header, [*cells, sums], left=header[:1]),
            "",
            *describe_basis(found, labels),
            *describe_fit(rows, found.workload),
            *describe_batches(rows),
            *describe_several(rows, found.workload.machine.processes),
            *once,
            *describe_validations(rows),
            *describe_cut(rows),
        ]
    )


def _with_labels(each: CellRow, labels: Mapping[str, str]) -> CellRow:
    """Return a row in which every cell of the plan is called by its short name."""
    batches = {
        key: labels.get(str(value), value) if key in ("decided_by", "taken_from") else value
        for key, value in each["batches"].items()
    }
    return {**each, "name": labels[each["name"]], "batches": batches}


def excess_faults(rows: Sequence[CellRow], found: "Plan", options: PlanOptions) -> list[Fault]:
    """Return the faults of exceeding the budget or the disk, with the figures; empty if neither is exceeded."""
    faults = [*found.workload.disk_faults]
    hours = sum(each["seconds"] for each in rows) / HOUR
    if options.budget_hours is not None and hours > options.budget_hours:
        by_time = sorted(rows, key=lambda each: each["seconds"], reverse=True)[:DEAREST]
        dearest = ", ".join(f"{each['label']} {_time(each['seconds'])}" for each in by_time)
        dearest += f" and {len(rows) - DEAREST} less" if len(rows) > DEAREST else ""
        problem = f"{len(rows)} cell{'s' * (len(rows) > 1)} would take {hours:.3g} hours ({dearest})"
        hint = "Ask for fewer or smaller cells, or a larger budget."
        faults.append(
            Fault("over-budget", problem, key=f"{PlanOptions.PREFIX}budget_hours", got=options.budget_hours, hint=hint)
        )
    return faults


def _time(seconds: float) -> str:
    """Format a time: `95s`, `12min`, `3.4h`."""
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f}h"


if __name__ == "__main__":
    main()
