"""torch.compile of a model's layers, undone afterwards: torch compiles modules in place and cannot undo it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def compiled_layers(model: Any, **options: Any) -> Iterator[int]:
    """Let the layers of a transformers model be compiled in the block, each by itself; yield how many there are.

    Relied on: the layers that transformers repeats are `GradientCheckpointingLayer`s, and `Module.compile` leaves
    what it made in `_compiled_call_impl`, None before.

    Args:
        model: With or without adapters.
        options: Of `torch.compile`.
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
