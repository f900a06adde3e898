"""Predicts the seconds of training and answering on a card that is not here (Williams et al. 2009, roofline model).

The work is counted by kind of operator: FLOPs, bytes that kernels move between the GPU's memory and its processors, and
launches. A kind takes the larger of its FLOPs and its bytes by the card's rates. Kernels wait in a queue while the CPU
launches the next ones, so all together take their sum, or the time of all launches where that is longer.

FLOPs and the bytes of weights follow from the model's shapes. What cannot be read off them, the bytes and launches of
unfused norms, rotary embeddings, activations, adapters and the loss, are the coefficients below. They were counted on a
step of our code with fake tensors by `python scripts/benchmark.py roofline --coefficients`, which prints them anew;
`tests/scripts/test_roofline.py` compares them with the code of today.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medqa_finetune.architecture.flops import Flops
from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.schema import Config
from medqa_finetune.methods.base import ModelMethod
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.cards import Card
from medqa_finetune.precision import WIDTH, Precision


class Around(NamedTuple):
    """What surrounds the products of one layer, or of one adapter, in one direction.

    Attributes:
        traffic: Bytes moved per byte of the inputs and outputs of the layer's, or the adapter's, matrices.
        launches: Kernels per layer, or per adapter; products included.
    """

    traffic: float
    launches: float


# Each forward and backward, in half precision. A layer without adapters; one whose weights are kept in fp32 and cast
# for each product, where norms and sums are fp32 too; one adapter; its dropout.
LAYER = (Around(3.0, 39.0), Around(9.9, 69.0))
LAYER_IN_FP32 = (Around(3.8, 49.0), Around(12.2, 105.0))
ADAPTER = (Around(2.7, 5.0), Around(2.5, 9.0))
DROPOUT = (Around(1.1, 1.0), Around(1.1, 1.0))
# An adapter in the form that answers: its scale folded in, added in place, those of one input together.
ANSWERING_ADAPTER = Around(1.0, 11 / 7)
# What a layer adds where no flash kernel attends: examples of a pack are padded in groups of similar lengths, six of
# them for sixteen consultations, and keys and values are copied for every head.
PADDED = (Around(0.55, 28.0), Around(1.9, 70.0))
# In fp32 no flash kernel attends, so that more is moved per byte than these say: times this.
FP32_SHARE = 1.5
# Bytes per weight that is cast for a product: forward, and its gradient backward.
CAST = (6.0, 6.0)
# Bytes per logit of the loss, which is computed forward, again, and backward.
LOSS_BYTES = 60.0
# Bytes per trained weight and step: clipping the gradient, AdamW with fp32 averages, zeroing; and per pass, adding up.
STEP_BYTES, PASS_BYTES = 44.0, 12.0
# Launches of a token in decoding that do not belong to a layer.
DECODING_LAUNCHES = 30.0
# Kernels that dequantize a 4-bit matrix with double quantization: the scales, their offset, the weights, a cast.
DEQUANTIZING_LAUNCHES = 4.0
# Up to so many rows, about, one kernel multiplies by a 4-bit matrix (bitsandbytes, backends/cuda/ops.py).
FOUR_BIT_ROWS = 32
# They look up each weight and reach less of the memory's rate than a copy. Ours.
DEQUANTIZING_SHARE = 0.5
# Kinds of work, as they are shown.
PRODUCTS, MEMORY, DEQUANTIZATION, LOSS, OPTIMIZER, CACHE, LAUNCHES = (
    "products", "elementwise", "dequantization", "loss", "optimizer", "cache", "launches"
)  # fmt: skip


@dataclass(frozen=True)
class Operations:
    """Work of one kind of operators; `kind` is one of the names above."""

    kind: str
    flops: float = 0.0
    bytes: float = 0.0
    launches: float = 0.0


@dataclass(frozen=True)
class Passes:
    """Work that is divided into forward passes.

    Attributes:
        tokens: Tokens of all passes, without padding.
        answer_tokens: Tokens whose logits are computed.
        squared_lengths: Sum of the squared lengths of the examples.
        passes: Number of forward passes.
        steps: Number of optimizer steps; 0 where nothing is trained.
        flash: Whether the card has flash attention in torch.
    """

    tokens: float
    answer_tokens: float
    squared_lengths: float
    passes: float
    steps: float = 0.0
    flash: bool = True


@dataclass(frozen=True)
class Prediction:
    """Seconds on a card.

    Attributes:
        seconds: Of everything.
        by_kind: Seconds of the kernels of each kind.
        launching: Seconds that all launches take.
        limit: What decides: `products`, `memory` or `launches`.
    """

    seconds: float
    by_kind: dict[str, float]
    launching: float
    limit: str


def predict(card: Card, operations: Iterable[Operations], precision: str) -> Prediction:
    """Return the seconds that operations take on a card."""
    by_kind: dict[str, float] = {}
    bound = {PRODUCTS: 0.0, "memory": 0.0}
    launching = 0.0
    for each in by_kinds(operations):
        rate = card.bytes_per_second * (DEQUANTIZING_SHARE if each.kind == DEQUANTIZATION else 1.0)
        computing, moving = each.flops / card.product_flops(precision), each.bytes / rate
        by_kind[each.kind] = max(computing, moving)
        bound[PRODUCTS if computing > moving else "memory"] += max(computing, moving)
        launching += each.launches * card.launch_seconds
    kernels = sum(by_kind.values())
    limit = LAUNCHES if launching > kernels else max(bound, key=lambda name: bound[name])
    return Prediction(max(kernels, launching), by_kind, launching, limit)


def by_kinds(operations: Iterable[Operations]) -> list[Operations]:
    """Add up operations of the same kind."""
    found: dict[str, Operations] = {}
    for each in operations:
        before = found.get(each.kind, Operations(each.kind))
        found[each.kind] = Operations(
            each.kind, before.flops + each.flops, before.bytes + each.bytes, before.launches + each.launches
        )
    return list(found.values())


def training_operations(size: ModelSize, config: Config, precision: Precision, work: Passes) -> list[Operations]:
    """Return the work of training; with `train.gradient_checkpointing` the layers are computed forward twice."""
    method = model_method(config.method)
    again = bool(config.train.gradient_checkpointing)
    flops = flops_of(method.training_flops(size), work)
    if again:
        flops += flops_of(method.forward_flops(size), work) - work.answer_tokens * 2 * size.vocabulary * size.hidden
    # The loss computes its logits twice as well.
    flops += work.answer_tokens * 2 * size.vocabulary * size.hidden
    trained = method.trainable_parameters(size)
    directions = (2 if again else 1, 1)
    return [
        *_passes_of_layers(size, method, precision, work, directions),
        Operations(PRODUCTS, flops),
        Operations(LOSS, 0.0, work.answer_tokens * size.vocabulary * LOSS_BYTES, 40 * work.passes),
        Operations(OPTIMIZER, 0.0, trained * (work.steps * STEP_BYTES + work.passes * PASS_BYTES), 60 * work.steps),
        *_casts(size, method, precision, work.passes, directions),
    ]


def forward_operations(
    size: ModelSize, config: Config, precision: Precision, work: Passes, *, answering: bool = False
) -> list[Operations]:
    """Return the work of forward passes alone: validation, and by a model that answers, prompts and likelihoods."""
    method = model_method(config.method)
    return [
        *_passes_of_layers(size, method, precision, work, (1, 0), answering=answering),
        Operations(PRODUCTS, flops_of(method.forward_flops(size), work)),
        Operations(LOSS, 0.0, work.answer_tokens * size.vocabulary * LOSS_BYTES / 2, 20 * work.passes),
        *([] if answering else _casts(size, method, precision, work.passes, (1, 0))),
    ]


def decoding_operations(
    size: ModelSize, config: Config, precision: Precision, *, steps: float, tokens: float, attended: float
) -> list[Operations]:
    """Return the work of decoding: in each step every weight and the cache are read, and all kernels launched.

    Args:
        size: Size of the model.
        config: Settings of the cell.
        precision: Precision of the products.
        steps: Steps of all batches.
        tokens: Tokens of all predictions.
        attended: Sum over all these tokens of the positions that each attends to.
    """
    method, width = model_method(config.method), WIDTH[precision]
    forward = method.forward_flops(size)
    work = Passes(tokens, tokens, 0, steps)
    cached = attended * 2 * sum(size.key_widths) * width
    return [
        *_passes_of_layers(size, method, precision, work, (1, 0), answering=True),
        Operations(
            PRODUCTS,
            tokens * (forward.per_token + forward.per_answer_token),
            steps * size.vocabulary * size.hidden * width,
        ),
        Operations(CACHE, attended * forward.per_attended, cached, DECODING_LAUNCHES * steps),
        Operations(LOSS, 0.0, tokens * size.vocabulary * width * 4),
    ]


def flops_of(cost: Flops, work: Passes) -> float:
    """Return the FLOPs of passes under a cost model."""
    return float(cost.of(round(work.tokens), round(work.answer_tokens), round(work.squared_lengths)))


def _passes_of_layers(
    size: ModelSize,
    method: ModelMethod,
    precision: Precision,
    work: Passes,
    directions: Sequence[int],
    *,
    answering: bool = False,
) -> list[Operations]:
    """Return the traffic and launches of all layers, `directions` times forward and backward."""
    width, adapted = WIDTH[precision], method.adapted(size)
    widths = sum(size.layer_widths)
    adapter_widths = sum(rows + columns for rows, columns in adapted.values())
    layers = LAYER if answering or method.base_precision(precision) == precision else LAYER_IN_FP32
    adapters = (ANSWERING_ADAPTER, ANSWERING_ADAPTER) if answering else ADAPTER
    drops = 1 if work.steps and method.settings.dropout else 0
    traffic = launches = 0.0
    for place, times in enumerate(directions):
        layer, adapter, dropout = layers[place], adapters[place], DROPOUT[place]
        padded = Around(0.0, 0.0) if work.flash or answering else PADDED[place]
        traffic += times * (layer.traffic + padded.traffic) * widths
        traffic += times * (adapter.traffic + drops * dropout.traffic) * adapter_widths
        launches += times * (layer.launches + padded.launches) * size.layers
        launches += times * (adapter.launches + drops * dropout.launches) * len(adapted)
    traffic *= width * (FP32_SHARE if precision == "fp32" else 1)
    passes = sum(directions)
    weights = (size.linear_weights + size.expert_weights) * width
    read = passes * (work.passes * weights + work.tokens * widths * width)
    found = [
        Operations(PRODUCTS, 0.0, read),
        Operations(MEMORY, 0.0, work.tokens * traffic, work.passes * launches),
    ]
    packed = method.quantized_bytes(size)
    if packed and answering and work.tokens / work.passes <= FOUR_BIT_ROWS:
        found[0] = Operations(PRODUCTS, 0.0, read - passes * work.passes * (size.linear_weights * width - packed))
    elif packed:
        moved = packed + size.linear_weights * width
        launched = DEQUANTIZING_LAUNCHES * len(size.linear)
        found.append(Operations(DEQUANTIZATION, 0.0, passes * work.passes * moved, passes * work.passes * launched))
    return found


def _casts(
    size: ModelSize, method: ModelMethod, precision: Precision, passes: float, directions: Sequence[int]
) -> list[Operations]:
    """Return the casts of weights that are kept in another precision than that of the products."""
    if method.base_precision(precision) == precision:
        return []
    weights = size.linear_weights + size.expert_weights
    moved = sum(times * each for times, each in zip(directions, CAST, strict=True)) * weights
    return [Operations(MEMORY, 0.0, passes * moved)]
