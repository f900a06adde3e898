"""Estimates the memory and disk space of a run before anything is loaded.

Memory is estimated for the worst case: a forward pass of `train.micro_batch` times `train.max_length` tokens, all of
them answer tokens.
"""

import math
from dataclasses import astuple, dataclass, replace
from typing import Literal

from medqa_finetune.architecture.size import ModelSize, layer_number
from medqa_finetune.config.schema import NOT_SHARDED, Config, MethodConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.shared.targets import block_weights
from medqa_finetune.precision import WIDTH, Precision

FP32 = WIDTH["fp32"]
# Moving averages that an optimizer keeps per weight; two (Adam) for others.
AVERAGES = {"sgd": 0, "adafactor": 0, "adagrad": 1, "rmsprop": 1, "lion": 1, "ademamix": 3}
# torch's own optimizers that on CUDA compute with all weights at once, and so make as many temporary fp32 numbers.
IN_LISTS = {"adamw_torch", "sgd", "adagrad", "rmsprop"}
# Bytes per average; 8-bit ones have an fp32 scale per 256 (bitsandbytes).
AVERAGE_BYTES, AVERAGE_BYTES_8BIT = 4.0, 1 + 4 / 256
# Activations kept for backward, as a multiple of the inputs and outputs of a layer's linear layers, by bytes per
# number. Measured with torch's saved-tensor hooks on Qwen2 and Llama layers, with the most demanding adapters (dropout,
# all linear layers): 2.18 to 2.23 under bf16 autocast, 1.68 in fp32. Norms and dropout masks are fp32 under autocast
# too.
KEPT_FOR_BACKWARD = {2: 2.25, 4: 1.75}
# On CUDA in half precision, counted with fake tensors (tests/model/test_cuda_path.py): dropout keeps one byte a number
# there, and adapters take their input as it is. The backward pass of a layer needs more than what is kept.
KEPT_ON_CUDA, BACKWARD_ON_CUDA = 1.56, 0.69
# fp32 numbers alive at once per logit: its log-probability, the gradient of that, and the gradient of the logit.
LOGIT_BYTES = 3 * FP32
# fp32 logits held at once, however many tokens a forward pass holds. With a vocabulary of 152k these are 441 positions,
# enough to keep a GPU busy.
LOGIT_BYTES_AT_ONCE = 2**28
# Memory of CUDA and its libraries before the first tensor.
CONTEXT_BYTES = 2**29
# Memory of a CPU process in addition to tensors: Python, torch and other libraries.
PROCESS_BYTES = 600 * 2**20
# The newest two and the best (training/checkpoints.py); one that is being written is not counted.
CHECKPOINTS_KEPT = 3
# Upper bound of the average UTF-8 bytes per token of Chinese text.
BYTES_PER_TOKEN = 8
# Log, curves, events, record.
SMALL_FILES_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Machine:
    """The device that a run computes on.

    Attributes:
        type: `cuda` or `cpu`.
        name: Device name for display.
        memory_bytes: Memory of the GPU (the smallest if there are several), or of the whole machine without one.
        precision: Precision that `precision=auto` resolves to.
        processes: Number of processes that train one cell together, each with such a device and as much memory.
    """

    type: Literal["cuda", "cpu"]
    name: str
    memory_bytes: int
    precision: Precision = "fp32"
    processes: int = 1


@dataclass(frozen=True)
class Memory:
    """Peak memory of training in bytes, by purpose."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    context: int

    @property
    def total(self) -> int:
        """Sum over all purposes, in bytes."""
        return sum(astuple(self))


def optimizer_bytes_per_weight(name: str) -> float:
    """Return the bytes of state that a transformers optimizer keeps per trained weight (`adamw_torch`: 8)."""
    averages = next((number for family, number in AVERAGES.items() if family in name), 2)
    return averages * (AVERAGE_BYTES_8BIT if "8bit" in name else AVERAGE_BYTES)


def checkpoint_bytes(size: ModelSize, settings: MethodConfig, *, cuda: bool) -> int:
    """Return the size of one checkpoint in bytes: trained weights and optimizer state."""
    optimizer = settings.optimizer if cuda else settings.optimizer_without_cuda
    method = model_method(settings)
    state = method.trainable_parameters(size) * optimizer_bytes_per_weight(optimizer)
    return round(method.saved_bytes(size) + state)


def run_bytes(size: ModelSize, config: Config, *, cuda: bool) -> int:
    """Return the maximum disk space of a finished run in bytes, without prepared data."""
    questions = min(config.test_size, config.evaluate.max_samples or config.test_size)
    predictions = questions * (config.train.max_length + config.evaluate.max_new_tokens) * BYTES_PER_TOKEN
    method = model_method(config.method)
    if not method.trains_weights:
        return predictions + SMALL_FILES_BYTES
    checkpoints = CHECKPOINTS_KEPT * checkpoint_bytes(size, config.method, cuda=cuda)
    return checkpoints + method.saved_bytes(size) + size.other_bytes + predictions + SMALL_FILES_BYTES


def training_memory(size: ModelSize, config: Config, machine: Machine, tokens: int | None = None) -> Memory:
    """Return the peak memory of training; of several processes, that of each.

    Gradient checkpointing keeps the input of every layer, and all activations of one layer at a time (Chen et al. 2016,
    arXiv:1604.06174).

    Args:
        size: Size of the model.
        config: Configuration of the run.
        machine: Device of the run, and number of processes.
        tokens: Tokens of the largest forward pass; None for the worst case.
    """
    cuda, method, train = machine.type == "cuda", model_method(config.method), config.train
    width = product_bytes(config, machine)
    trained = method.trainable_parameters(size)
    optimizer = config.method.optimizer if cuda else config.method.optimizer_without_cuda
    most = min(train.micro_batch, math.ceil(train.batch_size / machine.processes))
    tokens = most * train.max_length if tokens is None else tokens
    # What is kept of all layers that are kept, and what the backward pass of one layer takes in addition.
    unit, half_on_cuda = tokens * width, cuda and width < FP32
    kept, backward = (KEPT_ON_CUDA, BACKWARD_ON_CUDA) if half_on_cuda else (KEPT_FOR_BACKWARD[width], 0.0)
    largest = max(size.layer_widths)
    inputs = tokens * size.hidden * size.layers * width
    held = inputs if train.gradient_checkpointing else unit * kept * sum(size.layer_widths)
    # The last layer's backward pass begins when the logits are gone; the larger of both takes memory.
    layer = unit * ((kept if train.gradient_checkpointing else 0) + backward) * largest
    if method.quantized_bytes(size):  # a matrix is dequantized for its product
        layer += width * max(rows * columns for rows, columns in size.linear.values())
    logits = min(tokens * size.vocabulary, LOGIT_BYTES_AT_ONCE // FP32) * LOGIT_BYTES
    weights = method.weight_bytes(size, width) + _more_in_fp32(size, config, width)
    averages = trained * optimizer_bytes_per_weight(optimizer)
    if cuda and optimizer in IN_LISTS:
        # When the optimizer takes its step, passes are over, and with them the half-precision copies of fp32 weights.
        copies = max(0, weights - method.weight_bytes(size, FP32))
        averages += max(0.0, trained * FP32 - held - max(layer, logits) - copies)
    found = Memory(
        weights=weights,
        gradients=trained * FP32,
        optimizer=round(averages),
        activations=round(held + layer),
        logits=round(max(0, logits - layer)),
        context=CONTEXT_BYTES if cuda else 0,
    )
    if machine.processes == 1:
        return found
    if train.sharding == NOT_SHARDED:
        # Gradients are exchanged through buffers of the same size.
        return replace(found, gradients=2 * found.gradients)
    return _of_a_share(found, size, machine.processes)


def _of_a_share(whole: Memory, size: ModelSize, processes: int) -> Memory:
    """Return the memory of one of several processes that divide the weights of full fine-tuning.

    Gathered are the weights outside of the layers, the layer that computes and the one after it; the gradients of the
    first two are held until they are divided, those of a layer twice. Copies in half precision are not divided, since
    the backward pass needs them. While the model is loaded, each process has all of its weights.
    """
    all_weights = size.parameters * FP32
    layers = [0] * size.layers
    for name, (rows, columns) in size.matrices.items():
        if (layer := layer_number(name)) is not None:
            layers[layer] += rows * columns * FP32
    outside, largest = all_weights - sum(layers), max(layers)
    copies = whole.weights - all_weights
    found = replace(
        whole,
        weights=math.ceil(all_weights / processes) + copies + outside + 2 * largest,
        gradients=math.ceil(whole.gradients / processes) + outside + 2 * largest,
        optimizer=math.ceil(whole.optimizer / processes),
    )
    loading = all_weights + whole.context - found.total
    return replace(found, weights=found.weights + max(0, loading))


def _more_in_fp32(size: ModelSize, config: Config, width: int) -> int:
    """Return what named blocks take more because they are held in fp32; quantized weights stay as they are."""
    method = model_method(config.method)
    if width >= FP32 or method.quantized_bytes(size) or method.base_precision("fp16") == "fp32":
        return 0
    return block_weights(size, config.fp32_blocks) * (FP32 - width)


def answering_memory(size: ModelSize, config: Config, machine: Machine) -> Memory:
    """Return the peak memory of generation: weights, and the key-value cache of a full batch."""
    width, evaluate = product_bytes(config, machine), config.evaluate
    longest = config.train.max_length + evaluate.max_new_tokens
    tokens = max(longest, min(evaluate.batch_tokens, evaluate.batch_size * longest))
    return Memory(
        weights=model_method(config.method).weight_bytes(size, width) + _more_in_fp32(size, config, width),
        gradients=0,
        optimizer=0,
        activations=tokens * 2 * sum(size.key_widths) * width,
        logits=evaluate.batch_size * size.vocabulary * LOGIT_BYTES,
        context=CONTEXT_BYTES if machine.type == "cuda" else 0,
    )


def product_bytes(config: Config, machine: Machine) -> int:
    """Return the bytes per number in the run's compute precision."""
    return FP32 if config.precision == "fp32" or (config.precision == "auto" and machine.type == "cpu") else 2
