"""Resolves `auto`: in training the micro-batch and gradient checkpointing, in the evaluation the size of a batch."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import Config, EvaluateConfig, TrainConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.estimate import CONTEXT_BYTES, FP32, PROCESS_BYTES, Machine, product_bytes, training_memory

# Usable share of memory; the rest covers fragmentation and other users of the device.
SHARE = 0.9
# Tokens per forward pass from which larger ones are hardly faster: a GPU hides launching kernels behind them, a CPU's
# cores have enough to do. If so many fit without gradient checkpointing, its additional forward pass, a quarter to a
# third of the time, would win nothing.
ENOUGH_TOKENS = {"cuda": 2048, "cpu": 512}
# Elements of the query of a pack, its examples rounded up to so many tokens; see `varlen_fits`.
VARLEN_ELEMENTS, VARLEN_ROUNDING = 2**31, 128

# Tokens of a batch of questions on a CPU, whose cores a larger one does not use better, and where nothing is known of a
# model's size.
USUAL_BATCH_TOKENS = 16384
# fp32 numbers per logit in the evaluation: the logit itself and its conversion.
ANSWER_LOGIT_BYTES = 2 * FP32


def is_auto(train: TrainConfig) -> bool:
    """Return whether `micro_batch` or `gradient_checkpointing` is `auto`."""
    return AUTO in (train.micro_batch, train.gradient_checkpointing)


def resolve_auto(config: Config, size: ModelSize | None, machine: Machine) -> TrainConfig:
    """Return the training settings with `auto` replaced by the fastest candidate estimated to fit.

    Gradient checkpointing is off if a pass of `ENOUGH_TOKENS`, or a whole optimizer step if that is less, fits without
    it. The micro-batch is the largest divisor of the batch that fits. If nothing fits, or the size of the model is
    unknown, the candidate that needs least memory is chosen.
    """
    return resolve_together([config], size, machine)


def resolve_together(configs: Sequence[Config], size: ModelSize | None, machine: Machine) -> TrainConfig:
    """Return the training settings of the first cell with `auto` replaced by the fastest candidate that fits for all.

    Args:
        configs: Cells that are compared: they differ in method and data. At least one.
        size: Size of their model; None where it is unknown.
        machine: The device.
    """
    return fitting_candidates(configs, size, machine)[0]


def fitting_candidates(configs: Sequence[Config], size: ModelSize | None, machine: Machine) -> list[TrainConfig]:
    """Return the candidates that are estimated to fit for all cells, the fastest first.

    A cell for which none fits has no say. At least one is returned: the one that needs least memory.
    """
    choices = list(candidates(configs[0].train, machine.type))
    least = choices[-1]
    if size is None:
        return [least]
    able = [config for config in configs if fits(_with(config, least), size, machine)]
    found = [choice for choice in choices if all(fits(_with(config, choice), size, machine) for config in able)]
    return found if able else [least]


def _with(config: Config, train: TrainConfig) -> Config:
    return dataclasses.replace(config, train=train)


def most_demanding(configs: Sequence[Config], choice: TrainConfig, size: ModelSize, machine: Machine) -> int:
    """Return the index of the cell that needs most memory with these settings, of those that fit if there are any."""
    asked = [_with(config, choice) for config in configs]
    able = [place for place, config in enumerate(asked) if fits(config, size, machine)] or range(len(asked))
    return max(able, key=lambda place: training_memory(size, asked[place], machine).total)


def candidates(train: TrainConfig, device: Literal["cuda", "cpu"] = "cuda") -> Iterator[TrainConfig]:
    """Yield the candidates for `auto` on a device, the fastest first."""
    divisors = [number for number in range(train.batch_size, 0, -1) if train.batch_size % number == 0]
    sizes = divisors if train.micro_batch == AUTO else [train.micro_batch]
    for again in (False, True) if train.gradient_checkpointing == AUTO else (train.gradient_checkpointing,):
        least = min(ENOUGH_TOKENS[device], train.batch_size * train.max_length)
        # If only small passes fit, gradient checkpointing is the faster way to save memory.
        is_first = train.gradient_checkpointing == AUTO and train.micro_batch == AUTO and not again
        for micro_batch in sizes:
            if not is_first or micro_batch * train.max_length >= least:
                yield dataclasses.replace(train, micro_batch=micro_batch, gradient_checkpointing=again)


def varlen_fits(train: TrainConfig, size: ModelSize) -> bool:
    """Return whether flash attention's variable-length backward pass addresses every element of the largest pack.

    It rounds each example up to 128 tokens and counts in 32 bits; beyond, it was seen to write outside its memory.
    """
    tokens = train.micro_batch * train.max_length + VARLEN_ROUNDING * train.batch_size
    return bool(tokens * max(size.attention_widths) < VARLEN_ELEMENTS)


def fits(config: Config, size: ModelSize, machine: Machine) -> bool:
    """Return whether training is estimated to fit into the memory of a machine that runs nothing else."""
    if machine.type == "cuda" and config.train.packing and not varlen_fits(config.train, size):
        return False
    process = PROCESS_BYTES if machine.type == "cpu" else 0
    return training_memory(size, config, machine).total + process <= SHARE * machine.memory_bytes


def batch_tokens_in(free_bytes: float, size: ModelSize, width: int, batch_size: int) -> int:
    """Return the tokens of a batch of questions, padding and predictions included, that fit into free memory; ≥ 1.

    A token takes its keys and values in every layer, and while prompts are read, the inputs and outputs of one layer.

    Args:
        free_bytes: Memory in bytes that is free once the model is loaded.
        size: Size of the model.
        width: Bytes per number.
        batch_size: Most questions per batch, each with the logits of one token.
    """
    token = 2 * sum(size.key_widths) * width + max(size.layer_widths) * width
    left = SHARE * free_bytes - batch_size * size.vocabulary * ANSWER_LOGIT_BYTES
    return max(1, int(left / token))


def resolve_answering(config: Config, size: ModelSize | None, machine: Machine) -> EvaluateConfig:
    """Return the settings of the evaluation with `batch_tokens=auto` replaced by what a machine's memory allows."""
    evaluate = config.evaluate
    if evaluate.batch_tokens != AUTO:
        return evaluate
    tokens = USUAL_BATCH_TOKENS
    if size is not None and machine.type == "cuda":
        width = product_bytes(config, machine)
        free = machine.memory_bytes - CONTEXT_BYTES - model_method(config.method).weight_bytes(size, width)
        tokens = batch_tokens_in(free, size, width, evaluate.batch_size)
    return dataclasses.replace(evaluate, batch_tokens=tokens)
