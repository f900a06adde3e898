"""Chooses between settings that were swept, such as learning rates: by validation loss, never by the test set.

Cells of one method, model, corpus and training size that differ in settings of the method or of training are tries of
one question. The best of them by its test scores would look better than it is; so the one with the lowest validation
loss is chosen, and recommendations and comparisons between methods are about chosen cells alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import fmean, stdev

from medqa_finetune.report.runs import Cell

# Values of a setting from which on its lowest loss at the smallest or largest says something: of two, one always is.
FEWEST_VALUES = 3
# Settings that may be chosen. A sequence length changes what the validation loss is taken on.
CHOSEN_BELOW = ("method.", "train.")
NOT_CHOSEN = ("train.max_length", "train.micro_batch", "train.gradient_checkpointing")


@dataclass(frozen=True)
class Try:
    """One try of a choice.

    Attributes:
        cell: Name of the cell.
        values: Its value of each swept setting.
        loss: Lowest validation loss, mean over seeds; None if not measured.
        sd: Standard deviation between seeds; None for one.
        seeds: Number of runs.
    """

    cell: str
    values: tuple[object, ...]
    loss: float | None
    sd: float | None
    seeds: int


@dataclass(frozen=True)
class Choice:
    """Which of several cells that differ in swept settings is chosen.

    Attributes:
        keys: The swept settings, by dotted key.
        tries: Ordered by their values.
        chosen: Name of the cell with the lowest validation loss; None if none was measured.
        edge: The key of a number of which the smallest or largest value tried was chosen; None if it lies between.
    """

    keys: tuple[str, ...]
    tries: tuple[Try, ...]
    chosen: str | None
    edge: str | None = None


@dataclass(frozen=True)
class Chosen:
    """The cells of a family that count, after choices.

    Attributes:
        cells: All cells but those that another try was chosen over.
        choices: One per set of tries.
        keys: By chosen cell, the settings that were chosen for it.
    """

    cells: tuple[Cell, ...]
    choices: tuple[Choice, ...]
    keys: Mapping[str, frozenset[str]]


def choose(cells: Sequence[Cell]) -> Chosen:
    """Choose between tries by their validation loss; without one, all cells of a set of tries are kept."""
    dropped: set[str] = set()
    choices, keys = [], {}
    for tries in _tries(cells):
        choice = _choice(tries)
        choices.append(choice)
        if choice.chosen is not None:
            keys[choice.chosen] = frozenset(choice.keys)
            dropped |= {each.cell for each in choice.tries} - {choice.chosen}
    return Chosen(tuple(cell for cell in cells if cell.name not in dropped), tuple(choices), keys)


def _tries(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.trains:
            fixed = {key: value for key, value in cell.settings.items() if not _may_be_chosen(key)}
            manifest = cell.first.data_manifest
            validation = manifest.validation.sha256 if manifest is not None else ""
            # Losses on different numbers of validation examples do not compare.
            samples = cell.first.validation.samples if cell.first.validation is not None else None
            place = (cell.first.method, cell.first.model, cell.train_size, validation, samples)
            key = repr((*place, sorted(fixed.items())))
            alike.setdefault(key, []).append(cell)
    for group in alike.values():
        if swept_keys(group):
            yield group


def swept_keys(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return the settings that may be chosen and that not all of these cells share, by dotted key."""
    keys = {key for cell in cells for key in cell.settings if _may_be_chosen(key)}
    return tuple(sorted(key for key in keys if len({repr(cell.settings.get(key)) for cell in cells}) > 1))


def _may_be_chosen(key: str) -> bool:
    return key.startswith(CHOSEN_BELOW) and key not in NOT_CHOSEN


def _choice(cells: Sequence[Cell]) -> Choice:
    keys = swept_keys(cells)
    tries = []
    for cell in cells:
        losses = cell.validation_losses
        whole = len(losses) == len(cell.runs)
        tries.append(
            Try(
                cell.name,
                tuple(cell.settings.get(key) for key in keys),
                fmean(losses) if whole else None,
                stdev(losses) if whole and len(losses) > 1 else None,
                len(cell.runs),
            )
        )
    tries.sort(key=lambda each: [_order(value) for value in each.values])
    measured = [(each.loss, each) for each in tries if each.loss is not None]
    if not measured:
        return Choice(keys, tuple(tries), None)
    _, best = min(measured, key=itemgetter(0))
    return Choice(keys, tuple(tries), best.cell, _edge(keys, [each for _, each in measured], best))


def _edge(keys: Sequence[str], tries: Sequence[Try], best: Try) -> str | None:
    for place, key in enumerate(keys):
        values = [value for each in tries if is_number(value := each.values[place])]
        own = best.values[place]
        if is_number(own) and len(set(values)) >= FEWEST_VALUES and own in (min(values), max(values)):  # type: ignore[type-var]
            return key
    return None


def is_number(value: object) -> bool:
    """Return whether a setting's value is a number, which truth values are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _order(value: object) -> tuple[bool, float, str]:
    return (False, float(value), "") if is_number(value) else (True, 0.0, str(value))  # type: ignore[arg-type]
