"""Predicts a training step and a decoding step on a card: operators counted with fake tensors, seconds by its data sheet.

Qwen2.5-3B in its true widths; two and four layers are walked, and the rest follows from the difference.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.model.cards import CARDS, Card
from medqa_finetune.model.roofline import Operations, Prediction, predict
from scripts.benchmarks.results import heading, keep, markdown
from scripts.fake_cuda.walk import CannotLendError, Walked, walk

LAYERS, FEW, MORE = 36, 2, 4
LENGTH, EXAMPLES, ROWS, PROMPT = 1024, 4, 24, 300
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
    """Operators of one step: (launches, FLOPs, bytes) by name; and peak and weights in bytes."""

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


def count(settings: Sequence[dict[str, Any]], layers: int = LAYERS) -> list[Counted]:
    """Walk through steps with few layers, and extrapolate each to `layers`.

    Raises:
        ConfigError: nothing can be walked on this machine.
    """
    try:
        found = walk([each | {"layers": number} for each in settings for number in (FEW, MORE)])
    except CannotLendError as error:
        hint = "`python -m medqa_finetune.plan gpu=CARD` needs none of it."
        raise ConfigError(Fault("not-supported", f"steps cannot be counted here: {error}", hint=hint)) from None
    return [_extrapolated(few, more, layers) for few, more in zip(found[::2], found[1::2], strict=True)]


def _extrapolated(few: Walked, more: Walked, layers: int) -> Counted:
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
    started, rows = heading("roofline"), []
    for name in asked.gpu:
        card = CARDS[name]
        steps = [(step, method) for method in asked.methods for step in ("training", "decoding")]
        counted = count([settings_of(step, method, card, asked) for step, method in steps])
        for (step, method), each in zip(steps, counted, strict=True):
            precision = asked.precision or card.precisions[0]
            tokens = asked.length * asked.examples if step == "training" else asked.rows
            row = {"gpu": name, "method": method, "step": step, "precision": precision, "tokens": tokens}
            said = predict(card, each.operations, precision)
            print(f"\n{card.title}, {method}, {step}, {precision}, {tokens} tokens\n")
            print(operator_table(each, said))
            rows.append(row | figures(each, said, card))
    print(f"\n{summary(rows)}")
    keep(asked.out, {**started, "rows": rows})
    return 0


def figures(counted: Counted, said: Prediction, card: Card) -> dict[str, Any]:
    """Return the figures of a step on a card."""
    launches, flops, moved = (sum(parts) for parts in zip(*counted.operators.values(), strict=True))
    return {
        "seconds": said.seconds, "launches": round(launches), "flops": flops, "bytes": moved,
        "utilization": flops / said.seconds / card.datasheet_flops("fp16"), "limit": said.limit,
    }  # fmt: skip


def operator_table(counted: Counted, said: Prediction) -> str:
    """Format the operators that take longest."""
    order = sorted(counted.operators, key=lambda name: -said.by_kind[name])
    rows = [(name, *counted.operators[name], said.by_kind[name]) for name in order[:SHOWN]]
    rest = [(*counted.operators[name], said.by_kind[name]) for name in order[SHOWN:]]
    if rest:
        rows.append((OTHERS, *(sum(parts) for parts in zip(*rest, strict=True))))
    kernels = sum(said.by_kind.values())
    return markdown(HEADER, (
        [name, f"{launches:,.0f}", f"{flops / 1e12:.2f}", f"{moved / 1e9:.1f}", f"{seconds:.4f}", f"{seconds / kernels:.0%}"]
        for name, launches, flops, moved, seconds in rows
    ))  # fmt: skip


def summary(rows: Iterable[dict[str, Any]]) -> str:
    """Format one line per step."""
    header = ("gpu", "method", "step", "tokens", "s", "tokens/s", "MFU", "launches", "TFLOP", "GB", "limited by")
    return markdown(header, (
        [row["gpu"], row["method"], row["step"], f"{row['tokens']:,}", f"{row['seconds']:.3f}",
         f"{row['tokens'] / row['seconds']:,.0f}", f"{row['utilization']:.0%}", f"{row['launches']:,}",
         f"{row['flops'] / 1e12:.1f}", f"{row['bytes'] / 1e9:.0f}", row["limit"]]
        for row in rows
    ))  # fmt: skip
