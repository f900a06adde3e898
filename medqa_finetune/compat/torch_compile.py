"""torch.compile of a model's layers, undone afterwards: torch compiles modules in place and cannot undo it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def compiled_layers(model: Any, **options: Any) -> Iterator[int]:
    """Compile each layer of a transformers model within the block; yields the number of layers.

    Relied on: the repeated layers of transformers are `GradientCheckpointingLayer`s, and `Module.compile` stores the
    compiled function in `_compiled_call_impl`, which is None before.

    Args:
        model: A model with or without adapters.
        options: Options of `torch.compile`.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers: list[Any] = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    for layer in layers:
        layer.compile(**options)
    try:
        yield len(layers)
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
