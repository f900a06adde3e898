"""Counts the coefficients of `model/roofline.py` anew, and compares its predictions with what our code launches."""

from typing import Any

from medqa_finetune.config.schema import Config, TrainConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.model.cards import FLASH
from medqa_finetune.model.roofline import PRODUCTS, Passes, by_kinds, decoding_operations, training_operations
from scripts.benchmarks.results import markdown
from scripts.benchmarks.roofline import METHODS, PROMPT, Counted, count, count_one_layer, model_size
from scripts.fake_cuda.models import LAYERS, VOCABULARY

EXAMPLES, LENGTH, ROWS = 4, 1024, 24
# Tokens of sixteen consultations, which padded attention computes in six groups.
CONSULTATIONS = [500, 400, 350, 300, 250, 200, 180, 150, 140, 130, 120, 110, 100, 90, 80, 70]
WIDTH = 2
LORA = METHODS["lora"]
# What differs between two of these is one coefficient.
TRAININGS: dict[str, tuple[dict[str, Any], bool]] = {
    "all": (LORA, True), "all once": (LORA, False),
    "attention": (LORA | {"target_modules": "attention"}, True),
    "attention once": (LORA | {"target_modules": "attention"}, False),
    "sure": (LORA | {"dropout": 0.0}, True), "sure once": (LORA | {"dropout": 0.0}, False),
    "full": (METHODS["full"], True), "full once": (METHODS["full"], False),
}  # fmt: skip
HEADER = ("step", "launches, counted", "said", "TFLOP, counted", "said", "GB outside products, counted", "said")


def coefficients() -> str:
    """Return the coefficients as a table: traffic and launches, forward and backward."""
    layers = count_one_layer([training_settings(*each) for each in TRAININGS.values()])
    found = {name: _around(layer) for name, layer in zip(TRAININGS, layers, strict=True)}

    def minus(one: tuple[float, float], other: tuple[float, float], times: float = 1.0) -> tuple[float, float]:
        return one[0] - times * other[0], one[1] - times * other[1]

    directions = {}
    for name in ("all", "attention", "sure", "full"):
        forward = minus(found[name], found[f"{name} once"])
        directions[name] = (forward, minus(found[f"{name} once"], forward))
    adapted = {name: _adapted(name) for name in ("all", "attention")}
    rows = []
    for place, title in enumerate(("forward", "backward")):
        every, some, sure, full = (directions[name][place] for name in ("all", "attention", "sure", "full"))
        share = adapted["all"][0] - adapted["attention"][0]
        number = adapted["all"][1] - adapted["attention"][1]
        adapter = ((every[0] - some[0]) / share, (every[1] - some[1]) / number)
        dropout = ((every[0] - sure[0]) / adapted["all"][0], (every[1] - sure[1]) / adapted["all"][1])
        layer = (every[0] - adapter[0] * adapted["all"][0], every[1] - adapter[1] * adapted["all"][1])
        cast = 6 * model_size(1).linear_weights / (EXAMPLES * LENGTH * sum(model_size(1).layer_widths) * WIDTH)
        rows += [
            ["LAYER", title, *_shown(layer)],
            ["LAYER_IN_FP32", title, *_shown((full[0] - cast, full[1]))],
            ["ADAPTER", title, *_shown(minus(adapter, dropout))],
            ["DROPOUT", title, *_shown(dropout)],
        ]
    return markdown(("coefficient", "direction", "traffic", "launches"), sorted(rows, key=lambda row: row[0]))


def _adapted(name: str) -> tuple[float, int]:
    """Return the share of a layer's widths that has an adapter, and the number of adapters."""
    size = model_size(1)
    adapted = model_method(MethodConfig(**TRAININGS[name][0])).adapted(size)
    return sum(map(sum, adapted.values())) / sum(size.layer_widths), len(adapted)


def _shown(around: tuple[float, float]) -> list[str]:
    return [f"{around[0]:.1f}", f"{around[1]:.0f}"]


def _around(layer: Counted) -> tuple[float, float]:
    """Return traffic outside products, and launches, of one layer."""
    scale = EXAMPLES * LENGTH * sum(model_size(1).layer_widths) * WIDTH
    return bytes_outside_products(layer) / scale, launches(layer)


def training_settings(method: dict[str, Any], again: bool = True, vocabulary: int = 4096) -> dict[str, Any]:
    """Return what `walk` takes for a training step on an H200."""
    return {
        "step": "training", "method": method, "checkpointing": again, "lengths": [LENGTH] * EXAMPLES,
        "vocabulary": vocabulary,
    }  # fmt: skip


def settings_without_flash(method: dict[str, Any], again: bool = True) -> dict[str, Any]:
    """Return what `walk` takes for a training step on a T4: consultations of different lengths in a pack."""
    return training_settings(method, again) | {"capability": [7, 5], "precision": "fp16", "lengths": CONSULTATIONS}


def decoding_settings(method: dict[str, Any], vocabulary: int = 4096) -> dict[str, Any]:
    """Return what `walk` takes for a decoding step on an H200."""
    return {"step": "decoding", "method": method, "lengths": [PROMPT] * ROWS, "vocabulary": vocabulary}


def launches(counted: Counted) -> float:
    """Return all launches of a step."""
    return sum(number for number, _, _ in counted.operators.values())


def bytes_outside_products(counted: Counted) -> float:
    """Return the bytes that operators move which multiply nothing."""
    return sum(moved for _, flops, moved in counted.operators.values() if not flops)


def flops(counted: Counted) -> float:
    """Return all FLOPs of a step."""
    return sum(work for _, work, _ in counted.operators.values())


def said(settings: dict[str, Any], layers: int = LAYERS) -> tuple[float, float, float]:
    """Return what `model/roofline.py` says of a step without optimizer: launches, FLOPs, bytes outside products."""
    size = model_size(layers, settings["vocabulary"])
    train = TrainConfig(gradient_checkpointing=settings.get("checkpointing", True))
    config = Config(method=MethodConfig(**settings["method"]), train=train)
    if settings["step"] == "training":
        # A step's share of 0 leaves out the optimizer, which the counted step has not.
        flash = tuple(settings.get("capability", FLASH)) >= FLASH
        lengths = settings["lengths"]
        work = Passes(
            sum(lengths), sum(lengths) - len(lengths), sum(length * length for length in lengths), 1, 1e-9, flash
        )  # fmt: skip
        found = training_operations(size, config, "bf16", work)
    else:
        found = decoding_operations(size, config, "bf16", steps=1, tokens=ROWS, attended=ROWS * (PROMPT + 1))
    kinds = by_kinds(found)
    moved = sum(each.bytes for each in kinds if each.kind not in (PRODUCTS, "optimizer", "cache"))
    return sum(each.launches for each in kinds), sum(each.flops for each in kinds), moved


def comparison() -> str:
    """Return a table of counted and predicted steps of the whole model."""
    cases = {
        "LoRA, training": training_settings(LORA, vocabulary=VOCABULARY),
        "LoRA, training without checkpointing": training_settings(LORA, False, VOCABULARY),
        "full, training": training_settings(METHODS["full"], vocabulary=VOCABULARY),
        "LoRA, decoding": decoding_settings(LORA, VOCABULARY),
    }
    rows = []
    for (name, settings), counted in zip(cases.items(), count(list(cases.values()), LAYERS), strict=True):
        number, work, moved = said(settings)
        rows.append([
            name, f"{launches(counted):,.0f}", f"{number:,.0f}", f"{flops(counted) / 1e12:.1f}", f"{work / 1e12:.1f}",
            f"{bytes_outside_products(counted) / 1e9:.1f}", f"{moved / 1e9:.1f}",
        ])  # fmt: skip
    return markdown(HEADER, rows)
