"""What `auto` stands for: as much in one forward pass as fits, with activations kept or computed again."""

import dataclasses
from collections.abc import Iterator

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import Config, TrainConfig
from medqa_finetune.model.estimate import PROCESS_BYTES, Machine, training_memory

# The rest is left free for what is not estimated: fragmentation, and other users of the device.
SHARE = 0.9
# Tokens in one forward pass from which a larger one is hardly faster. As long as these fit without it, gradient
# checkpointing costs time (a forward pass more) for nothing.
ENOUGH_TOKENS = 4096


def is_auto(train: TrainConfig) -> bool:
    """Say whether anything is left to be chosen."""
    return AUTO in (train.micro_batch, train.gradient_checkpointing)


def resolve_auto(config: Config, size: ModelSize | None, machine: Machine) -> TrainConfig:
    """Return the training settings with numbers in the place of `auto`.

    Without gradient checkpointing where a pass of `ENOUGH_TOKENS`, or a whole optimizer step if that is less, fits so;
    with it elsewhere. Then the largest micro-batch that fits, of those that divide the batch. Where nothing fits, and
    where the size of the model is not known, the choice is the one that needs least.
    """
    choices = list(candidates(config.train))
    for choice in choices:
        if size is not None and fits(dataclasses.replace(config, train=choice), size, machine):
            return choice
    return choices[-1]


def candidates(train: TrainConfig) -> Iterator[TrainConfig]:
    """Yield what may be chosen, the fastest first."""
    divisors = [number for number in range(train.batch_size, 0, -1) if train.batch_size % number == 0]
    sizes = divisors if train.micro_batch == AUTO else [train.micro_batch]
    for again in (False, True) if train.gradient_checkpointing == AUTO else (train.gradient_checkpointing,):
        least = min(ENOUGH_TOKENS, train.batch_size * train.max_length)
        # Where memory is short enough for small passes, computing again is the better way to save it.
        is_first = train.gradient_checkpointing == AUTO and train.micro_batch == AUTO and not again
        for micro_batch in sizes:
            if not is_first or micro_batch * train.max_length >= least:
                yield dataclasses.replace(train, micro_batch=micro_batch, gradient_checkpointing=again)


def fits(config: Config, size: ModelSize, machine: Machine) -> bool:
    """Say whether training should fit into the memory of a machine, were it to itself."""
    process = PROCESS_BYTES if machine.type == "cpu" else 0
    return training_memory(size, config, machine).total + process <= SHARE * machine.memory_bytes
