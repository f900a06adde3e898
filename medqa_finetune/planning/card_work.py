"""Counts the work of a cell by kind of operator, for a card that is not here."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple, cast

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.schema import NOT_SHARDED, Config, TrainConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.shared.targets import block_weights
from medqa_finetune.model.cards import Card
from medqa_finetune.model.roofline import (
    OPTIMIZER,
    Operations,
    Passes,
    decoding_operations,
    flops_of,
    forward_operations,
    training_operations,
)
from medqa_finetune.planning.cost_model import CellWorkload
from medqa_finetune.planning.token_counts import TokenCounts
from medqa_finetune.precision import Precision

# The kind of work that only `fp32_blocks` makes.
FP32_BLOCKS = "fp32_blocks"


class PlannedCard(NamedTuple):
    """A card that is not here, and the number of processes that train a cell together, each on one of them."""

    card: Card
    processes: int = 1


def with_operations(
    found: CellWorkload, size: ModelSize, config: Config, planned: PlannedCard, samples: Sequence[TokenCounts]
) -> CellWorkload:
    """Return a cell's work with its operations; of training on several cards, those of each.

    Args:
        found: The work without them.
        size: Size of the model.
        config: Settings of the cell, `auto` resolved.
        planned: The card, and the number of processes.
        samples: Token counts of training, validation and test set.
    """
    card, processes = planned
    precision = card.precisions[0] if config.precision == "auto" else cast(Precision, config.precision)
    training: list[Operations] = []
    validation: list[Operations] = []
    flops = 0.0
    if found.steps:
        passes = dataclasses.replace(training_passes(found, config, samples[0], processes), flash=card.has_flash)
        training = training_operations(size, config, precision, passes)
        if config.train.sharding != NOT_SHARDED:
            training = [_divided(each, processes) if each.kind == OPTIMIZER else each for each in training]
        training += _in_fp32(size, config, card, precision, tokens=passes.tokens * _products(config))
        validated = dataclasses.replace(_validation_passes(found, config, samples[1], processes), flash=card.has_flash)
        validation = forward_operations(size, config, precision, validated)
        validation += _in_fp32(size, config, card, precision, tokens=validated.tokens)
        flops = flops_of(model_method(config.method).training_flops(size), passes)
    answering = _answering(found, size, config, precision, samples[2])
    answering += _in_fp32(size, config, card, precision, tokens=2 * found.prompt_tokens + 2 * found.answer_tokens)
    return dataclasses.replace(found, training=training, validation=validation, answering=answering, model_flops=flops)


def _divided(operations: Operations, shares: int) -> Operations:
    return dataclasses.replace(operations, bytes=operations.bytes / shares)


def _products(config: Config) -> int:
    """Return how often training multiplies by a matrix: forward, again, for its input's gradient, and for its own."""
    return (
        2 + bool(config.train.gradient_checkpointing) + (model_method(config.method).base_precision("fp16") == "fp32")
    )


def _in_fp32(size: ModelSize, config: Config, card: Card, precision: Precision, *, tokens: float) -> list[Operations]:
    """Return what blocks named by `fp32_blocks` take longer: their products by the rate of fp32."""
    weights = block_weights(size, config.fp32_blocks)
    if not weights or precision == "fp32":
        return []
    slower = card.product_flops(precision) / card.product_flops("fp32") - 1
    return [Operations(FP32_BLOCKS, 2 * weights * tokens * slower)]


def training_passes(found: CellWorkload, config: Config, sample: TokenCounts, processes: int = 1) -> Passes:
    """Return the work of all training steps, of each process; a step has as many packs as its mean tokens fill."""
    train = config.train
    each = passes_of_a_step(train, found.train_tokens / found.steps, processes)
    return _passes(found.train_tokens / processes, sample, found.steps * each, found.steps)


def passes_of_a_step(train: TrainConfig, tokens: float, processes: int = 1) -> int:
    """Return the forward passes of each process in a step of so many tokens, ≥ 1."""
    full, share = int(train.micro_batch), math.ceil(train.batch_size / processes)
    return max(1, math.ceil(tokens / processes / (full * train.max_length) if train.packing else share / full))


def _validation_passes(found: CellWorkload, config: Config, sample: TokenCounts, processes: int) -> Passes:
    tokens, full = found.validation_tokens / processes, config.train.micro_batch * config.train.max_length
    return _passes(tokens, sample, math.ceil(tokens / full))


def _passes(tokens: float, sample: TokenCounts, passes: float, steps: float = 0) -> Passes:
    """Scale a sample to a number of tokens."""
    times = tokens / max(1, sum(sample.lengths))
    squares = sum(length * length for length in sample.lengths)
    return Passes(tokens, times * sum(sample.labelled), times * squares, passes, steps)


def _answering(
    found: CellWorkload, size: ModelSize, config: Config, precision: Precision, sample: TokenCounts
) -> list[Operations]:
    if not found.questions or not sample.lengths:
        return []
    batch = config.evaluate.batch_tokens
    times = found.questions / len(sample.lengths)
    tokens = times * sum(sample.lengths)
    answers = times * sum(sample.answers)
    squares = times * sum(length * length for length in sample.lengths)
    # The likelihood of the references, or of running text.
    whole = Passes(tokens, answers if found.decode_steps else tokens, squares, math.ceil(tokens / batch))
    read = forward_operations(size, config, precision, whole, answering=True)
    if not found.decode_steps:
        return read
    prompts = Passes(found.prompt_tokens, found.questions, squares, math.ceil(found.prompt_tokens / batch))
    attended = found.answer_tokens * (found.prompt_tokens + found.answer_tokens / 2) / found.questions
    decoded = decoding_operations(
        size, config, precision, steps=found.decode_steps, tokens=found.answer_tokens, attended=attended
    )
    read += forward_operations(size, config, precision, prompts, answering=True)
    return [*read, *decoded]
