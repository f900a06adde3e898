"""Mixtures of experts, by the names and shapes of their weights.

transformers holds the matrices of all experts of a layer in one parameter of three dimensions, which is no linear
layer; files may have one matrix per expert, with gate and up apart, which it joins when it loads them.
"""

import re
from collections.abc import Mapping
from typing import Any

Shape = tuple[int, ...]
# (experts, rows, columns) of a parameter, by its name.
Experts = dict[str, tuple[int, int, int]]

OF_ONE_EXPERT = re.compile(r"(?P<layer>.*\.experts)\.\d+\.(?P<matrix>\w+)\.weight")
# Of one expert: the matrices that transformers joins, and the name of what they become.
JOINED = {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "w1": "gate_up_proj", "w3": "gate_up_proj",
          "w2": "down_proj"}  # fmt: skip
# What the matrix that chooses experts is called.
ROUTERS = ("gate", "router")
# Endings of the names of MXFP4's blocks and scales.
BLOCKS, SCALES = "_blocks", "_scales"
# Numbers in files that no gradient changes: they even out how often experts are chosen.
UNTRAINED = "e_score_correction_bias"
# Configuration keys of the number of experts that each token passes.
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "num_selected_experts")


def experts_of(shapes: Mapping[str, Shape]) -> Experts:
    """Return the matrices of experts as transformers holds them.

    Args:
        shapes: Shape of every weight, by its name in files or in the model.
    """
    experts: Experts = {
        name: (shape[0], shape[1], shape[2]) for name, shape in shapes.items() if _is_stacked(name, shape)
    }
    apart: dict[tuple[str, str], list[Shape]] = {}
    for name, shape in shapes.items():
        if (found := OF_ONE_EXPERT.fullmatch(name)) and len(shape) == 2:
            apart.setdefault((found["layer"], found["matrix"]), []).append(shape)
    for (layer, matrix), each in apart.items():
        name = f"{layer}.{JOINED.get(matrix, matrix)}"
        before = experts.get(name, (0, 0, 0))
        experts[name] = (len(each), before[1] + each[0][0], each[0][1])
    return experts


def unpacked(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return shapes of weights with those stored in four bits as the numbers that they stand for.

    gpt-oss stores matrices of experts in MXFP4: blocks of 32 numbers, two to a byte, and a scale for each block.
    """
    found = dict(shapes)
    for name, shape in shapes.items():
        stem = name.removesuffix(BLOCKS)
        if stem != name and f"{stem}{SCALES}" in found:
            del found[name], found[f"{stem}{SCALES}"]
            found[stem] = (*shape[:-2], 2 * shape[-2] * shape[-1])
    return found


def is_of_one_expert(name: str) -> bool:
    """Return whether a weight in a file is the matrix of a single expert."""
    return OF_ONE_EXPERT.fullmatch(name) is not None


def routers_of(matrices: Mapping[str, tuple[int, int]], experts: Experts) -> set[str]:
    """Return the modules that choose experts; transformers has most of them outside its linear layers."""
    counts = {count for count, _, _ in experts.values()}
    return {
        name for name, (rows, _) in matrices.items() if rows in counts and {*name.split(".")[-2:]}.intersection(ROUTERS)
    }


def experts_per_token(settings: Mapping[str, Any], experts: Experts) -> int:
    """Return how many experts of a layer each token passes; all where the configuration does not say it.

    Args:
        settings: The content of `config.json`, or its part for text.
        experts: As `experts_of` returns them.
    """
    most = max((count for count, _, _ in experts.values()), default=1)
    chosen = next((settings[key] for key in CHOSEN if settings.get(key) is not None), most)
    return min(most, max(chosen) if isinstance(chosen, list) else int(chosen))


def _is_stacked(name: str, shape: Shape) -> bool:
    # Convolutions have three dimensions too.
    return len(shape) == 3 and "conv" not in name
