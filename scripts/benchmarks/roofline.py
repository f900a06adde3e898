"""Predicts a training and a decoding step on a card: operators from fake tensors, seconds from its data sheet.

Qwen2.5-3B in its true widths; one and two layers are walked, and the rest follows from the difference.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from medqa_finetune.architecture.size import ModelSize, size_of_shapes
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.model.cards import CARDS, Card
from medqa_finetune.model.roofline import Operations, Passes, Prediction, flops_of, predict
from scripts.benchmarks.results import heading, keep, markdown
from scripts.fake_cuda.models import LAYERS, VOCABULARY, config_of
from scripts.fake_cuda.walk import CannotLendError, Walked, walk

FEW, MORE = 1, 2
# Tokens of the prompts that are answered.
PROMPT = 300
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"name": "lora", "trains": "adapter", "rank": 16, "dropout": 0.05, "target_modules": "all_linear"},
    "full": {"name": "full", "trains": "all"},
}
METHODS["qlora"] = METHODS["lora"] | {"name": "qlora", "quantization": "nf4", "double_quantization": True}
# Shown by name; all others are added up.
SHOWN = 8
OTHERS = "others"
HEADER = ("operator", "launches", "TFLOP", "GB", "s", "share")


@dataclass(frozen=True)
class Counted:
    """Operators of one step: launches, FLOPs and bytes, by name."""

    operators: dict[str, tuple[float, float, float]]

    @property
    def operations(self) -> list[Operations]:
        """The operators, for the card's rates."""
        return [Operations(name, flops, moved, launches) for name, (launches, flops, moved) in self.operators.items()]


def settings_of(step: str, method: str, card: Card, asked: argparse.Namespace) -> dict[str, Any]:
    """Return what `walk` takes for a step on a card, without the number of layers."""
    return {
        "step": step, "method": METHODS[method], "precision": asked.precision or card.precisions[0],
        "capability": list(card.capability), "checkpointing": not asked.no_gradient_checkpointing,
        "lengths": [asked.length] * asked.examples if step == "training" else [PROMPT] * asked.rows,
    }  # fmt: skip


def count(settings: Sequence[dict[str, Any]], layers: int) -> list[Counted]:
    """Walk through steps with few layers, and extrapolate each to `layers`.

    Raises:
        ConfigError: nothing can be walked on this machine.
    """
    return [_at(few, more, layers) for few, more in _walked(settings)]


def count_one_layer(settings: Sequence[dict[str, Any]]) -> list[Counted]:
    """Return what one layer adds to each step.

    Raises:
        ConfigError: nothing can be walked on this machine.
    """
    found = []
    for few, more in _walked(settings):
        low, high = _at(few, more, FEW).operators, _at(few, more, FEW + 1).operators
        found.append(Counted({name: _difference(high[name], low[name]) for name in low}))
    return found


def _difference(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2]


def _walked(settings: Sequence[dict[str, Any]]) -> list[tuple[Walked, Walked]]:
    try:
        found = walk([each | {"layers": number} for each in settings for number in (FEW, MORE)])
    except CannotLendError as error:
        hint = "`python -m medqa_finetune.plan gpu=CARD` needs none of it."
        raise ConfigError(Fault("not-supported", f"steps cannot be counted here: {error}", hint=hint)) from None
    return list(zip(found[::2], found[1::2], strict=True))


def _at(few: Walked, more: Walked, layers: int) -> Counted:
    first, second = _by_operator(few), _by_operator(more)
    operators = {}
    for name in sorted({*first, *second}):
        pairs = zip(first.get(name, (0, 0, 0)), second.get(name, (0, 0, 0)), strict=True)
        operators[name] = tuple(low + (high - low) / (MORE - FEW) * (layers - FEW) for low, high in pairs)
    return Counted(operators)  # type: ignore[arg-type]


def _by_operator(step: Walked) -> dict[str, tuple[int, int, int]]:
    launches, flops, moved = Counter[str](), Counter[str](), Counter[str]()
    for (name, dtypes, size, work), number in step.kernels.items():
        key = f"{name} {dtypes[-1]}" if work and dtypes else name
        launches[key] += number
        flops[key] += work * number
        moved[key] += size * number
    return {key: (launches[key], flops[key], moved[key]) for key in launches}


def roofline(asked: argparse.Namespace) -> int:
    """Print, for every card and method, the operators of a step and what limits it; return the exit code."""
    if asked.coefficients or asked.published:
        from scripts.benchmarks import coefficients, published

        if asked.published:
            print(published.table())
        else:
            print(f"{coefficients.coefficients()}\n\n{coefficients.comparison()}")
        return 0
    started, rows = heading("roofline"), []
    for name in asked.gpu:
        card = CARDS[name]
        steps = [(step, method) for method in asked.methods for step in ("training", "decoding")]
        counted = count([settings_of(step, method, card, asked) for step, method in steps], LAYERS)
        for (step, method), each in zip(steps, counted, strict=True):
            precision = asked.precision or card.precisions[0]
            tokens = asked.length * asked.examples if step == "training" else asked.rows
            row = {"gpu": name, "method": method, "step": step, "precision": precision, "tokens": tokens}
            said = predict(card, each.operations, precision)
            print(f"\n{card.title}, {method}, {step}, {precision}, {tokens} tokens\n")
            print(operator_table(each, said))
            rows.append(row | figures(each, said, card, precision) | {"model_flops": model_flops(step, method, asked)})
    print(f"\n{summary(rows)}")
    keep(asked.out, {**started, "rows": rows})
    return 0


def figures(counted: Counted, said: Prediction, card: Card, precision: str) -> dict[str, Any]:
    """Return the figures of a step on a card."""
    launches, flops, moved = (sum(parts) for parts in zip(*counted.operators.values(), strict=True))
    return {
        "seconds": said.seconds, "launches": round(launches), "flops": flops, "bytes": moved,
        "limit": said.limit, "datasheet_flops": card.datasheet_flops(precision),
    }  # fmt: skip


def model_flops(step: str, method: str, asked: argparse.Namespace) -> float:
    """Return the FLOPs of a step without recomputation, which utilization counts."""
    applied, size = model_method(MethodConfig(**METHODS[method])), model_size()
    if step == "training":
        return flops_of(applied.training_flops(size), passes_of(asked.examples, asked.length))
    forward = applied.forward_flops(size)
    return float(asked.rows * (forward.per_token + forward.per_answer_token))


def passes_of(examples: int, length: int, steps: float = 1, *, flash: bool = True) -> Passes:
    """Return the work of a pack; every token but the first of each example is predicted, as in the counted step."""
    return Passes(examples * length, examples * (length - 1), examples * length**2, 1, steps, flash)


@cache
def model_size(layers: int = LAYERS, vocabulary: int = VOCABULARY) -> ModelSize:
    """Return the size of Qwen2.5-3B, with another number of layers."""
    return size_of_config(config_of(layers, vocabulary))


def size_of_config(config: PreTrainedConfig) -> ModelSize:
    """Return the size of a model that is not here."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    return cast(ModelSize, size_of_shapes(shapes, config.to_dict(), 0))


def operator_table(counted: Counted, said: Prediction) -> str:
    """Format the operators that take longest."""
    order = sorted(counted.operators, key=lambda name: -said.by_kind[name])
    rows = [(name, *counted.operators[name], said.by_kind[name]) for name in order[:SHOWN]]
    rest = [(*counted.operators[name], said.by_kind[name]) for name in order[SHOWN:]]
    if rest:
        rows.append((OTHERS, *(sum(parts) for parts in zip(*rest, strict=True))))
    whole = sum(said.by_kind.values())
    lines = [
        [name, f"{launches:,.0f}", f"{flops / 1e12:.2f}", f"{moved / 1e9:.1f}", f"{took:.4f}", f"{took / whole:.0%}"]
        for name, launches, flops, moved, took in rows
    ]
    return markdown(HEADER, lines)


def summary(rows: Iterable[dict[str, Any]]) -> str:
    """Format one line per step."""
    header = ("gpu", "method", "step", "tokens", "s", "tokens/s", "MFU", "launches", "TFLOP", "GB", "limited by")
    lines = []
    for row in rows:
        share = row["model_flops"] / row["seconds"] / row["datasheet_flops"]
        lines.append([
            row["gpu"], row["method"], row["step"], f"{row['tokens']:,}", f"{row['seconds']:.3f}",
            f"{row['tokens'] / row['seconds']:,.0f}", f"{share:.0%}", f"{row['launches']:,}",
            f"{row['flops'] / 1e12:.1f}", f"{row['bytes'] / 1e9:.0f}", row["limit"],
        ])  # fmt: skip
    return markdown(header, lines)
