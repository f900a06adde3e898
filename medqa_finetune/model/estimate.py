"""How much memory and disk a run takes, estimated before anything is loaded.

Memory is estimated for the worst case: a forward pass holds `train.micro_batch` times `train.max_length` tokens, all of
them of answers.
"""

from dataclasses import astuple, dataclass
from typing import Literal

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.precision import WIDTH, Precision

FP32 = WIDTH["fp32"]
# Averages that an optimizer keeps per weight; two (Adam) where nothing is said here.
AVERAGES = {"sgd": 0, "adafactor": 0, "adagrad": 1, "rmsprop": 1, "lion": 1, "ademamix": 3}
# 8-bit averages have an fp32 scale per 256 (bitsandbytes).
AVERAGE_BYTES, AVERAGE_BYTES_8BIT = 4.0, 1 + 4 / 256
# What backward needs of a layer, as a multiple of the inputs and outputs of its linear layers, by bytes per number.
# Counted with torch's saved-tensor hooks on Qwen2 and Llama layers, adapters with dropout on all linear layers (nothing
# takes more): 2.18 to 2.23 under bf16 autocast, 1.68 in fp32. Norms and dropout masks are fp32 under autocast as well.
KEPT_FOR_BACKWARD = {2: 2.25, 4: 1.75}
# fp32 numbers alive at once per logit: its log-probability, the gradient of that, and the gradient of the logit.
LOGIT_BYTES = 3 * FP32
# fp32 logits held at once, however many tokens a forward pass holds. With a vocabulary of 152k these are 441 positions,
# enough to keep a GPU busy.
LOGIT_BYTES_AT_ONCE = 2**28
# What CUDA and its libraries take before the first tensor.
CONTEXT_BYTES = 2**29
# What a process that computes on the CPU holds in addition to tensors: Python, torch and the libraries around them.
PROCESS_BYTES = 600 * 2**20
# Two newest and the best one; another is being written (training/checkpoints.py).
CHECKPOINTS_KEPT = 3
# UTF-8 bytes that a token of Chinese text is at most, on average; a generous bound for predictions.
BYTES_PER_TOKEN = 8
# Log, curves, events, record.
SMALL_FILES_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Machine:
    """Where a run would compute.

    Attributes:
        type: `cuda` or `cpu`.
        name: For people.
        memory_bytes: Of the card, the smallest where there are several; of the whole machine without one.
        precision: What `precision=auto` stands for here.
    """

    type: Literal["cuda", "cpu"]
    name: str
    memory_bytes: int
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Memory:
    """Bytes that training needs at its peak, by what for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    context: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(astuple(self))


def optimizer_bytes_per_weight(name: str) -> float:
    """Return the bytes of state that a transformers optimizer keeps per trained weight (`adamw_torch`: 8)."""
    averages = next((number for family, number in AVERAGES.items() if family in name), 2)
    return averages * (AVERAGE_BYTES_8BIT if "8bit" in name else AVERAGE_BYTES)


def checkpoint_bytes(size: ModelSize, settings: MethodConfig, *, cuda: bool) -> int:
    """Return the size of one checkpoint: the trained weights, and the optimizer's state."""
    optimizer = settings.optimizer if cuda else settings.optimizer_without_cuda
    method = model_method(settings)
    state = method.trainable_parameters(size) * optimizer_bytes_per_weight(optimizer)
    return round(method.saved_bytes(size) + state)


def run_bytes(size: ModelSize, config: Config, *, cuda: bool) -> int:
    """Return what a finished run takes on disk at most, prepared data left out."""
    questions = min(config.test_size, config.evaluate.max_samples or config.test_size)
    predictions = questions * (config.train.max_length + config.evaluate.max_new_tokens) * BYTES_PER_TOKEN
    method = model_method(config.method)
    if not method.trains_weights:
        return predictions + SMALL_FILES_BYTES
    checkpoints = CHECKPOINTS_KEPT * checkpoint_bytes(size, config.method, cuda=cuda)
    return checkpoints + method.saved_bytes(size) + size.other_bytes + predictions + SMALL_FILES_BYTES


def training_memory(size: ModelSize, config: Config, machine: Machine, tokens: int | None = None) -> Memory:
    """Return what training takes at its peak.

    Gradient checkpointing keeps the input of every layer, and all of one layer at a time (Chen et al. 2016,
    arXiv:1604.06174).

    Args:
        size: Of the model.
        config: Of the run.
        machine: Where it runs.
        tokens: What the largest forward pass holds; None for as much as it may.
    """
    cuda, method, train = machine.type == "cuda", model_method(config.method), config.train
    width = product_bytes(config, machine)
    trained = method.trainable_parameters(size)
    optimizer = config.method.optimizer if cuda else config.method.optimizer_without_cuda
    tokens = train.micro_batch * train.max_length if tokens is None else tokens
    kept = tokens * width * KEPT_FOR_BACKWARD[width]
    inputs = tokens * size.hidden * size.layers * width
    logits = min(tokens * size.vocabulary, LOGIT_BYTES_AT_ONCE // FP32)
    return Memory(
        weights=method.weight_bytes(size, width),
        gradients=trained * FP32,
        optimizer=round(trained * optimizer_bytes_per_weight(optimizer)),
        activations=round(
            inputs + kept * size.largest_layer
            if train.gradient_checkpointing
            else kept * sum(map(sum, size.linear.values()))
        ),
        logits=logits * LOGIT_BYTES,
        context=CONTEXT_BYTES if cuda else 0,
    )


def answering_memory(size: ModelSize, config: Config, machine: Machine) -> Memory:
    """Return what answering takes at its peak: the weights, and keys and values of the tokens that a batch may hold."""
    width, evaluate = product_bytes(config, machine), config.evaluate
    longest = config.train.max_length + evaluate.max_new_tokens
    tokens = max(longest, min(evaluate.batch_tokens, evaluate.batch_size * longest))
    return Memory(
        weights=model_method(config.method).weight_bytes(size, width),
        gradients=0,
        optimizer=0,
        activations=tokens * 2 * sum(size.key_widths) * width,
        logits=evaluate.batch_size * size.vocabulary * LOGIT_BYTES,
        context=CONTEXT_BYTES if machine.type == "cuda" else 0,
    )


def product_bytes(config: Config, machine: Machine) -> int:
    """Return the bytes of a number in the precision that a run computes in."""
    return FP32 if config.precision == "fp32" or (config.precision == "auto" and machine.type == "cpu") else 2
