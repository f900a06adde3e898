"""Decides whether two cells differ in anything but what is compared.

The axes are `data` (number of training examples), `method` (every setting below `method`, the optimizer among them),
`model`, and `baseline`, where one of the two is not trained; or a single other setting that was varied on purpose, by
its key. What necessarily changes along an axis belongs to it:

- More data: training examples; samples, tokens and steps if epochs are equal, or epochs if steps are equal. If neither
  is equal, it is a difference. Tokens per step may vary by a tenth, as the mean length of examples does.
- Another method: trainable parameters, optimizer, memory and time.
- Another model: tokens per step, because its tokenizer differs; its perplexity is not comparable.
- A baseline: everything about training; if it loads no model, also device, precision and library versions.

Steps, examples and tokens of a step, epochs, precision, device, library versions, test set, number of questions and
signatures are never an axis. The micro-batch size only changes rounding and does not count.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum

from medqa_finetune.record.schema import Environment, Record
from medqa_finetune.report.runs import Cell
from medqa_finetune.report.scores import score_info


class Axis(StrEnum):
    """What two cells are compared for, unless it is a single setting."""

    BASELINE = "baseline"
    MODEL = "model"
    METHOD = "method"
    DATA = "data"


class Fact(StrEnum):
    """What two cells may differ in, apart from settings and package versions."""

    TEST_SET = "test set"
    QUESTIONS = "questions"
    ANSWERED = "questions answered"
    SIGNATURE = "signature"
    PRECISION = "precision"
    DEVICE = "device"
    STEPS = "steps"
    EPOCHS = "epochs"
    PAIRS_PER_STEP = "pairs per step"
    TOKENS_PER_STEP = "tokens per step"
    TOKENIZER = "tokenizer"


@dataclass(frozen=True)
class Difference:
    """One thing that two cells differ in.

    Attributes:
        what: A fact, the key of a setting, or the name of a package whose version differs.
        first: Values of the first cell, one if its runs agree; None for an unknown value. Empty if the fact has no
            value to show, as with `Fact.ANSWERED`.
        second: Values of the second cell.
    """

    what: Fact | str
    first: tuple[object, ...] = ()
    second: tuple[object, ...] = ()


# Settings that change only rounding; those of benchmarks, which do not change the predictions; and those covered by
# facts or signatures.
NO_DIFFERENCE = (
    "train.micro_batch",
    "train.gradient_checkpointing",
    "evaluate.batch_size",
    "evaluate.batch_tokens",
    "evaluate.cuda_graphs",
    "evaluate.timeout_seconds",
    "evaluate.metrics",
    "evaluate.zero_shot",
    "evaluate.zero_shot_folder",
    "evaluate.text",
    "evaluate.text_sha256",
    "evaluate.stride",
)
NEVER_AN_AXIS = (
    "train.epochs",
    "train.max_steps",
    "train.batch_size",
    "precision",
    "evaluate",
    "corpus",
    "results_version",
    "data.split_seed",
    "data.effective_test_size",
)
SAID_BY_FACTS = ("train.epochs", "train.max_steps", "train.batch_size", "precision")
SIZE = "data.effective_train_size"
# They follow the size of the training set.
VALIDATIONS = "data.effective_validations"
BETWEEN_METHODS, BETWEEN_SIZES = 0.01, 0.1


def axes_between(first: Cell, second: Cell) -> tuple[str, ...]:
    """Return the axes that two cells are compared for: one or several of `Axis`, or the key of a setting.

    Empty if they differ in settings that are never an axis. If only settings that change rounding differ, the keys of
    these.
    """
    if not (first.trains and second.trains):
        return (Axis.BASELINE,)
    keys = _differing(first, second)
    found = {
        Axis.MODEL: first.first.model != second.first.model or _any_below(keys, "model"),
        Axis.METHOD: first.first.method != second.first.method or _any_below(keys, "method"),
        Axis.DATA: first.train_size != second.train_size,
    }
    named = tuple(axis for axis, differs in found.items() if differs)
    if named:
        return named
    others = [key for key in keys if not _is_below(key, NO_DIFFERENCE)]
    varied = [key for key in others if not _is_below(key, NEVER_AN_AXIS)]
    if len(varied) == 1:
        return (varied[0],)
    return () if others else tuple(keys)


def unfair(first: Cell, second: Cell, score: str, chosen: Set[str] = frozenset()) -> tuple[Difference, ...]:
    """Return the differences apart from the axis; empty if the cells are comparable.

    Args:
        first: One cell.
        second: The other.
        score: Name of the score.
        chosen: Settings that were chosen for each of both by its validation loss, and so may differ.
    """
    axes = axes_between(first, second)
    gaps = [*_of_tests(first, second, score)]
    if first.loads_model and second.loads_model:
        gaps += _of_places(first, second)
    if Axis.BASELINE not in axes:
        gaps += _of_training(first, second, axes)
    if score_info(score).per_tokenizer and Axis.MODEL in axes:
        gaps.append(Difference(Fact.TOKENIZER, (first.first.model,), (second.first.model,)))
    # A single axis covers every setting below it; of several axes, only those named in the cell's name do.
    own = axes if len(axes) == 1 else ()
    of_size = (SIZE, VALIDATIONS) if Axis.DATA in axes else (SIZE,)
    said = ("model", "method", *NO_DIFFERENCE, *SAID_BY_FACTS, *of_size, *own, *chosen)
    gaps += [
        Difference(key, (first.settings.get(key),), (second.settings.get(key),))
        for key in _differing(first, second)
        if not _is_below(key, said) and not (Axis.BASELINE in axes and _is_below(key, ("train", "data")))
    ]
    return tuple(gaps)


def unfair_costs(first: Cell, second: Cell) -> bool:
    """Return whether time and memory of two cells do not compare: other devices, kernels or micro-batch size."""
    return len(_cost_facts(first) | _cost_facts(second)) > 1


def unfair_times(first: Cell, second: Cell) -> bool:
    """Return whether the times of two cells are not comparable: their costs are not, or the machine did other work."""
    return unfair_costs(first, second) or first.disturbed or second.disturbed


def _cost_facts(cell: Cell) -> set[tuple[object, ...]]:
    """Return what decides the costs of a cell's runs; of several where its seeds disagree."""
    return {_cost_facts_of(run.known, cell.settings.get("train.kernels")) for run in cell.runs}


def _cost_facts_of(record: Record, kernels: object) -> tuple[object, ...]:
    train, place = record.train, record.environment
    device = place.device if place is not None else None
    if train is None:
        return (device,)
    # Records of earlier versions lack the last three: one process trained, and adapters were not fused.
    how = (train.micro_batch, train.gradient_checkpointing, kernels)
    return (device, *how, bool(train.fused_adapters), train.processes, train.sharding)


def _of_tests(first: Cell, second: Cell, score: str) -> Iterable[Difference]:
    manifests = [[run.known.data_manifest for run in cell.runs] for cell in (first, second)]
    hashes = [{m.test.sha256[:8] if m is not None else None for m in each} for each in manifests]
    yield from _unequal(Fact.TEST_SET, *hashes)
    yield from _unequal(Fact.QUESTIONS, *({run.evaluation.n for run in cell.runs} for cell in (first, second)))
    yield from _unequal(Fact.SIGNATURE, *(signatures_of(cell, score) for cell in (first, second)))


def signatures_of(cell: Cell, score: str) -> set[str]:
    """Return the signatures of a cell's score; one if its runs agree."""
    return {run.scores[score].signature for run in cell.runs if score in run.scores}


def _of_places(first: Cell, second: Cell) -> list[Difference]:
    """Return differences in the environments of training and of evaluation; each once."""
    cells = (first, second)
    trained = _of_environments([[run.known.environment for run in cell.runs] for cell in cells])
    evaluated = _of_environments([[run.evaluated_in or run.known.environment for run in cell.runs] for cell in cells])
    return list(dict.fromkeys((*trained, *evaluated)))


def _of_environments(places: list[list[Environment | None]]) -> Iterable[Difference]:
    for fact in (Fact.PRECISION, Fact.DEVICE):
        yield from _unequal(fact, *({getattr(place, fact, None) for place in each} for each in places))
    versions = [[place.versions if place is not None else {} for place in each] for each in places]
    for package in sorted({package for each in versions for found in each for package in found}):
        yield from _unequal(package, *({found.get(package) for found in each} for each in versions))


def _of_training(first: Cell, second: Cell, axes: tuple[str, ...]) -> Iterable[Difference]:
    trained = [[run.known.train for run in cell.runs if run.known.train is not None] for cell in (first, second)]
    steps = [*_unequal(Fact.STEPS, *({t.steps for t in each} for each in trained))]
    epochs = [*_unequal(Fact.EPOCHS, *({round(t.epochs, 2) for t in each} for each in trained))]
    if Axis.DATA not in axes or (steps and epochs):
        yield from (*steps, *epochs)
    yield from _unequal(Fact.PAIRS_PER_STEP, *({t.batch_size for t in each} for each in trained))
    if Axis.MODEL not in axes:
        share = BETWEEN_SIZES if Axis.DATA in axes else BETWEEN_METHODS
        tokens = [[t.batch_tokens for t in each if t.batch_tokens is not None] for each in trained]
        every = [value for each in tokens for value in each]
        if every and max(every) > min(every) * (1 + share):
            means = [(round(sum(each) / len(each)) if each else None,) for each in tokens]
            yield Difference(Fact.TOKENS_PER_STEP, *means)


def _unequal(what: Fact | str, first: Set[object], second: Set[object]) -> Iterable[Difference]:
    # Disagreement among the seeds of one cell is a difference too.
    if len(first | second) > 1:
        one, other = (tuple(sorted(values, key=str)) or (None,) for values in (first, second))
        yield Difference(what, one, other)


def _differing(first: Cell, second: Cell) -> list[str]:
    one, other = first.settings, second.settings
    # Settings that do not apply to one of the two (training, for a baseline) are ignored.
    both = first.trains and second.trains
    keys = one.keys() | other.keys() if both else one.keys() & other.keys()
    return sorted(key for key in keys if one.get(key) != other.get(key))


def _any_below(keys: Iterable[str], root: str) -> bool:
    return any(_is_below(key, (root,)) for key in keys)


def _is_below(key: str, roots: tuple[str, ...]) -> bool:
    return any(root and (key == root or key.startswith(root + ".")) for root in roots)
