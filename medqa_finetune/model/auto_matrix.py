"""Resolves `auto` in the training settings of a whole matrix: one choice for all cells that are compared."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.identity import as_written
from medqa_finetune.config.schema import Config, TrainConfig
from medqa_finetune.methods.registry import method_of
from medqa_finetune.model.auto_batch import fits, is_auto, most_demanding, resolve_auto, resolve_together
from medqa_finetune.model.estimate import Machine
from medqa_finetune.record.compared import choices_of, compared_runs, comparison_of
from medqa_finetune.record.schema import Fitted


@dataclasses.dataclass(frozen=True)
class Resolved:
    """The training settings of a cell, with `auto` replaced.

    Attributes:
        train: The settings.
        decided_by: Index of the cell that needs most memory of those with the same choice; None where nothing was left
            to be chosen, and where the choice was taken over.
        taken_from: Name of the run in `outputs` whose choice it is; None for a new choice.
    """

    train: TrainConfig
    decided_by: int | None = None
    taken_from: str | None = None


def resolve_matrix(
    configs: Sequence[Config], sizes: Sequence[ModelSize | None], machine: Machine, *, on_disk: bool = True
) -> list[Resolved]:
    """Return for each cell what `auto` stands for by the estimate; cells that train nothing keep their settings.

    Args:
        configs: The cells.
        sizes: Size of the model of each; None where it is unknown.
        machine: The device.
        on_disk: Whether the choice of runs in `outputs` is taken over, as it is when the cells train.
    """
    found = [Resolved(config.train) for config in configs]
    for places in _compared(configs):
        members, size = [configs[place] for place in places], sizes[places[0]]
        taken = _choices_on_disk(members[0], machine) if on_disk else []
        if not taken:
            train = resolve_together(members, size, machine)
            decided_by = None if size is None else places[most_demanding(members, train, size, machine)]
            shared = [Resolved(train, decided_by)]
        else:
            shared = [Resolved(_with(members[0].train, each), taken_from=each.chosen_in) for each in taken]
        for place in places:
            found[place] = _shared_or_own(configs[place], place, shared, size, machine)
    return found


def _shared_or_own(
    config: Config, place: int, shared: Sequence[Resolved], size: ModelSize | None, machine: Machine
) -> Resolved:
    """Return the first of the shared settings that fits for a cell; where none does, those of its own."""
    for each in shared:
        train = _with(config.train, each.train)
        if size is None or fits(dataclasses.replace(config, train=train), size, machine):
            return dataclasses.replace(each, train=train)
    return Resolved(resolve_auto(config, size, machine), place)


def _compared(configs: Sequence[Config]) -> Iterator[list[int]]:
    """Yield the indices of trainings that share what `auto` stands for."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, config in enumerate(configs):
        train = config.train
        if method_of(config.method).trains_weights and is_auto(train):
            # Cells with other lengths, batches or kernels are compared as well, but what fits differs.
            asked = (config.outputs, config.study, train.micro_batch, train.gradient_checkpointing)
            groups.setdefault((*asked, *comparison_of(_written(config))), []).append(place)
    yield from groups.values()


def _choices_on_disk(config: Config, machine: Machine) -> list[Fitted]:
    study = Path(config.outputs) / config.study
    return choices_of(compared_runs(study, _written(config)), config.train, machine.name)


def _written(config: Config) -> dict[str, object]:
    return as_written(dataclasses.asdict(dataclasses.replace(config, interpolated={})), config)


def _with(train: TrainConfig, choice: TrainConfig | Fitted) -> TrainConfig:
    return dataclasses.replace(
        train, micro_batch=choice.micro_batch, gradient_checkpointing=choice.gradient_checkpointing
    )
