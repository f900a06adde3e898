"""How much memory and disk a method takes with a model, reckoned from the model's files, before anything is loaded.

Counts of weights are exact for dense decoder models. Memory is reckoned for the worst case: a forward pass holds
`train.micro_batch` times `train.max_length` tokens, all of them answer.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.model.files import read_config, read_tensors, weight_files
from medqa_finetune.model.targets import layer_number, trainable_parameters

FP32 = 4
# Bits of a quantized weight with its scales. 4 bits and an fp32 scale per 64 weights; with double quantization 8 bits
# per 64 and an fp32 per 64 * 256 (Dettmers et al. 2023, arXiv:2305.14314, section 3). int8 has one fp32 scale per row,
# which is next to nothing (Dettmers et al. 2022, arXiv:2208.07339).
QUANTIZED_BITS = {"nf4": 4 + 32 / 64, "fp4": 4 + 32 / 64, "int8": 8.0}
DOUBLE_QUANTIZED_BITS = 4 + 8 / 64 + 32 / (64 * 256)
# Averages that an optimizer keeps per weight; two (Adam) where nothing is said here.
AVERAGES = {"sgd": 0, "adafactor": 0, "adagrad": 1, "rmsprop": 1, "lion": 1, "ademamix": 3}
# 8-bit averages have an fp32 scale per 256 (bitsandbytes).
AVERAGE_BYTES, AVERAGE_BYTES_8BIT = 4.0, 1 + 4 / 256
# What backward needs of a layer, as a multiple of the inputs and outputs of its linear layers, by bytes per number.
# Counted with torch's saved-tensor hooks on Qwen2 and Llama layers, adapters with dropout on all linear layers (nothing
# is dearer): 2.18 to 2.23 under bf16 autocast, 1.68 in fp32. Norms and dropout masks are fp32 under autocast as well.
KEPT_FOR_BACKWARD = {2: 2.25, 4: 1.75}
# fp32 numbers alive at once per logit: its log-probability, the gradient of that, and the gradient of the logit.
LOGIT_BYTES = 3 * FP32
# fp32 logits held at once, however many tokens a forward pass holds. With a vocabulary of 152k these are 441 positions,
# enough to keep a GPU busy.
LOGIT_BYTES_AT_ONCE = 2**28
# What CUDA and its libraries take before the first tensor.
CONTEXT_BYTES = 2**29
# What a process that computes on the CPU holds beside tensors: Python, torch and the libraries around them.
PROCESS_BYTES = 600 * 2**20
# Position embeddings, in the models that learn them.
POSITIONS = ("wpe", "embed_positions", "position_embeddings")
WEIGHT = ".weight"
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
    precision: str = "fp32"


@dataclass(frozen=True)
class ModelSize:
    """What of a model's size matters here.

    Attributes:
        parameters: Weights, shared ones counted once.
        matrices: (rows, columns) of every matrix, by the name of its module.
        embeddings: Names of those that are no linear layers of the body: token and position embeddings, and the head.
        layers: Number of transformer layers.
        attention_width: Width of all heads of a layer together, of the queries and of what attention puts out, where
            the matrices do not say it.
        vocabulary: Rows of the token embedding.
        hidden: Its columns.
        other_bytes: Size of the files that are no weights, the tokenizer's above all.
    """

    parameters: int
    matrices: dict[str, tuple[int, int]]
    embeddings: frozenset[str]
    layers: int
    attention_width: int
    vocabulary: int
    hidden: int
    other_bytes: int

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """The linear layers of the body: what is quantized, and what `all_linear` adapts."""
        return {name: shape for name, shape in self.matrices.items() if name not in self.embeddings}

    @property
    def attention_widths(self) -> list[int]:
        """Width of all heads together, of the queries and of what attention puts out, layer by layer."""
        return self._rows_by_layer("q_proj", [self.attention_width] * self.layers)

    @property
    def key_widths(self) -> list[int]:
        """Width of the keys of all heads together, or of the values, layer by layer: what a cache keeps of a token."""
        return self._rows_by_layer("k_proj", self.attention_widths)

    def _rows_by_layer(self, ending: str, otherwise: list[int]) -> list[int]:
        found = {layer_number(name): rows for name, (rows, _) in self.matrices.items() if name.endswith(ending)}
        return [found.get(layer, otherwise[layer]) for layer in range(self.layers)]

    @property
    def largest_layer(self) -> int:
        """Inputs and outputs of the linear layers of one transformer layer, of the largest one."""
        widths = [0] * self.layers
        for name, shape in self.linear.items():
            widths[layer_number(name) or 0] += sum(shape)
        return max(widths)

    @property
    def linear_weights(self) -> int:
        """Weights of the linear layers, biases left out."""
        return sum(rows * columns for rows, columns in self.linear.values())


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


def read_size(folder: Path) -> ModelSize | None:
    """Return a model's size as its files give it; None where they do not say it (no token embedding is found).

    Raises:
        ModelError: a file is missing or damaged.
    """
    shapes = {name: tensor.shape for name, tensor in read_tensors(folder).items()}
    weights = {path.name for path in weight_files(folder)}
    return size_of_shapes(shapes, read_config(folder), _bytes_below(folder, weights))


def _bytes_below(folder: Path, left_out: Collection[str] = ()) -> int:
    return sum(p.stat().st_size for p in folder.iterdir() if p.is_file() and p.name not in left_out)


def size_of_shapes(
    shapes: Mapping[str, tuple[int, ...]], settings: dict[str, Any], other_bytes: int
) -> ModelSize | None:
    """Return the size of a model with weights of these shapes; None where there is no token embedding among them.

    Args:
        shapes: Of every weight, by name.
        settings: The content of `config.json`.
        other_bytes: Size of the files that are no weights.
    """
    vocabulary = settings.get("vocab_size", _below(settings, "text_config").get("vocab_size"))
    matrices = {
        name.removesuffix(WEIGHT): (shape[0], shape[1])
        for name, shape in shapes.items()
        if name.endswith(WEIGHT) and len(shape) == 2
    }
    by_token = [name for name, (rows, _) in matrices.items() if rows == vocabulary]
    if not by_token:
        return None
    # Some files hold the head although it shares its weights with the embedding.
    is_copy = settings.get("tie_word_embeddings") is True and len(by_token) > 1
    copied = math.prod(matrices[by_token[-1]]) if is_copy else 0
    numbers = [number for name in matrices if (number := layer_number(name)) is not None]
    return ModelSize(
        parameters=sum(map(math.prod, shapes.values())) - copied,
        matrices=matrices,
        embeddings=frozenset([*by_token, *(name for name in matrices if name.split(".")[-1] in POSITIONS)]),
        layers=max(numbers, default=0) + 1,
        attention_width=_attention_width(settings, matrices[by_token[0]][1]),
        vocabulary=int(vocabulary),
        hidden=matrices[by_token[0]][1],
        other_bytes=other_bytes,
    )


def _attention_width(settings: dict[str, object], hidden: int) -> int:
    """Return heads times their width, where a configuration says that it is not the width of the model."""
    inner = _below(settings, "text_config") or settings
    heads, width = inner.get("num_attention_heads"), inner.get("head_dim")
    return heads * width if isinstance(heads, int) and isinstance(width, int) else hidden


def _below(settings: dict[str, object], key: str) -> dict[str, object]:
    inner = settings.get(key)
    return inner if isinstance(inner, dict) else {}


def optimizer_bytes_per_weight(name: str) -> float:
    """Return the bytes of state that a transformers optimizer keeps per trained weight (`adamw_torch`: 8)."""
    averages = next((number for family, number in AVERAGES.items() if family in name), 2)
    return averages * (AVERAGE_BYTES_8BIT if "8bit" in name else AVERAGE_BYTES)


def checkpoint_bytes(size: ModelSize, method: MethodConfig, *, cuda: bool) -> int:
    """Return the size of one checkpoint: the trained weights in fp32, and the optimizer's state."""
    optimizer = method.optimizer if cuda else method.optimizer_without_cuda
    return round(trainable_parameters(size, method) * (FP32 + optimizer_bytes_per_weight(optimizer)))


def run_bytes(size: ModelSize, config: Config, *, cuda: bool) -> int:
    """Return what a finished run takes on disk at most, prepared data left out."""
    questions = min(config.test_size, config.evaluate.max_samples or config.test_size)
    predictions = questions * (config.train.max_length + config.evaluate.max_new_tokens) * BYTES_PER_TOKEN
    if config.method.trains == "nothing":
        return predictions + SMALL_FILES_BYTES
    adapter = trainable_parameters(size, config.method) * FP32 + size.other_bytes
    return (
        CHECKPOINTS_KEPT * checkpoint_bytes(size, config.method, cuda=cuda) + adapter + predictions + SMALL_FILES_BYTES
    )


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
    cuda, method, train = machine.type == "cuda", config.method, config.train
    width = product_bytes(config, machine)
    trained = trainable_parameters(size, method)
    optimizer = method.optimizer if cuda else method.optimizer_without_cuda
    tokens = train.micro_batch * train.max_length if tokens is None else tokens
    kept = tokens * width * KEPT_FOR_BACKWARD[width]
    inputs = tokens * size.hidden * size.layers * width
    logits = min(tokens * size.vocabulary, LOGIT_BYTES_AT_ONCE // FP32)
    return Memory(
        weights=_weight_bytes(size, method, width) + (trained * FP32 if method.trains == "adapter" else 0),
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
    adapter = trainable_parameters(size, config.method) * FP32 if config.method.trains == "adapter" else 0
    return Memory(
        weights=_weight_bytes(size, config.method, width) + adapter,
        gradients=0,
        optimizer=0,
        activations=tokens * 2 * sum(size.key_widths) * width,
        logits=evaluate.batch_size * size.vocabulary * LOGIT_BYTES,
        context=CONTEXT_BYTES if machine.type == "cuda" else 0,
    )


def product_bytes(config: Config, machine: Machine) -> int:
    """Return the bytes of a number in the precision that a run computes in."""
    return FP32 if config.precision == "fp32" or (config.precision == "auto" and machine.type == "cpu") else 2


def _weight_bytes(size: ModelSize, method: MethodConfig, width: int) -> int:
    """Return how many bytes the base takes: linear layers quantized or not, the rest in the run's precision."""
    if method.trains == "all":
        # fp32, and under autocast a copy of every matrix in half precision.
        return size.parameters * FP32 + (size.linear_weights * width if width < FP32 else 0)
    if method.quantization == "none":
        return size.parameters * width
    doubled = method.double_quantization and method.quantization != "int8"
    bits = DOUBLE_QUANTIZED_BITS if doubled else QUANTIZED_BITS[method.quantization]
    return round(size.linear_weights * bits / 8) + (size.parameters - size.linear_weights) * width
