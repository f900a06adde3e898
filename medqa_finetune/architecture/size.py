"""Sizes of a model, layer by layer, from its files, before anything is loaded.

Counts of weights are exact for decoder models, those with mixtures of experts included.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medqa_finetune.architecture.experts import (
    UNTRAINED,
    Experts,
    experts_of,
    experts_per_token,
    is_of_one_expert,
    routers_of,
    unpacked,
)
from medqa_finetune.architecture.files import read_config, read_tensors, weight_files

# Learned position embeddings.
POSITIONS = ("wpe", "embed_positions", "position_embeddings")
WEIGHT = ".weight"
# What transformers calls the head of causal language models.
HEAD = "lm_head"


@dataclass(frozen=True)
class ModelSize:
    """Sizes of a model that memory, disk and FLOPs depend on.

    Attributes:
        parameters: Number of weights, shared ones counted once.
        matrices: (rows, columns) of every matrix, by the name of its module; a head that shares its weights with the
            token embedding is one of its own.
        embeddings: Names of matrices outside the linear layers of the body: token and position embeddings, head,
            routers of experts.
        layers: Number of transformer layers.
        attention_width: Width of all heads of a layer together, of queries and attention output, used where the
            matrices do not show it.
        vocabulary: Rows of the token embedding.
        hidden: Columns of the token embedding.
        other_bytes: Size of the files that are not weights, mainly the tokenizer's.
        experts: (experts, rows, columns) of the matrices of experts, by the names of their parameters.
        experts_per_token: Experts of a layer that each token passes.
    """

    parameters: int
    matrices: dict[str, tuple[int, int]]
    embeddings: frozenset[str]
    layers: int
    attention_width: int
    vocabulary: int
    hidden: int
    other_bytes: int
    experts: Experts = field(default_factory=dict)
    experts_per_token: int = 1

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """The linear layers of the body, which are quantized, and which `all_linear` adapts."""
        return {name: shape for name, shape in self.matrices.items() if name not in self.embeddings}

    @property
    def attention_widths(self) -> list[int]:
        """Width of all heads together, of queries and attention output, per layer."""
        return self._rows_by_layer("q_proj", [self.attention_width] * self.layers)

    @property
    def key_widths(self) -> list[int]:
        """Width of the keys (and of the values) of all heads together, per layer, as cached for every token."""
        return self._rows_by_layer("k_proj", self.attention_widths)

    def _rows_by_layer(self, ending: str, otherwise: list[int]) -> list[int]:
        found = {layer_number(name): rows for name, (rows, _) in self.matrices.items() if name.endswith(ending)}
        return [found.get(layer, otherwise[layer]) for layer in range(self.layers)]

    @property
    def layer_widths(self) -> list[int]:
        """Inputs plus outputs of all matrices that a token passes, per transformer layer; layer 0 has those outside."""
        widths = [0] * self.layers
        for name, shape in {**self.linear, **self.passed_experts}.items():
            widths[layer_number(name) or 0] += sum(shape)
        return widths

    @property
    def passed_experts(self) -> dict[str, tuple[int, int]]:
        """(rows, columns) over all experts that a token passes, by the names of their parameters."""
        return {
            name: (self.experts_per_token * rows, self.experts_per_token * columns)
            for name, (_, rows, columns) in self.experts.items()
        }

    @property
    def expert_weights(self) -> int:
        """Number of weights of all experts."""
        return sum(map(math.prod, self.experts.values()))

    @property
    def passed_expert_weights(self) -> int:
        """Number of weights of the experts that a token passes."""
        return sum(self.experts_per_token * rows * columns for _, rows, columns in self.experts.values())

    @property
    def active_parameters(self) -> int:
        """Number of weights without those of the experts that a token does not pass."""
        return self.parameters - self.expert_weights + self.passed_expert_weights

    @property
    def linear_weights(self) -> int:
        """Number of weights of the linear layers, without biases."""
        return sum(rows * columns for rows, columns in self.linear.values())


def layer_number(name: str) -> int | None:
    """Return the number of a module's transformer layer; None outside the layers."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def read_size(folder: Path) -> ModelSize | None:
    """Return a model's size from its files; None where no token embedding is found.

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
    """Return the size of a model with weights of these shapes; None where there is no token embedding.

    Args:
        shapes: Shape of every weight, by name.
        settings: The content of `config.json`.
        other_bytes: Size of the files that are not weights.
    """
    shapes = unpacked(shapes)
    vocabulary = settings.get("vocab_size", _below(settings, "text_config").get("vocab_size"))
    matrices = {
        name.removesuffix(WEIGHT): (shape[0], shape[1])
        for name, shape in shapes.items()
        if name.endswith(WEIGHT) and len(shape) == 2 and not is_of_one_expert(name)
    }
    experts = experts_of(shapes)
    by_token = [name for name, (rows, _) in matrices.items() if rows == vocabulary]
    if not by_token:
        return None
    # Some files include the head although it shares its weights with the embedding.
    is_copy = settings.get("tie_word_embeddings") is True and len(by_token) > 1
    copied = math.prod(matrices[by_token[-1]]) if is_copy else 0
    if len(by_token) == 1:  # the head shares the embedding's weights, and no file names it
        matrices[HEAD] = matrices[by_token[0]]
        by_token.append(HEAD)
    numbers = [number for name in matrices if (number := layer_number(name)) is not None]
    return ModelSize(
        parameters=sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(UNTRAINED)) - copied,
        matrices=matrices,
        embeddings=frozenset(
            [
                *by_token,
                *(name for name in matrices if name.split(".")[-1] in POSITIONS),
                *routers_of(matrices, experts),
            ]
        ),
        layers=max(numbers, default=0) + 1,
        attention_width=_attention_width(settings, matrices[by_token[0]][1]),
        vocabulary=int(vocabulary),
        hidden=matrices[by_token[0]][1],
        other_bytes=other_bytes,
        experts=experts,
        experts_per_token=experts_per_token(_below(settings, "text_config") or settings, experts),
    )


def _attention_width(settings: dict[str, object], hidden: int) -> int:
    """Return the number of heads times their width; by default the model's width."""
    inner = _below(settings, "text_config") or settings
    heads, width = inner.get("num_attention_heads"), inner.get("head_dim")
    return heads * width if isinstance(heads, int) and isinstance(width, int) else hidden


def _below(settings: dict[str, object], key: str) -> dict[str, object]:
    inner = settings.get(key)
    return inner if isinstance(inner, dict) else {}
