"""Short names of settings, and of cells by their settings: `LoRA n300 lr 1e-4`."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from medqa_finetune.config.folder_names import SEPARATOR
from medqa_finetune.config.identity import DEFAULT_EVALUATION, EVALUATE, identity_settings
from medqa_finetune.config.schema import Config
from medqa_finetune.config.size_names import size_name
from medqa_finetune.methods.registry import method_of

METHODS = {
    "none": "untuned base",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "qlora_8bit": "QLoRA 8-bit",
    "pissa": "PiSSA",
}
# Where the last part of the key would be too long, or say too little.
SETTINGS = {
    "train.learning_rate": "lr",
    "train.batch_size": "batch",
    "train.max_steps": "steps",
    "train.warmup_ratio": "warm-up",
    "train.max_gradient_norm": "clip",
    "method.target_modules": "targets",
    "method.double_quantization": "double",
    "method.loraplus_ratio": "LoRA+",
    "data.split_seed": "split",
    "data.near_duplicate_threshold": "near-duplicates",
}
# Python's words in a setting's value, as they are typed.
TYPED = {"None": "null", "True": "true", "False": "false"}
# As Python writes a float; a whole number, a name such as `1_000` and a commit such as `12e34567` are no fractions.
FRACTION = re.compile(r"-?\d+(?:\.\d+)?e-\d{1,3}|-?\d{1,15}\.\d+", re.ASCII)


def labels_of(configs: Sequence[Config]) -> list[str]:
    """Return a short name for every cell of a matrix, unique among them.

    It has the method, the size, and the settings in which cells differ that have them: what a baseline does not read
    tells no cells apart.

    Args:
        configs: Settings of the cells; those that are equal have the same name.
    """
    told = [_told(config) for config in configs]
    values: dict[str, set[str]] = {}
    for own in told:
        for key, value in own.items():
            values.setdefault(key, set()).add(value)
    shown = [
        " ".join(filter(None, [own[""], *(_said(key, own[key]) for key in own if key and len(values[key]) > 1)]))
        for own in told
    ]
    names = [each.run_name or label for each, label in zip(configs, shown, strict=True)]
    cells = Counter(label for _, label in set(zip(names, shown, strict=True)))
    return [label if cells[label] == 1 else name for label, name in zip(shown, names, strict=True)]


def _told(config: Config) -> dict[str, str]:
    """Return what may tell a cell from others, by key; under the empty key, its method and size."""
    method = method_of(config.method)
    size = config.train_size
    data = size_name(config.data.name, size) if method.uses_training_data else ""
    settings: Mapping[str, object] = identity_settings(dataclasses.asdict(config))
    told = {"": " ".join(filter(None, (method_label(config.method.name), data)))}
    if method.loads_model:
        told["model"] = config.model.title
    told["corpus"] = config.corpus.name
    # Other settings of the evaluation than the default ones.
    told["evaluation"] = "" if config.evaluation_name == DEFAULT_EVALUATION else config.evaluation_name
    for key, value in settings.items():
        if key.startswith(f"{EVALUATE}."):
            continue
        # Settings of a method's own make other cells where methods of one name differ.
        name = f"{config.method.name} {key}" if key.startswith("method.") else key
        told[name] = "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return told


def _said(key: str, value: str) -> str:
    if key in ("model", "corpus"):
        return value
    if key == "evaluation":
        parts = (part.partition("=") for part in value.split(SEPARATOR) if value)
        return " ".join(f"{setting_label(name)} {as_typed(text)}".strip() for name, _, text in parts)
    return f"{setting_label(key.rpartition(' ')[2])} {as_typed(value)}"


def with_size(entry: str, size: str) -> str:
    """Return the name of a method and its settings with a size, at the place that it has in a cell's name.

    Args:
        entry: As in a legend: `LoRA lr 1e-4`.
        size: Name of the size, e.g. `n300`.
    """
    known = [name for name in METHODS.values() if f"{entry} ".startswith(f"{name} ")]
    method = max(known, key=len, default=entry.partition(" ")[0])
    return f"{method} {size}{entry.removeprefix(method)}"


def method_label(method: str) -> str:
    """Return a method as people write it; a method of one's own as it is called."""
    return METHODS.get(method, method)


def setting_label(key: str) -> str:
    """Return the short name of a setting, e.g. `lr`."""
    return SETTINGS.get(key, key.rpartition(".")[2].replace("_", " "))


def as_typed(text: str) -> str:
    """Return a value as people type it: `1e-4` for 0.0001, `0.05` and whole numbers as they are, `null` for None."""
    if text in TYPED:
        return TYPED[text]
    if FRACTION.fullmatch(text) is None:
        return text
    number = float(text)
    shown = value_label(number)
    # Two values must not look alike, as three digits of them may.
    return shown if float(shown) == number else text


def value_label(number: float) -> str:
    """Return a number in a label, of three significant digits: `1e-4`, `0.05`, `8`."""
    if not math.isfinite(number):
        return str(number)
    if (number and abs(number) < 0.01) or abs(number) >= 1e6:
        digits, _, exponent = f"{number:.2e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{number:g}" if number == round(number) else f"{number:.3g}"
