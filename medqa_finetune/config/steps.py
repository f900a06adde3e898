"""How many optimizer steps a training takes, and what it validates on, where that is left to the size of its data."""

import math
from dataclasses import dataclass, replace

from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import TrainConfig

# Validations together process at most this share of the examples that training processes. A validation takes a third to
# a half of the time of training on as many tokens, since it has no backward pass: about a tenth of the time in all.
VALIDATION_SHARE = 4
MOST_VALIDATIONS = 5
# Examples of a validation where there are few: fewer validations come first, fewer examples after that.
FEW_EXAMPLES = 32


@dataclass(frozen=True)
class Validations:
    """What a training validates on.

    Attributes:
        times: Number of validations, the last one after the last step.
        samples: Examples of each, the first of the validation set.
    """

    times: int
    samples: int


def total_steps(examples: int, train: TrainConfig) -> int:
    """Return the number of optimizer steps, ≥ 1; the last batch of an epoch may be smaller."""
    steps = math.ceil(math.ceil(examples / train.batch_size) * train.epochs)
    return steps if train.max_steps is None else min(steps, train.max_steps)


def validations_of(train: TrainConfig, examples: int, held_out: int) -> Validations:
    """Return the validations of a training, with `auto` settings resolved.

    What a validation is made on depends on the size of the training set alone, as long as training passes it once: so
    runs of one size compare, whatever their method, their learning rate or the number of their epochs.

    Args:
        train: Its settings.
        examples: Examples of its training set.
        held_out: Examples of its validation set.
    """
    steps = total_steps(examples, train)
    seen = max(1, min(steps * train.batch_size, math.ceil(examples * train.epochs)))
    times, samples = train.validations, train.validation_samples
    if samples is None:
        samples = held_out
    elif samples == AUTO:
        # Of a given number of validations, each gets its part.
        share = VALIDATION_SHARE * (MOST_VALIDATIONS if times == AUTO else times)
        once = min(examples, seen)
        few = min(FEW_EXAMPLES, once // VALIDATION_SHARE) if times == AUTO else 0
        samples = max(1, once // share, few)
    samples = min(samples, held_out)
    if times == AUTO:
        times = min(MOST_VALIDATIONS, steps, max(1, seen // VALIDATION_SHARE // samples))
    return Validations(times, samples)


def with_validations(train: TrainConfig, found: Validations) -> TrainConfig:
    """Return the settings with these validations."""
    return replace(train, validations=found.times, validation_samples=found.samples)


def validation_steps(steps: int, train: TrainConfig) -> frozenset[int]:
    """Return the steps after which to validate: `train.validations` of them, evenly spread, with the last step."""
    return frozenset(math.ceil(steps * number / train.validations) for number in range(1, train.validations + 1))
